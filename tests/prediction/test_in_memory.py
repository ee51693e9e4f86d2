"""Images in memory: answered as the file of the same pixels is."""

import json

import numpy as np
import pytest
from PIL import Image as Pillow

from chiasm.errors import InputError
from chiasm.geometry import Geometry
from chiasm.prediction.folder import predict_inputs
from chiasm.prediction.predictor import load_predictor
from chiasm.study import Image, Record, Report, Study

REPORT = "FINDINGS: Large right pleural effusion.\nIMPRESSION: Effusion."
RECORD = {"age_years": 63, "sex": "f"}


@pytest.fixture(scope="module")
def predictor(tiny_run):
    return load_predictor(tiny_run)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (80, 70)).astype(np.uint8)


def numbers(prediction) -> list[float]:
    return [f.probability for f in prediction.findings] + [o.probability for o in prediction.outcomes]


def test_an_array_and_a_picture_are_answered_as_their_file_is(tiny_run, predictor, pixels, tmp_path):
    Pillow.fromarray(pixels).save(tmp_path / "study.png")
    (tmp_path / "report.txt").write_text(REPORT)
    (tmp_path / "record.json").write_text(json.dumps(RECORD))
    (written,) = predict_inputs(
        tiny_run,
        tmp_path / "study.png",
        tmp_path / "out",
        report=tmp_path / "report.txt",
        record=tmp_path / "record.json",
    )
    asked = {"report": REPORT, "record": RECORD}
    for given in (pixels, Pillow.fromarray(pixels), np.repeat(pixels[..., None], 3, axis=2)):
        answer = predictor(given, **asked)
        assert (answer.study_id, answer.used) == ("study", ("image", "text", "record"))
        np.testing.assert_allclose(numbers(answer), numbers(written), atol=1e-6)


def test_report_and_record_are_given_in_any_form_and_take_the_place_of_a_studys_own(predictor, pixels):
    sections = {"findings": "Large right pleural effusion.", "impression": "Effusion."}
    first = predictor(pixels, report=REPORT, record=RECORD)
    study = Study("s", "p", (Image("i", pixels, Geometry.identity((80, 70))),), Report({"findings": "Clear lungs."}))
    for report in (REPORT, sections, Report(sections)):
        for record in (RECORD, Record(RECORD), {"age_years": np.float64(63), "sex": "F"}):
            np.testing.assert_allclose(
                numbers(predictor(study, report=report, record=record)), numbers(first), atol=1e-6
            )
    assert numbers(predictor(study)) != numbers(first)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, np.float64])
def test_an_image_is_read_by_its_order_of_grays_whatever_its_type(predictor, pixels, dtype):
    answer = predictor((pixels * 4).astype(dtype))
    assert np.isfinite(numbers(answer)).all()


@pytest.mark.parametrize(
    ("given", "keys", "message"),
    [
        ("image.png", {}, "no study"),
        ([[1, 2], [3, 4]], {}, "no study"),
        (np.zeros(5), {}, "no image"),
        (np.zeros((0, 5)), {}, "no image"),
        (np.zeros((2, 2, 2, 2)), {}, "no image"),
        (np.array([["a", "b"]]), {}, "no image"),
        (np.zeros((8, 8), np.uint8), {"record": {"age_years": "old"}}, "does not fit the model"),
        (np.zeros((8, 8), np.uint8), {"record": [63]}, "record does not fit"),
    ],
)
def test_what_is_no_study_is_an_error_of_ours(predictor, given, keys, message):
    with pytest.raises(InputError, match=message):
        predictor(given, **keys)


def test_what_the_models_do_not_read_is_told(predictor, pixels):
    volume = predictor(np.zeros((9, 8, 8), np.float32), report=REPORT)
    assert volume.used == ("text",)
    assert any("a volume, the model reads a single image" in sentence for sentence in volume.ignored)
    misspelt = predictor(pixels, record={"age_yeers": 63, "sex": "f"})
    assert any("unknown column age_yeers, did you mean age_years?" in sentence for sentence in misspelt.ignored)


def test_many_are_answered_in_order_with_progress(predictor, pixels, monkeypatch, phantom):
    from chiasm.prediction import predictor as module

    monkeypatch.setattr(module, "AT_ONCE", 3)
    steps = []
    monkeypatch.setattr(module.Progress, "advance", lambda self, n=1, note="": steps.append((self.task, n)))
    given = [phantom.study(0), pixels, phantom.study(1), Pillow.fromarray(pixels), phantom.study(2)]
    answers = predictor.batch((each for each in given), progress=True)
    assert [steps for steps in steps if steps[0] == "predicting"] == [("predicting", 3), ("predicting", 2)]
    alone = [predictor(each) for each in given]
    np.testing.assert_allclose([numbers(a) for a in answers], [numbers(a) for a in alone], atol=1e-5)
