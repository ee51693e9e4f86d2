"""Batches of the rows of cohorts: all but pixels is encoded once, compactly; pixels are read from the mapped files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiasm.cohort.store import Cohort
from chiasm.encoding.fit import columns_of, fit_plan, read_column, size_error
from chiasm.encoding.images import Shown, check_rules
from chiasm.encoding.levels import encode
from chiasm.encoding.plan import Plan
from chiasm.encoding.raster import cover
from chiasm.errors import CohortError
from chiasm.geometry import Geometry
from chiasm.study import View
from chiasm.tensors import Batch

__all__ = ["Loader", "Plan", "fit_plan"]

BOS, EOS = 2, 3
_VIEWS = pa.array([view.value for view in View])
_OTHER = list(View).index(View.OTHER)


class TextTokenizer(Protocol):
    """What the loader needs of a tokenizer: ids of texts without specials; 2 is <bos>, 3 is <eos>."""

    def encode_batch(self, texts: Sequence[str], max_tokens: int | None = None) -> list[list[int]]: ...


class Features(Protocol):
    """What the loader needs of `chiasm.runtime.features.FeatureProvider`; None of what the model itself is to encode."""

    def images(self, pixels: Shown) -> Sequence[NDArray[np.float16]] | None: ...
    def texts(self, ids: Sequence[NDArray[np.integer]]) -> NDArray[np.float16] | None: ...


class Ragged:
    """Rows of different lengths in one flat array, of two bytes a number where that is enough."""

    def __init__(self, parts: Iterable[Sequence[Sequence[int]]]) -> None:
        """Args: parts: the rows, some at a time."""
        lengths, values = [np.zeros(1, np.int64)], [np.zeros(0, np.uint16)]
        for rows in parts:
            lengths.append(np.array([len(row) for row in rows], np.int64))
            flat = np.fromiter(chain.from_iterable(rows), np.int32, int(lengths[-1].sum()))
            values.append(flat.astype(np.min_scalar_type(flat.max(initial=2**8))))
        self.start, self.values = np.cumsum(np.concatenate(lengths)), np.concatenate(values)

    def padded(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """[B, T] values (0 beyond the end) and [B, T] mask; T is the longest row's length, at least 1."""
        places, mask = _spread(self.start, rows)
        values = np.zeros(mask.shape, np.int64)
        values[mask] = self.values[places[mask]]
        return torch.from_numpy(values), torch.from_numpy(mask)


def _spread(start: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """[B, T] places and mask of rows that lie one after another, row i from start[i] to start[i + 1]; T >= 1."""
    length = start[rows + 1] - start[rows]
    steps = np.arange(max(1, length.max(initial=0)))
    return start[rows][:, None] + steps, steps < length[:, None]


class Loader:
    """Rows of several cohorts as one index space, offset[cohort] + row, and batches of them.

    Attributes:
        labels, label_mask: target -> [n, L] float32 and bool, as a loss takes them: standardized where the plan has a scaling,
            encoded (`chiasm.encoding.levels.encode`) where it has levels. A value that training has nothing of, such as another
            class, is masked: it teaches nothing and is scored from the cohort.
        truncated_reports: [n] True where a report is longer than the model reads.
        patient_ids, study_ids: [n] strings; keys: [n] "COHORT NUMBER/STUDY ID", unique over all cohorts.
    """

    def __init__(
        self,
        cohorts: Sequence[Cohort],
        plan: Plan,
        tokenizer: TextTokenizer | None,
        features: Sequence[Features] | None = None,
        *,
        describer: TextTokenizer | None = None,
        teachers: Mapping[str, Mapping[str, NDArray[Any]]] | None = None,
    ) -> None:
        """
        Args:
            tokenizer: of the report as an input; describer: of the description (the same, if None).
            features: of each cohort, what stands in for images and goes with texts.
            teachers: name of a head -> name -> [n, ...] what teaches it.

        Raises:
            CohortError: stored images have another shape than the plan, or a target is of another kind.
        """
        self.cohorts, self.plan = list(cohorts), plan
        self.teachers = teachers or {}
        self._read: dict[int, list[str]] = {}
        self.offsets = np.concatenate([[0], np.cumsum([len(cohort) for cohort in cohorts], dtype=np.int64)])
        self._check()
        self._index_images()
        self.features = self._image_features(features or [])
        self._numbers, self._observed, self._codes = self._encode_columns(plan.numeric, plan.categories, "record")
        numbers, observed, codes = self._encode_columns(plan.facts, plan.fact_words, "fact")
        one_hot = [codes[:, [k]] == np.arange(1, len(words) + 1) for k, words in enumerate(plan.fact_words.values())]
        self._facts = np.concatenate([numbers, observed, *one_hot], axis=1, dtype=np.float32)
        self._encode_labels()
        self._tokens = self._descriptions = self._states = None
        self.truncated_reports = np.zeros(len(self), bool)
        if plan.text_sections:
            encoder = _required(tokenizer)
            self._tokens = Ragged(self._read_reports(encoder))
            self._states = self._text_states(features or [], self._tokens)
        if plan.description_sections:
            encoder, longest = _required(describer or tokenizer), plan.description_max_tokens
            texts = self._texts(plan.description_sections)
            self._descriptions = Ragged(
                [_framed(ids, longest) for ids in encoder.encode_batch(part, longest + 1)] for part in texts
            )
        if plan.localized:
            self._rasterize()
        pa.default_memory_pool().release_unused()  # what reading the tables took

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes: mapped files go by their names, never by their content."""
        features = None if self.features is None else [[_file_of(m) for m in levels] for levels in self.features]
        states = None if self._states is None else [_file_of(each) for each in self._states]
        return {**self.__dict__, "_arrays": None, "features": features, "_states": states}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._arrays = self._map_pixels()
        if self.features is not None:
            self.features = [[_mapped(m) for m in levels] for levels in self.features]
        if self._states is not None:
            self._states = [_mapped(each) for each in self._states]

    def cohort_of(self, index: int) -> tuple[int, int]:
        """(number of the cohort, row in it) of an index."""
        number = int(np.searchsorted(self.offsets, index, side="right")) - 1
        return number, int(index - self.offsets[number])

    def image_rows(self, index: int) -> list[int]:
        """Rows in the cohort's `images` of a study's images, in the order of the batch."""
        rows: list[int] = self._image_row[self._image_start[index] : self._image_start[index + 1]].tolist()
        return rows

    @cached_property
    def patient_ids(self) -> NDArray[np.str_]:
        return self._strings("patient_id")

    @cached_property
    def study_ids(self) -> NDArray[np.str_]:
        return self._strings("study_id")

    def texts(self, cohort: int) -> list[str]:
        """Of each study of a cohort, the text that the model reads; it is kept."""
        if cohort not in self._read:
            self._read[cohort] = self.cohorts[cohort].texts(self.plan.text_sections)
        return self._read[cohort]

    @cached_property
    def teaches(self) -> NDArray[np.bool_]:
        """[n] True where a study has anything to learn from: a known label, a region, or a text to describe it by."""
        known = [mask.any(axis=1) for mask in self.label_mask.values()]
        if self.plan.localized:
            known.append(np.diff(self._drawn_start[self._image_start]) > 0)
        if self._descriptions is not None:
            known.append(np.diff(self._descriptions.start) > 0)
        for own in self.teachers.values():
            known += [mask.reshape(len(self), -1).any(axis=1) for key, mask in own.items() if key.endswith("_mask")]
        return np.asarray(np.any(known, axis=0)) if known else np.zeros(len(self), bool)

    @property
    def keys(self) -> list[str]:
        return [f"{number}/{study}" for number, c in enumerate(self.cohorts) for study in _column(c, "study_id")]

    def batch(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """The studies of these indices as tensors, padded to the batch's most images and longest texts."""
        rows = np.asarray(indices, np.int64)
        batch = Batch(torch.from_numpy(rows.copy()))
        if self.plan.image_shape is not None:
            self._add_images(batch, rows)
        if self._tokens is not None:
            batch.token_ids, batch.token_mask = self._tokens.padded(rows)
            if self._states is not None:
                batch.token_states = self._padded_states(
                    self._states, self._tokens.start, rows, batch.token_ids.shape[1]
                )
        if self._descriptions is not None:
            batch.description_ids, batch.description_mask = self._descriptions.padded(rows)
        if self.plan.numeric or self.plan.categories:
            batch.record_values, batch.record_observed = self.numbers(rows)
            batch.record_codes = torch.from_numpy(self._codes[rows].astype(np.int64))
        if self.plan.facts or self.plan.fact_words:
            batch.facts = torch.from_numpy(self._facts[rows])
        batch.labels = {target: torch.from_numpy(values[rows]) for target, values in self.labels.items()}
        batch.teachers = {
            name: {key: torch.from_numpy(values[rows]) for key, values in own.items()}
            for name, own in self.teachers.items()
        }
        batch.label_mask = {target: torch.from_numpy(mask[rows]) for target, mask in self.label_mask.items()}
        return batch

    def numbers(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """[n, R] standardized numbers of the record, and [n, R] whether each was observed."""
        return torch.from_numpy(self._numbers[rows]), torch.from_numpy(self._observed[rows])

    def pixels(self, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        """[m, C, *S] the images of these studies as a model sees them, study by study, whether features stand in for them or not."""
        found = [
            self._arrays[self.cohort_of(row)[0]][pointer]
            for row in rows.tolist()
            for pointer in self._pointer[self._image_start[row] : self._image_start[row + 1]].tolist()
        ]
        return np.stack(found) if found else np.zeros((0, *self._arrays[0].shape[1:]), np.uint8)

    def _add_images(self, batch: Batch, rows: NDArray[np.int64]) -> None:
        places, mask = _spread(self._image_start, rows)
        study, slot = np.nonzero(mask)
        images = places[study, slot]
        pointers = self._pointer[images]
        cohort = np.searchsorted(self.offsets, rows[study], side="right") - 1
        view = np.full(mask.shape, _OTHER, np.int64)
        view[study, slot] = self._view[images]
        batch.image_mask, batch.view = torch.from_numpy(mask), torch.from_numpy(view)
        if self.features is None:
            batch.images = torch.from_numpy(_gather(self._arrays, mask, cohort, pointers))
        else:
            levels = [[np.asarray(m) for m in level] for level in zip(*filter(len, self.features), strict=True)]
            if levels:
                # a cohort without images has no levels, and no image that points to it
                where = np.cumsum([len(level) > 0 for level in self.features])[cohort] - 1
                batch.features = [torch.from_numpy(_gather(level, mask, where, pointers)) for level in levels]
            else:  # no cohort has an image
                batch.images = torch.from_numpy(_gather(self._arrays, mask, cohort, pointers))
        if self.plan.localized:
            self._add_lesions(batch, rows, mask, images)

    def _add_lesions(
        self, batch: Batch, rows: NDArray[np.int64], mask: NDArray[np.bool_], images: NDArray[np.int64]
    ) -> None:
        assert self.plan.grid is not None
        known = mask[:, :, None] & self._ruled_out[rows][:, None]
        lesions = np.zeros((*known.shape, *self.plan.grid), np.float32)
        drawn, real = _spread(self._drawn_start, images)
        which, _ = np.nonzero(real)
        drawn = drawn[real]
        study, slot = (axis[which] for axis in np.nonzero(mask))
        lesions[study, slot, self._drawn_channel[drawn]] = self._covered[drawn]
        known[study, slot, self._drawn_channel[drawn]] = True
        batch.lesion_mask, batch.lesion_label_mask = torch.from_numpy(lesions), torch.from_numpy(known)

    # --- what is encoded once ------------------------------------------------------------------------------------------

    def _check(self) -> None:
        plan = self.plan
        for cohort in self.cohorts:
            shape = plan.image_shape or ()
            if shape and shape != cohort.shape(len(shape)) and len(cohort.array(len(shape))):
                raise size_error(cohort, shape)
            check_rules(cohort, plan.intensity)
            if plan.atlas:
                _check_space(cohort, plan.atlas)
            for target, kind in plan.kinds.items():
                own = cohort.targets.get(target)
                if own is not None and own.kind is not kind:
                    raise CohortError(
                        f"the target {target} is of another kind here",
                        expected=kind.value,
                        got=own.kind.value,
                        where=str(cohort.path),
                    )

    def _strings(self, column: str) -> NDArray[np.str_]:
        return np.concatenate([np.asarray(_column(cohort, column), dtype=np.str_) for cohort in self.cohorts])

    def _texts(self, sections: Sequence[str]) -> Iterator[list[str]]:
        for cohort in self.cohorts:
            yield from cohort.text_parts(sections)

    def _read_reports(self, encoder: TextTokenizer) -> Iterator[list[list[int]]]:
        """The ids of every report, and which of them go on beyond the last id."""
        longest, start = self.plan.max_tokens, 0
        for texts in self._texts(self.plan.text_sections):
            ids = encoder.encode_batch(texts, longest)
            full = [i for i, row in enumerate(ids) if len(row) >= longest]
            whole = encoder.encode_batch([texts[i] for i in full])
            self.truncated_reports[[start + i for i, row in zip(full, whole, strict=True) if len(row) > longest]] = True
            start += len(texts)
            yield ids

    def _index_images(self) -> None:
        """The images of the plan's dimension, study by study: row in `images`, place in the array, view or sequence."""
        ndim = len(self.plan.image_shape or ())
        taught = [list(View).index(View(name)) for name in self.plan.views]
        known = np.arange(len(View), dtype=np.int8)
        if taught:  # nothing was learned of other views: they are read as the most frequent one
            known[~np.isin(known, taught)] = taught[0]
        study, row, pointer, view = [], [], [], []
        for offset, cohort in zip(self.offsets[:-1], self.cohorts, strict=True):
            table = cohort.table("images", ["array", "index", "view", "name"])
            rows = np.flatnonzero(pc.equal(table["array"], f"pixels_{ndim}d").to_numpy())
            study.append(cohort.image_study[rows] + offset)
            row.append(rows.astype(np.int32))
            pointer.append(table["index"].to_numpy()[rows].astype(np.int32))
            own = known[pc.index_in(table["view"], value_set=_VIEWS).to_numpy()[rows].astype(np.int8)]
            names = pa.array(self.plan.sequences, pa.string())
            sequence = pc.fill_null(pc.index_in(table["name"], value_set=names), -1).to_numpy()[rows]
            view.append(np.where(sequence >= 0, len(View) + sequence, own).astype(np.int16))
        self._image_row, self._pointer, self._view = (np.concatenate(parts) for parts in (row, pointer, view))
        self._image_start = np.searchsorted(np.concatenate(study), np.arange(len(self) + 1))
        self._arrays = self._map_pixels()

    def _image_features(self, providers: Sequence[Features]) -> list[Sequence[NDArray[np.float16]]] | None:
        """[cohort][level] -> [n, c, *s] maps of the cohort's images, which stand in for them; None without."""
        found = [own.images(shown) for own, shown in zip(providers, self._arrays, strict=False)]
        return [levels for levels in found if levels is not None] or None

    def _text_states(self, providers: Sequence[Features], tokens: Ragged) -> list[NDArray[np.float16]] | None:
        """[cohort] -> [tokens of the cohort, width] states of its reports; None without."""
        found = []
        for number, own in enumerate(providers):
            rows = range(self.offsets[number], self.offsets[number + 1])
            found.append(own.texts([tokens.values[tokens.start[r] : tokens.start[r + 1]] for r in rows]))
        return [states for states in found if states is not None] or None

    def _padded_states(
        self, states: Sequence[NDArray[np.float16]], start: NDArray[np.int64], rows: NDArray[np.int64], longest: int
    ) -> Tensor:
        """[B, T, width] of these reports, zeros beyond their ends."""
        padded = np.zeros((len(rows), longest, states[0].shape[1]), np.float16)
        cohort = np.searchsorted(self.offsets, rows, side="right") - 1
        for own, row, number in zip(padded, rows, cohort, strict=True):
            first, end = start[row : row + 2] - start[self.offsets[number]]
            own[: end - first] = states[number][first:end]
        return torch.from_numpy(padded)

    def _map_pixels(self) -> list[Shown]:
        plan, ndim = self.plan, len(self.plan.image_shape or ())
        return [Shown(cohort, ndim, plan.intensity, len(plan.channels)) for cohort in self.cohorts] if ndim else []

    def _encode_columns(
        self, numeric: Mapping[str, tuple[float, float]], categories: Mapping[str, Sequence[str]], of: str
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int32]]:
        """[n, R] standardized numbers, [n, R] whether they were observed, [n, K] codes of words; 0 is missing."""
        numbers = np.zeros((len(self), len(numeric)), np.float32)
        observed = np.zeros((len(self), len(numeric)), bool)
        codes = np.zeros((len(self), len(categories)), np.int32)
        for start, cohort in zip(self.offsets[:-1], self.cohorts, strict=True):
            own = slice(start, start + len(cohort))
            for column, (name, (mean, std)) in enumerate(numeric.items()):
                if name in columns_of(cohort, of):
                    values = read_column(cohort, name, "numeric", of).to_numpy()
                    observed[own, column] = ~np.isnan(values)
                    numbers[own, column] = np.nan_to_num((values - mean) / std)
            for column, (name, words) in enumerate(categories.items()):
                if name in columns_of(cohort, of):
                    known = read_column(cohort, name, "categorical", of)
                    found = pc.index_in(known, value_set=pa.array(words, pa.string()))
                    codes[own, column] = pc.fill_null(found, -1).to_numpy() + 1
        return numbers, observed, codes

    def _encode_labels(self) -> None:
        self.labels: dict[str, NDArray[np.float32]] = {}
        self.label_mask: dict[str, NDArray[np.bool_]] = {}
        for target, labels in self.plan.targets.items():
            uncertain = self.plan.uncertain.get(target, "ignore")
            levels = self.plan.levels.get(target)
            parts = [cohort.labels(target, labels, uncertain, levels) for cohort in self.cohorts]
            values, mask = (np.concatenate(part) for part in zip(*parts, strict=True))
            for i, own in enumerate(levels or ()):
                codes, teaches = encode(values[:, i], own, self.plan.kinds[target])
                mask[:, i] &= teaches
                values[:, i] = np.where(mask[:, i], codes, 0)
            if target in self.plan.scaling:
                mean, std = np.array(self.plan.scaling[target]).T
                values = np.where(mask, (values - mean) / std, 0).astype(np.float32)
            self.labels[target], self.label_mask[target] = values, mask

    def _rasterize(self) -> None:
        """Regions as shares of cells, an image and channel at a time; and which labels a study's reader ruled out.

        An absent label counts as an empty map only where its cohort draws regions for that label at all.
        """
        plan, channels = self.plan, {key: channel for channel, key in enumerate(self.plan.localized)}
        assert plan.grid is not None
        self._ruled_out = np.zeros((len(self), len(channels)), bool)
        starts: list[int] = [0]
        covered: list[NDArray[np.float32]] = []
        drawn: list[int] = []
        for number, cohort in enumerate(self.cohorts):
            named = cohort.table("regions", ["target", "label", "image_id"])
            keys = list(zip(named["target"].to_pylist(), named["label"].to_pylist(), strict=True))
            for key in channels.keys() & set(keys):
                values, mask = cohort.labels(key[0], [key[1]])
                self._ruled_out[self.offsets[number] : self.offsets[number + 1], channels[key]] = (
                    mask & (values == 0)
                )[:, 0]
            wanted = {i for i, key in zip(named["image_id"].to_pylist(), keys, strict=True) if key in channels}
            ids = cohort.table("images", ["image_id"])["image_id"].to_pylist() if wanted else []
            first, last = self._image_start[self.offsets[number : number + 2]]
            for row in self._image_row[first:last].tolist():
                if wanted and ids[row] in wanted:
                    for channel, grid in _shares(cohort, row, channels, plan.grid).items():
                        drawn.append(channel)
                        covered.append(grid)
                starts.append(len(drawn))
        self._drawn_start, self._drawn_channel = np.array(starts), np.array(drawn, np.int64)
        self._covered = np.stack(covered) if covered else np.zeros((0, *plan.grid), np.float32)


def _check_space(cohort: Cohort, atlas: str) -> None:
    """Do all volumes lie where the atlas does? A region read beside its place would be a wrong number, silently."""
    images = cohort.table("images", ["array", "geometry"]).to_pydict()
    there = [g for array, g in zip(images["array"], images["geometry"], strict=True) if array == "pixels_3d"]
    expected = Geometry.from_json(atlas)
    grids = [Geometry.from_json(text) for text in set(there)]
    beside = sum(grid.shape != expected.shape or not grid.same_space(expected) for grid in grids)
    if beside:
        raise CohortError(
            "volumes do not lie in the space of the model's atlas",
            expected=f"{expected.original_shape} voxels with the atlas' affine",
            got=f"{beside} other grids among {len(there)} volumes",
            where=str(cohort.path),
            remedy="register and resample them to the space of the atlas first",
        )


def _shares(
    cohort: Cohort, row: int, channels: dict[tuple[str, str], int], grid: tuple[int, ...]
) -> dict[int, NDArray[np.float32]]:
    regions = [(channels.get((r.target, r.label)), r) for r in cohort.regions_of(row)]
    found = sorted({channel for channel, _ in regions if channel is not None})
    geometry = cohort.geometry(row)
    return {channel: cover([r for c, r in regions if c == channel], geometry, grid) for channel in found}


def _gather(
    arrays: Sequence[NDArray[np.generic] | Shown],
    mask: NDArray[np.bool_],
    which: NDArray[np.int64],
    pointers: NDArray[np.int64],
) -> NDArray[np.generic]:
    """[B, N, *S] rows `pointers` of arrays `which`, laid where mask is True; zeros elsewhere."""
    make = np.empty if mask.all() else np.zeros
    result = make((mask.size, *arrays[0].shape[1:]), np.result_type(*{array.dtype for array in arrays}))
    places = np.flatnonzero(mask)
    for place, number, pointer in zip(places.tolist(), which.tolist(), pointers.tolist(), strict=True):
        result[place] = arrays[number][pointer]
    return result.reshape(*mask.shape, *result.shape[1:])


def _framed(ids: list[int], longest: int) -> list[int]:
    """Ids from <bos> to <eos>; a truncated text has no end to learn, and an empty one is nothing to say."""
    if not ids:
        return []
    return [BOS, *ids[:longest], *([EOS] if len(ids) <= longest else [])]


def _file_of(array: Any) -> Any:
    return Path(array.filename) if isinstance(array, np.memmap) and array.filename else array


def _mapped(array: Any) -> Any:
    return np.load(array, mmap_mode="r", allow_pickle=False) if isinstance(array, Path) else array


def _column(cohort: Cohort, name: str) -> list[str]:
    values: list[str] = cohort.table("studies", [name])[name].to_pylist()
    return values


def _required(tokenizer: TextTokenizer | None) -> TextTokenizer:
    if tokenizer is None:
        raise ValueError("the plan has texts, so the loader needs a tokenizer. Got None.")
    return tokenizer
