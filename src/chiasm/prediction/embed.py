"""Studies as vectors: of each modality by itself, and of what fusion makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from chiasm.cohort.store import CohortLike, open_cohorts
from chiasm.errors import RunError
from chiasm.progress import Progress
from chiasm.run.fold_model import load_fold_models
from chiasm.run.folder import RunLike, folder_of
from chiasm.tensors import Batch, Tokens

AT_ONCE = 64
"""Studies that are embedded together."""
FUSION = "fusion"


@dataclass(frozen=True)
class Embeddings:
    """Studies as vectors, a row a study in the order of the cohort.

    Attributes:
        study_ids, patient_ids: [n].
        vectors: "image", "text", "record" -> [n, D], the mean of the modality's tokens before it meets the others; "fusion" ->
            [n, D], the study as heads see it. Zeros where a study lacks the modality.
        present: the same names -> [n] whether a study has it.
        fold_model: which made them: vectors of two fold models have nothing in common.
    """

    study_ids: NDArray[np.str_]
    patient_ids: NDArray[np.str_]
    vectors: Mapping[str, NDArray[np.float32]]
    present: Mapping[str, NDArray[np.bool_]]
    fold_model: str

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        return self.vectors[name]

    def __len__(self) -> int:
        return len(self.study_ids)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {x.shape[1]}" for name, x in self.vectors.items())
        return f"<Embeddings of {len(self)} studies by fold model {self.fold_model}: {shapes}>"

    def frame(self, name: str = FUSION) -> pd.DataFrame:
        """study_id, patient_id and a column for each number, of the studies that have the modality."""
        own = self.present[name]
        ids = pd.DataFrame({"study_id": self.study_ids[own], "patient_id": self.patient_ids[own]})
        return pd.concat([ids, pd.DataFrame(self.vectors[name][own])], axis=1)


def embed(run: RunLike, cohort: CohortLike, *, fold: int = 0) -> Embeddings:
    """The studies of a cohort as vectors, by one fold model of a run.

    Args:
        fold: number of the fold model among those of the run; a run without folds has one.

    Raises:
        RunError: no finished run, or no such fold model. CohortError: the cohort does not fit the model.
    """
    fold_models = load_fold_models(folder_of(run))
    if not 0 <= fold < len(fold_models):
        raise RunError("there is no such fold model", expected=f"0 to {len(fold_models) - 1}", got=str(fold))
    own = fold_models[fold].over(open_cohorts(cohort))
    model, loader = own.model, own.loader
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    vectors: dict[str, list[NDArray[np.float32]]] = {name: [] for name in (*model.modalities, FUSION)}
    present: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in vectors}
    with torch.no_grad(), Progress("embedding", len(loader)) as bar:
        for start in range(0, len(loader), AT_ONCE):
            batch = loader.batch(np.arange(start, min(start + AT_ONCE, len(loader)))).to(device)
            tokens = model.encode(batch)
            fused = model.answer(tokens, Batch(batch.indices)).fused.vector
            found = {m: _mean(each) for m, each in tokens.items()} | {FUSION: fused}
            here = {m: each.mask.any(dim=1) for m, each in tokens.items()} | {
                FUSION: torch.ones(len(batch), dtype=torch.bool)
            }
            for name, rows in found.items():
                vectors[name].append(rows.float().cpu().numpy())
                present[name].append(here[name].cpu().numpy())
            bar.advance(len(batch))
    return Embeddings(
        loader.study_ids,
        loader.patient_ids,
        {name: np.concatenate(parts) for name, parts in vectors.items()},
        {name: np.concatenate(parts) for name, parts in present.items()},
        own.folder.name,
    )


def _mean(tokens: Tokens) -> torch.Tensor:
    """[B, D]: of real tokens; zeros where there is none."""
    real = tokens.mask[..., None]
    return tokens.values.masked_fill(~real, 0).sum(dim=1) / real.sum(dim=1).clamp(min=1)
