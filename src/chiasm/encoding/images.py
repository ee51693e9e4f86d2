"""Stored images as a model sees them: 16 bits as gray values 0 .. 255, windows of modality values as channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from chiasm.cohort.store import Cohort
from chiasm.errors import CohortError
from chiasm.formats.intensity import Intensity, Scale, shown_values


class Shown:
    """The images or volumes of one cohort [n, C, *S], made when they are asked for: `shown[3]`, `shown[2:7]`.

    Attributes:
        shape: (n, C, *S). dtype: uint8 as stored, or float32 in 0 .. 255 of what is stored in 16 bits.
    """

    def __init__(self, cohort: Cohort, ndim: int, intensity: Intensity, channels: int | None = None) -> None:
        """
        Args:
            intensity: whose windows are shown, the model's.
            channels: C, where one channel stands for all; as many as the cohort has if None.

        Raises:
            CohortError: the cohort's images have another number of channels.
        """
        self.stored = cohort.array(ndim)
        count, own, *size = self.stored.shape
        self.dtype = np.dtype(np.uint8 if self.stored.dtype == np.uint8 else np.float32)
        self._tables: list[NDArray[np.float32]] = []
        if self.stored.dtype != np.uint8:
            images = cohort.table("images", ["array", "index", "scale", "dicom_modality"])
            images = images.filter(pc.equal(images["array"], f"pixels_{ndim}d"))
            kinds = list(zip(images["scale"].to_pylist(), images["dicom_modality"].to_pylist(), strict=True))
            known = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
            self._tables = [shown_values(Scale(scale), intensity.of(modality).windows) for scale, modality in known]
            self._table = np.zeros(count, np.int16)
            self._table[images["index"].to_numpy()] = [known[kind] for kind in kinds]
        windows = max(map(len, self._tables), default=1)
        self.shape = (count, max(own, windows) if channels is None else channels, *size)
        if count and ({own, windows} - {1, self.shape[1]} or own > 1 < windows):
            raise CohortError(
                "the cohort's images have another number of channels than the model's",
                expected=str(channels),
                got=f"{own} stored, {windows} windows",
                where=str(cohort.path),
                remedy="import it again with as many windows: --window CENTER,WIDTH;CENTER,WIDTH",
            )

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, rows: int | slice | Sequence[int] | NDArray[np.int64]) -> NDArray[Any]:
        """[C, *S] of one row, [k, C, *S] of several."""
        if isinstance(rows, int | np.integer):
            return self._show(int(rows))
        which = range(*rows.indices(len(self))) if isinstance(rows, slice) else rows
        if not self._tables and self.stored.shape[1] == self.shape[1]:
            return np.asarray(self.stored[rows if isinstance(rows, slice) else np.asarray(rows, np.int64)])
        shown = np.empty((len(which), *self.shape[1:]), self.dtype)
        for place, row in enumerate(which):
            shown[place] = self._show(int(row))
        return shown

    def _show(self, row: int) -> NDArray[Any]:
        pixels: NDArray[Any] = self.stored[row]
        if self._tables:
            table = self._tables[self._table[row]]
            pixels = table[0][pixels] if len(table) == 1 else table[:, pixels[0]]
        return np.broadcast_to(pixels, self.shape[1:]) if pixels.shape != self.shape[1:] else pixels


def join_preprocessing(cohorts: Sequence[Cohort]) -> dict[str, Any]:
    """What the imports of a run's cohorts did to pixels, as one `Preprocessing.to_dict` with the modalities of all.

    Raises:
        CohortError: two of them treat images of one modality differently: a model would take the difference for disease.
    """
    having = [cohort for cohort in cohorts if cohort.arrays] or list(cohorts)[:1]
    first = having[0]
    modalities: dict[str, set[str]] = {}
    rules: dict[str, str] = {}
    for cohort in having:
        for array, names in cohort.meta["preprocessing"]["modalities"].items():
            modalities.setdefault(array, set()).update(names)
            for name in names:
                rule = str(cohort.preprocessing.intensity.of(name))
                if rules.setdefault(name, rule) != rule:
                    raise _differs(
                        cohort, f"{name or 'unknown'} images", rules[name], rule, f"--intensity {name}={rules[name]}"
                    )
        if cohort.preprocessing.crop != first.preprocessing.crop:
            known, own = (c.preprocessing.crop or "nothing cropped" for c in (first, cohort))
            raise _differs(cohort, "pictures", known, own, "with the crop of the others")
        if cohort.preprocessing.channels != first.preprocessing.channels:
            known, own = (", ".join(c.preprocessing.channels) or "gray" for c in (first, cohort))
            raise _differs(cohort, "colour", known, own, "with the channels of the others")
    sizes = {ndim: next((c.shape(ndim) for c in having if len(c.array(ndim))), first.shape(ndim)) for ndim in (2, 3)}
    return {
        **first.preprocessing.to_dict(),
        "size": sizes[2][0],
        "volume_size": list(sizes[3]),
        "intensity": first.preprocessing.intensity.to_dict() | {name: rule for name, rule in rules.items() if name},
        "modalities": {array: sorted(names) for array, names in sorted(modalities.items())},
    }


def check_rules(cohort: Cohort, intensity: Intensity) -> None:
    """Are the stored values of a cohort those that a model knows? Windows may differ: the model's own are shown.

    Raises:
        CohortError: the rule of a modality is of another kind.
    """
    for name in sorted({name for names in cohort.meta["preprocessing"]["modalities"].values() for name in names}):
        own, known = cohort.preprocessing.intensity.of(name), intensity.of(name)
        if own.kind != known.kind:
            raise _differs(cohort, f"{name or 'unknown'} images", str(known), str(own), f"--intensity {name}={known}")


def channel_names(cohorts: Sequence[Cohort], ndim: int, intensity: Intensity) -> tuple[str, ...]:
    """What the channels of a model's images are: windows, where images carry values for them, else what is stored."""
    array = f"pixels_{ndim}d"
    stored = max((c.meta["channels"][array] for c in cohorts if array in c.arrays), key=len, default=["gray"])
    windows: tuple[str, ...] = ()
    for cohort in cohorts:
        images = cohort.table("images", ["array", "scale", "dicom_modality"])
        mine = pc.and_(pc.equal(images["array"], array), pc.equal(images["scale"], Scale.MODALITY.value))
        for name in images.filter(mine)["dicom_modality"].unique().to_pylist():
            windows = max(windows, tuple(str(intensity.of(name)).split(";")), key=len)
    return windows or tuple(stored)


def _differs(cohort: Cohort, what: str, expected: str, got: str, remedy: str) -> CohortError:
    return CohortError(
        f"the cohorts of one run prepare {what} differently",
        expected=expected,
        got=got,
        where=str(cohort.path),
        remedy=f"import one of them again: chiasm import {cohort.source} PATH --out COHORT {remedy}",
    )
