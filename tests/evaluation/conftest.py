"""A cohort of 16 studies whose every figure can be computed by hand, and evidence about its 8 test studies.

Study i shows pneumonia where i is odd (the image is then bright), patient 14 has two studies, and the original frame is
64 x 64 pixels, stored at 32 x 32.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fits import calibration_of
from scipy.special import logit

from chiasm.cohort.store import Cohort, write_cohort
from chiasm.encoding.plan import Plan
from chiasm.evaluation.evaluate import Evaluation, write_evaluation
from chiasm.evaluation.spec import Arm, Evidence, read_truth
from chiasm.geometry import Geometry
from chiasm.heads.maps import Maps
from chiasm.heads.spec import Pool, Question, Truth
from chiasm.metrics.bootstrap import Resamples
from chiasm.recipe import parse_recipe, read_recipe, write_recipe
from chiasm.run.answers import write_calibration
from chiasm.run.cohorts import RecordedCohort
from chiasm.run.folder import Run, write_run
from chiasm.study import Finding, Image, Kind, Outcome, Record, Region, Report, State, Study, View

TEST = [2, 3, 6, 7, 10, 11, 14, 15]
TRAIN = [0, 1, 4, 5, 8, 9, 12, 13]
BOX = (16.0, 16.0, 48.0, 48.0)
SECRET = "Mr Featherstonehaugh"


def a_study(i: int) -> Study:
    odd = bool(i % 2)
    pixels = np.random.default_rng(i).integers(0, 40, (64, 64)) + (150 if odd else 20)
    edema = State.UNCERTAIN if i < 4 else State.PRESENT if i in (5, 10) else State.ABSENT
    said = f"Pneumonia of the left lower zone, case {i}." if odd else f"No pneumonia. Clear lungs, case {i}."
    return Study(
        f"s{i:02}",
        f"p{min(i, 14):02}",
        images=(
            Image(f"i{i:02}", pixels.astype(np.uint8), Geometry.identity((64, 64)), View.PA if i < 12 else View.AP),
        ),
        report=Report({"history": f"{SECRET} coughs." if i == 3 else "Cough.", "findings": said}),
        record=Record({"age_years": 15.0 + 5 * i, "sex": "fm"[i % 4 > 1 and odd]}),
        findings=(
            Finding("pneumonia", State.PRESENT if odd else State.ABSENT, reader="a"),
            Finding("edema", edema, reader="a"),
        ),
        regions=(Region("pneumonia", f"i{i:02}", BOX, reader="b"),) if odd else (),
        outcomes=(
            Outcome("event", float(i in (1, 4, 6, 7, 9, 14))),
            Outcome("score", i / 2, Kind.REGRESSION, "severity"),
        ),
        split="test" if i in TEST else "train",
        bayes={"image": 0.9 if i in (6, 7, 14) else 0.2},
    )


@pytest.fixture(scope="module", autouse=True)
def _few_are_enough() -> Iterator[None]:
    """The hand-made evidence is of eight studies: figures of fewer than five of a class are shown here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chiasm.metrics.bootstrap.FEWEST", 1)
        yield


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    out = tmp_path_factory.mktemp("evaluate") / "cohort"
    return write_cohort([a_study(i) for i in range(16)], out, source="hand", options={}, size=32)


@pytest.fixture(scope="session")
def question() -> Question:
    return Question(
        targets={"findings": ["pneumonia", "edema"], "outcome": ["event"], "severity": ["score"]},
        kinds={"findings": Kind.BINARY, "outcome": Kind.BINARY, "severity": Kind.REGRESSION},
        uncertain={"findings": "ignore"},
        findings=["findings"],
        modalities=["image", "text", "record"],
        text_sections=["history", "findings"],
        description_sections=["findings"],
        localized=[("findings", "pneumonia"), ("findings", "edema")],
        heads={name: {"options": {}, "state": None} for name in ("localization", "description")},
    )


@pytest.fixture(scope="session")
def pool(cohort: Cohort) -> Pool:
    return Pool.find([cohort], [f"0/s{i:02}" for i in TEST], np.zeros((len(TEST), 1), np.int64))


def an_arm(pneumonia: list[float], shift: float = 0.0) -> Arm:
    """Edema, event and score are told alike by every arm; logits are at temperature 2."""
    p = np.array(pneumonia)
    values = {
        "findings": np.stack([p, np.linspace(0.2, 0.8, len(p))], axis=1),
        "outcome": np.array([0.1, 0.2, 0.9, 0.8, 0.4, 0.3, 0.7, 0.6])[: len(p), None],
        "severity": np.array([i / 2 + shift for i in TEST])[: len(p), None],
    }
    raw = {target: 2 * logit(v)[:, None] if target != "severity" else v[:, None] for target, v in values.items()}
    thresholds = {"findings": [0.55, np.nan], "outcome": [0.35], "severity": [np.nan]}
    shown = np.full((len(p), 1), "image")
    logits = {target: v.astype(np.float32) for target, v in raw.items()}
    return Arm(
        values, logits, {target: np.tile(threshold, (len(p), 1)) for target, threshold in thresholds.items()}, shown
    )


FULL = [0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.6, 0.5]  # pairs: 15 of 16 are in order


@pytest.fixture(scope="session")
def evidence(cohort: Cohort, question: Question, pool: Pool) -> Evidence:
    """The full model is good, the image alone is one pair worse, shuffled reports turn it round; maps are exact."""
    control = an_arm([0.3, 0.7] * 4)
    maps = np.zeros((8, 2, 8, 8), np.float16)
    maps[:, 0, 2:6, 2:6] = 1.0  # cells 2..5 of 8 are original pixels 16..47
    maps[3, 0] = np.roll(maps[3, 0], 4, axis=1)  # study 7: half of it lies beside
    rows = [int(i) for i in pool.row]
    texts = cohort.texts(["findings"])
    exact = Maps(
        maps, np.arange(8), np.array(rows), [cohort.geometry(i) for i in rows], np.full((1, 2), 0.5), np.ones((8, 2))
    )
    told = {
        "": [texts[i] for i in rows],
        "constant": ["No pneumonia. Clear lungs, case 0."] * 8,
        "nearest": [texts[i - 2] for i in rows],
        "shuffled_image": [texts[rows[(n + 1) % 8]] for n in range(8)],
    }
    return Evidence(
        question,
        pool,
        {
            "": an_arm(FULL, 0.5),
            "image": an_arm([0.1, 0.9, 0.2, 0.8, 0.55, 0.52, 0.6, 0.5]),
            "image+record": an_arm([0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.5]),
            "shuffled_text": an_arm(FULL[::-1]),
            "thumbnail": Arm(control.values),
            "prior": Arm({t: np.full_like(v, 0.5) for t, v in control.values.items()}),
        },
        {"localization": {"": exact}, "description": told},
        "by hand",
    )


@pytest.fixture(scope="session")
def truth(evidence: Evidence) -> Truth:
    return read_truth(evidence.question, evidence.pool, age_bands=(18, 40, 65))


@pytest.fixture(scope="session")
def resamples(pool: Pool) -> Resamples:
    return Resamples.draw(pool.patients, resamples=200)


@pytest.fixture
def run(tmp_path: Path, cohort: Cohort, question: Question) -> Path:
    """A finished run without a real model: what evaluation reads beside the predictions."""
    folder = tmp_path / "run"
    folder.mkdir()
    plan = Plan(
        image_shape=(32, 32),
        numeric={},
        categories={},
        text_sections=("history", "findings"),
        max_tokens=16,
        description_sections=("findings",),
        description_max_tokens=16,
        targets={target: tuple(labels) for target, labels in question.targets.items()},
        kinds=dict(question.kinds),
        uncertain={"findings": "ignore"},
        scaling={"severity": ((0.0, 1.0),)},
        localized=(("findings", "pneumonia"), ("findings", "edema")),
        grid=(8, 8),
        findings=("findings",),
    )
    (folder / "plan.json").write_text(plan.to_json())
    raw = {"name": "hand-made", "about": "For <tests>.", "targets": {t: {} for t in question.targets}}
    raw["evaluate"] = {"resamples": 200}
    write_recipe(parse_recipe(raw, "here"), folder / "recipe.yaml")
    fitted = {"findings": {"pneumonia": {"temperature": 2.0, "threshold": 0.55}, "edema": {"temperature": 2.0}}}
    fitted["outcome"] = {"event": {"temperature": 2.0, "threshold": 0.35}}
    write_calibration(folder / "calibration.json", calibration_of(fitted))
    (folder / "weights.safetensors").write_bytes(b"weights")
    recorded = RecordedCohort(str(cohort.path), cohort.hash, cohort.source)
    notes, versions = ("Target grade is switched off.",), {"chiasm": "0.1.0"}
    write_run(folder, Run("hand-made", (recorded,), 0, 1, 1, "", (".",), notes, versions, raw, "finished"))
    return folder


@pytest.fixture
def evaluated(run: Path, evidence: Evidence) -> Evaluation:
    """The run with its evaluation written."""
    return write_evaluation(run, evidence, read_recipe(run / "recipe.yaml"), run / "evaluation", ["Nothing else."])
