import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from chiasm.evaluate.evidence import Evidence, Truth
from chiasm.evaluate.present import draw_curves, draw_pictures, draw_words
from chiasm.evaluate.score import locate
from chiasm.metrics.bootstrap import Resamples


def test_curves_of_every_binary_label(evidence: Evidence, truth: Truth, resamples: Resamples) -> None:
    curves = draw_curves(evidence, truth, resamples, "")
    assert [c.name for c in curves] == ["findings/pneumonia", "findings/edema", "outcome/event"]
    pneumonia = curves[0]
    assert pneumonia.prevalence == 0.5
    area = np.trapezoid(pneumonia.roc.y, pneumonia.roc.x)
    assert area == pytest.approx(15 / 16, abs=0.01)
    assert pneumonia.spread.sum() == 8
    assert pneumonia.before is not None
    assert draw_curves(evidence, truth, resamples, "thumbnail")[0].before is None


def test_pictures_are_chosen_by_rank(evidence: Evidence) -> None:
    located = locate(evidence)
    pictures = draw_pictures(evidence, located)
    assert [(p.which, p.group) for p in pictures] == [(w, "pneumonia") for w in ("best", "median", "worst")]
    ious = [float(p.caption.split("IoU ")[1].split(" ")[0]) for p in pictures]
    assert ious[0] == max(ious)
    assert ious[2] == min(ious) == pytest.approx(min(pair.scores["box_iou"] for pair in located), abs=0.01)
    assert "study s07" in pictures[2].caption
    with Image.open(io.BytesIO(pictures[0].jpeg)) as picture:
        assert picture.size == (64, 64), "the original frame, not the stored one"
    one = draw_pictures(evidence, located[:1])
    assert [p.which for p in one] == ["best"]


def test_words_stand_beside_reference_and_neighbour(evidence: Evidence, truth: Truth) -> None:
    said = ["Clear lungs" for _ in truth.references]
    said[6], said[3] = truth.references[6], "Nothing at all"
    words = draw_words(replace(evidence, descriptions={**evidence.descriptions, "": said}), truth)
    assert [w.which for w in words] == ["best", "median", "worst"]
    assert list(words[0].texts) == ["the model", "reference", "nearest neighbour's report"]
    assert words[0].texts["the model"] == words[0].texts["reference"] == truth.references[6]
    assert words[0].texts["nearest neighbour's report"] == evidence.descriptions["nearest"][6]
    assert "study s14" in words[0].caption
    assert words[2].caption.startswith("CIDEr 0.00")
    assert words[0].jpeg is not None
