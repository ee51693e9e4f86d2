"""Studies as vectors, under their ids."""

import numpy as np
import pytest
import torch
from asking import fold_models_over

import chiasm
from chiasm.errors import CohortError, RunError
from chiasm.prediction import embed as room
from chiasm.tensors import Batch


def test_each_modality_and_the_fusion_have_a_vector_of_each_study(tiny_run, phantom, monkeypatch):
    monkeypatch.setattr(room, "AT_ONCE", 7)
    found = chiasm.embed(tiny_run, phantom.path)
    assert found.study_ids.tolist() == phantom.studies["study_id"].tolist()
    assert found.patient_ids.tolist() == phantom.studies["patient_id"].tolist()
    assert set(found.vectors) == {"image", "text", "record", "fusion"}
    assert all(x.shape == (60, 32) and np.isfinite(x).all() for x in found.vectors.values())
    with_image = np.unique(phantom.image_study)
    assert found.present["image"].sum() == len(with_image)
    assert not found["image"][~found.present["image"]].any(), "what is not there is zeros"
    frame = found.frame("image")
    assert len(frame.merge(phantom.studies, on=["study_id", "patient_id"])) == len(with_image)


def test_vectors_are_those_that_the_model_makes(tiny_run, phantom):
    (own,) = fold_models_over(tiny_run)
    batch = own.loader.batch([3])
    with torch.no_grad():
        tokens = own.model.encode(batch)
        fused = own.model.answer(tokens, Batch(batch.indices)).fused.vector
    found = chiasm.embed(tiny_run, phantom)
    np.testing.assert_allclose(found["fusion"][3], fused[0].numpy(), atol=1e-5)
    words = tokens["text"].values[0][tokens["text"].mask[0]]
    np.testing.assert_allclose(found["text"][3], words.mean(dim=0).numpy() if len(words) else 0, atol=1e-5)


def test_a_cohort_in_memory_is_embedded_and_what_is_no_run_or_cohort_is_told(tiny_run, phantom):
    memory = chiasm.cohort_from_studies([phantom.study(i) for i in range(3)], size=64)
    assert len(chiasm.embed(tiny_run, memory)) == 3
    with pytest.raises(RunError, match="no such fold model"):
        chiasm.embed(tiny_run, memory, fold=1)
    with pytest.raises(RunError, match="not a run"):
        chiasm.embed(3, memory)
    with pytest.raises(CohortError, match="no cohort"):
        chiasm.embed(tiny_run, 3)


def test_a_trained_model_is_a_torch_module_that_answers_a_batch(tiny_run):
    (own,) = fold_models_over(tiny_run)
    outputs = own.model(own.loader.batch([0, 1]))
    assert isinstance(own.model, torch.nn.Module)
    assert outputs.logits["findings"].shape == (2, len(own.plan.targets["findings"]))
    assert outputs.fused.vector.shape == (2, 32)
