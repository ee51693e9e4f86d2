"""The content of a cohort made of studies, in files or in memory: pixels as they arrive, tables at the end."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from chiasm.atomic import write_json
from chiasm.cohort.arrays import Pixels
from chiasm.cohort.preprocessing import Preprocessing
from chiasm.cohort.skipped import write_skipped
from chiasm.cohort.tables import (
    SCHEMA,
    ColumnInfo,
    TargetInfo,
    content_hash,
    encode_mask,
    perceptual_hash,
    pixel_hash,
)
from chiasm.errors import CohortError, ImageError, InputError
from chiasm.formats.atlas import Atlas, store_atlas
from chiasm.formats.intensity import Scale, Window, narrow, shown_values
from chiasm.report.sections import SECTIONS
from chiasm.seals import seal
from chiasm.splits import HASH_RULE, SPLITS, split_of
from chiasm.study import Finding, Image, Kind, Outcome, Record, Region, Rejected, State, Study
from chiasm.vocabulary import snake_case

RESERVED = (
    "report",
    "record",
    "fact",
    "bayes",
    "anatomy",
)  # prefixes of other columns, and the one target without labels
SPLIT_RULES = ("auto", "published", "hash", "boxes-to-test")
_IMAGE_TEXTS = (
    "image_id",
    "study_id",
    "name",
    "view",
    "dicom_modality",
    "body_part",
    "source",
    "geometry",
    "array",
    "scale",
    "pixel_hash",
)
_IMAGES = pa.schema(
    [*((name, pa.string()) for name in _IMAGE_TEXTS), ("index", pa.int64()), ("perceptual_hash", pa.uint64())]
)
_REGIONS = pa.schema(
    [
        *((name, pa.string()) for name in ("study_id", "image_id", "target", "label", "reader", "phrase")),
        *((name, pa.float64()) for name in ("x_min", "y_min", "x_max", "y_max")),
        ("rle", pa.list_(pa.int64())),
        ("mask_shape", pa.list_(pa.int64())),
    ]
)


@dataclass
class _Row:
    """One study on its way into the tables; `values` by (target, label, reader)."""

    texts: dict[str, str | None]
    sections: dict[str, str]
    values: dict[tuple[str, str, str], str | float | None]
    record: dict[str, float | str | None]
    bayes: dict[str, float]
    facts: dict[str, float | str | None]
    images: list[dict[str, Any]] = field(default_factory=list)
    regions: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Content:
    """What a cohort holds: the one thing that is written to a folder or opened in memory.

    Attributes:
        meta: cohort.json. tables: "studies", "images" and "regions". rejected: what was skipped.
        arrays: "atlas" where there is one, and of a cohort in memory "pixels_2d" and "pixels_3d".
    """

    meta: dict[str, Any]
    tables: dict[str, pa.Table]
    rejected: list[Rejected]
    arrays: dict[str, NDArray[np.uint8]] = field(default_factory=dict)


class CohortWriter:
    """Takes studies one by one; `finish` makes the tables of them. Pixels alone are large, and go where `new_array` says."""

    def __init__(
        self,
        new_array: Callable[[str, tuple[int, ...]], Pixels],
        preprocessing: Preprocessing,
        split: str,
        seed: int,
        strict: bool,
    ) -> None:
        """Args: new_array: called with the name and the shape of an image of each array that is needed."""
        if split not in SPLIT_RULES:
            raise CohortError("no such split rule", expected=f"one of {', '.join(SPLIT_RULES)}", got=split)
        self.split, self.seed = split, seed
        self.new_array, self.preprocessing, self.strict = new_array, preprocessing, strict
        self.rows: dict[str, _Row] = {}
        self.image_ids: set[str] = set()
        self.arrays: dict[str, Pixels] = {}
        self.channels: dict[str, int] = {}
        self.unwindowed: Counter[str] = Counter()  # images of a modality with windows that carry no values for them
        self.targets: dict[str, tuple[Literal["findings", "outcomes"], Kind]] = {}
        self.columns: dict[str, str] = {}
        self.facts: dict[str, str] = {}
        self.unknown_time: set[str] = set()
        self.rejected: list[Rejected] = []
        self.seen = 0

    def add(self, item: Study | Rejected) -> None:
        """Take a study, or write down why not; what cannot be used of a study is left out alone.

        Raises:
            InputError: something was rejected, and the import is strict.
            CohortError: a target or record column is of two kinds.
        """
        self.seen += 1
        if isinstance(item, Rejected):
            self._reject(item.where, item.reason, taken=item.taken)
            return
        files = ", ".join(image.source for image in item.images if image.source)
        where = f"study {self.seen}" + (f" ({files})" if files else "")
        if reason := self._unfit(item):
            self._reject(where, reason)
            return
        report = item.report.sections if item.report else {}
        row = _Row(
            {"study_id": item.study_id, "patient_id": item.patient_id, "split": item.split},
            {name: text for name, text in report.items() if text and text.strip()},
            self._values(item, where),
            self._record(item.record, where),
            dict(item.bayes),
            self._cells(item.facts, self.facts, "fact", where),
        )
        row.texts["report_image_id"] = item.report.image_id if item.report else None
        shapes: dict[str, tuple[int, ...]] = {}
        for image in item.images:
            for note in image.notes:
                self._reject(note.where, note.reason, taken=note.taken)
            if stored := self._image(image, item.study_id, where):
                row.images.append(stored)
                shapes[image.image_id] = image.geometry.original_shape
        if not (row.images or row.sections or any(value is not None for value in row.record.values())):
            self._reject(where, "holds no image, no report text and no record value")
            return
        regions = (self._region(region, item.study_id, shapes, where) for region in item.regions)
        row.regions = [region for region in regions if region]
        self.rows[item.study_id] = row

    def _reject(self, where: str, reason: str, *, taken: bool = False) -> None:
        """Write down what was not taken, or (`taken`) what was taken with a note, which is no fault to a strict import."""
        if self.strict and not taken:
            raise InputError(
                "the import is strict, and something cannot be used",
                got=reason,
                where=where,
                remedy="fix the input, or import without --strict: what is skipped is listed in rejected.csv",
            )
        self.rejected.append(Rejected(where, reason, taken))

    def _unfit(self, study: Study) -> str | None:
        if not study.study_id or not study.patient_id:
            return "the study id or patient id is empty"
        if study.study_id in self.rows:
            return "the study id occurred before"
        if study.split not in (None, *SPLITS):
            return f"the published split is not one of {', '.join(SPLITS)}"
        return None

    def _kind(self, target: str, of: Literal["findings", "outcomes"], kind: Kind) -> None:
        if target in RESERVED or not target or "." in target or "/" in target:
            raise CohortError(
                "this target name cannot be used",
                expected=f"no dot or slash, none of {', '.join(RESERVED)}",
                got=target,
            )
        known = self.targets.setdefault(target, (of, kind))
        if known != (of, kind):
            raise CohortError(
                f"the target {target} is of two kinds",
                expected=f"{known[0]}, {known[1]}",
                got=f"{of}, {kind}",
                remedy="give the outcomes of each kind a target name of their own",
            )

    def _values(self, study: Study, where: str) -> dict[tuple[str, str, str], str | float | None]:
        values: dict[tuple[str, str, str], str | float | None] = {}
        clashing = set()
        items: tuple[Finding | Outcome, ...] = (*study.findings, *study.outcomes)
        for item in items:
            value: str | float | None
            if isinstance(item, Outcome):
                self._kind(item.target, "outcomes", item.kind)
                value = self._outcome(item, where)
            else:
                self._kind(item.target, "findings", Kind.BINARY)
                value = None if item.state is State.NOT_MENTIONED else item.state.value
            key = (item.target, item.name, item.reader)
            before = values.get(key)
            if value is not None and before is not None and value != before:
                clashing.add(key)
            values[key] = before if value is None else value
        for key in sorted(clashing):
            self._reject(where, f"{key[0]}/{key[1]} has two values by one reader: both are skipped")
            values[key] = None
        return values

    def _outcome(self, outcome: Outcome, where: str) -> float | str | None:
        """A number, a word (multiclass) or a signed time (survival: + of an event, - of a study without one until then)."""
        value, kind = outcome.value, outcome.kind
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        if kind is Kind.MULTICLASS and isinstance(value, str) and value.strip():
            return value.strip()
        if kind is not Kind.MULTICLASS and not isinstance(value, str) and math.isfinite(value):
            if kind is Kind.SURVIVAL and outcome.event is not None and value >= 0 and (value or outcome.event):
                return float(value) if outcome.event else -float(value)
            if kind is not Kind.SURVIVAL and (kind is not Kind.BINARY or value in (0, 1)):
                return float(value)
        what = {
            Kind.MULTICLASS: "a word",
            Kind.BINARY: "0 or 1",
            Kind.SURVIVAL: "a time from 0 on, and whether the event happened then; without one, a time above 0",
        }.get(kind, "a finite number")
        self._reject(where, f"{outcome.target}/{outcome.name} is not {what}: the value is skipped")
        return None

    def _record(self, record: Record | None, where: str) -> dict[str, float | str | None]:
        if record is None:
            return {}
        self.unknown_time |= record.unknown_time
        return self._cells(record.values, self.columns, "record column", where)

    def _cells(
        self, given: Mapping[str, float | str | None], kinds: dict[str, str], what: str, where: str
    ) -> dict[str, float | str | None]:
        """Numbers or words; `kinds` learns what each column holds ("" as long as that is unknown)."""
        values: dict[str, float | str | None] = {}
        for name, value in given.items():
            if isinstance(value, str):
                value = value.strip() or None
            elif value is not None:
                value = None if math.isnan(value) else float(value)
            if isinstance(value, float) and math.isinf(value):
                self._reject(where, f"{what} {name} is infinite: the value is skipped")
                value = None
            values[name] = value
            kind = "" if value is None else "categorical" if isinstance(value, str) else "numeric"
            known = kinds.get(name)
            if kind and known and known != kind:
                raise CohortError(
                    f"the {what} {name} holds both numbers and words",
                    expected="one kind a column",
                    where=where,
                    remedy="turn the words into numbers or missing values in the source table, or the other way round",
                )
            kinds[name] = known or kind
        return values

    def _image(self, image: Image, study_id: str, where: str) -> dict[str, Any] | None:
        where = image.source or where
        if not image.image_id or image.image_id in self.image_ids:
            self._reject(where, "the image id occurred before" if image.image_id else "the image id is empty")
            return None
        ndim = len(image.geometry.shape)
        array = f"pixels_{ndim}d"
        try:
            pixels, geometry, scale = self.preprocessing.prepare(image)
            if len(pixels) != self.channels.get(array, len(pixels)):
                known = self.channels[array]
                raise ImageError("The image has another number of channels", expected=str(known), got=str(len(pixels)))
        except ImageError as error:
            self._reject(where, "; ".join(filter(None, (error.what, error.got))))
            return None
        if array not in self.arrays:
            self.arrays[array] = self.new_array(array, pixels.shape)
            self.channels[array] = len(pixels)
        windows = self.preprocessing.intensity.of(image.dicom_modality).windows
        self.unwindowed[image.dicom_modality] += bool(windows) and scale is not Scale.MODALITY
        self.image_ids.add(image.image_id)
        source = PurePath(image.source)
        return {
            "image_id": image.image_id,
            "study_id": study_id,
            "name": image.name,
            "view": image.view.value,
            "dicom_modality": image.dicom_modality,
            "body_part": image.body_part,
            "source": source.name if source.is_absolute() else image.source,
            "geometry": geometry.to_json(),
            "array": array,
            "scale": scale.value,
            "pixel_hash": pixel_hash(pixels),
            "index": self.arrays[array].append(pixels),
            "perceptual_hash": perceptual_hash(show_plane(pixels, scale, windows)),
        }

    def _region(
        self, region: Region, study_id: str, shapes: Mapping[str, tuple[int, ...]], where: str
    ) -> dict[str, Any] | None:
        shape, box = (
            shapes.get(region.image_id, ()),
            None if region.box is None else [float(edge) for edge in region.box],
        )
        reason = ""
        if not shape:
            reason = "lies in an image that the study does not hold"
        elif box is None and region.mask is None:
            reason = "has neither box nor mask"
        elif region.mask is not None and region.mask.shape != shape:
            reason = f"has a mask of shape {region.mask.shape}, its image is of {shape}"
        elif box and not (all(map(math.isfinite, box)) and box[0] < box[2] and box[1] < box[3]):
            reason = "has a box without area"
        if reason:
            self._reject(where, f"a region {region.target}/{region.label} {reason}: the region is skipped")
            return None
        return {
            "study_id": study_id,
            "image_id": region.image_id,
            "target": region.target,
            "label": region.label,
            "reader": region.reader,
            "phrase": region.phrase,
            **(dict(zip(("x_min", "y_min", "x_max", "y_max"), box, strict=True)) if box else {}),
            "rle": None if region.mask is None else encode_mask(region.mask),
            "mask_shape": None if region.mask is None else list(shape),
            "outside": box is not None and (min(box[:2]) < 0 or box[2] > shape[-1] or box[3] > shape[-2]),
        }

    def finish(
        self,
        *,
        source: str,
        options: Mapping[str, Any],
        notes: Sequence[str] = (),
        atlas: Atlas | None = None,
    ) -> Content:
        """Make tables and cohort.json of all that was taken.

        Raises:
            CohortError: no study was taken, or the split rule does not fit.
        """
        finished = {name: array.finish() for name, array in self.arrays.items()}
        if not self.rows:
            raise CohortError(
                "no study could be used",
                got=f"{len(self.rejected)} rejected" if self.rejected else "no study in the source",
                remedy="; ".join(f"{r.where}: {r.reason}" for r in self.rejected[:3]) or "is this the right folder?",
            )
        self.rows = dict(sorted(self.rows.items()))
        rule = self._split()
        targets, names = self._targets()
        tables = {"studies": self._studies(targets, names), "images": self._images(), "regions": self._regions(names)}
        regions, place = self._atlas(atlas) if atlas is not None else (None, {})
        described = {
            "schema": SCHEMA,
            "size": self.preprocessing.size,
            "volume_size": list(self.preprocessing.volume_size),
            "preprocessing": self.preprocessing.to_dict() | {"modalities": self._modalities()},
            "channels": {array: self._channel_names(count) for array, count in sorted(self.channels.items())},
            "targets": {name: info.to_dict() for name, info in targets.items()},
            "record": {info.name: info.to_dict() for info in self._columns("record", self.columns)},
            "facts": {info.name: info.to_dict() for info in self._columns("facts", self.facts)},
            "reports": self._sections(),
            "bayes": self._bayes(),
            **({"atlas": place} if atlas is not None else {}),
        }
        meta = {
            "source": source,
            "options": json.loads(json.dumps(dict(options))),
            "notes": [*notes, *self._notes()],
            "counts": self._counts(tables, targets),
            "hash": content_hash(tables, described),
            "seed": self.seed,
            "split_rule": rule,
        }
        arrays = {name: array for name, array in finished.items() if array is not None}
        arrays |= {} if regions is None else {"atlas": regions[None]}
        return Content({**described, **meta}, tables, self.rejected, arrays)

    def _channel_names(self, count: int) -> list[str]:
        named = self.preprocessing.channels
        return list(named) if len(named) == count else channel_names(count)

    def _atlas(self, atlas: Atlas) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """The atlas [D, H, W] as volumes are kept; what it is, for cohort.json."""
        regions, geometry = store_atlas(atlas, self.preprocessing.volume_size)
        unnamed = {n: f"region {n}" for n in np.unique(atlas.regions[atlas.regions > 0]).tolist()}
        names = {str(n): name for n, name in sorted({**unnamed, **atlas.names}.items())}
        return regions, {"names": names, "geometry": geometry.to_json(), "pixel_hash": pixel_hash(regions)}

    def _modalities(self) -> dict[str, list[str]]:
        """Of each array, the DICOM modalities of its images."""
        images = [image for row in self.rows.values() for image in row.images]
        return {a: sorted({i["dicom_modality"] for i in images if i["array"] == a}) for a in sorted(self.arrays)}

    def _notes(self) -> list[str]:
        return [
            f"{count} {modality or 'images of unknown modality'} images carry no values that a window could be applied to, as "
            "JPEG and PNG files carry none: they are as stored."
            for modality, count in sorted(self.unwindowed.items())
            if count
        ]

    def _split(self) -> str:
        """Give every study its split, and say by which rule."""
        rows, split = self.rows.values(), self.split
        missing = sum(row.texts["split"] is None for row in rows)
        if split == "published" and missing:
            raise CohortError(
                "not every study has a published split", got=f"{missing} of {len(rows)} without", remedy="--split hash"
            )
        if split == "published" or (split == "auto" and not missing):
            return "published"
        boxed = {row.texts["patient_id"] for row in rows if any(r["target"] != "anatomy" for r in row.regions)}
        if split == "boxes-to-test" and not boxed:
            raise CohortError("no study has a region, so none goes to the test split", remedy="--split hash")
        for row in rows:
            patient = row.texts["patient_id"] or ""
            to_test = split == "boxes-to-test" and patient in boxed
            row.texts["split"] = "test" if to_test else split_of(patient, self.seed)
        return "boxes-to-test" if split == "boxes-to-test" else HASH_RULE

    def _targets(self) -> tuple[dict[str, TargetInfo], dict[tuple[str, str, str], str]]:
        """The targets, and the label that (target, name, reader) becomes.

        Two readers' truths stay two truths: a label that several give becomes one label a reader.
        """
        keys = sorted({key for row in self.rows.values() for key in row.values})
        readers = Counter((target, name) for target, name, _ in keys)
        names = {
            (target, name, reader): f"{name}_{snake_case(reader)}" if readers[target, name] > 1 and reader else name
            for target, name, reader in keys
        }
        targets = {}
        for target in sorted({target for target, _, _ in keys}):
            of, kind = self.targets[target]
            mine = sorted((key for key in keys if key[0] == target), key=lambda key: names[key])
            labels = tuple(names[key] for key in mine)
            if len(set(labels)) < len(labels):
                raise CohortError(f"two labels of the target {target} have one name", got=", ".join(labels))
            words = ({row.values.get(key) for row in self.rows.values()} - {None} for key in mine)
            classes = tuple(tuple(sorted(map(str, own))) for own in words) if kind is Kind.MULTICLASS else ()
            targets[target] = TargetInfo(target, kind, labels, tuple(key[2] for key in mine), of, classes)
        return targets, names

    def _columns(self, of: Literal["record", "facts"], kinds: Mapping[str, str]) -> list[ColumnInfo]:
        """Columns with a value somewhere; one of the record that is missing throughout is listed in the counts."""
        infos = []
        for name, kind in sorted(kinds.items()):
            words = {getattr(row, of).get(name) for row in self.rows.values()} if kind == "categorical" else set()
            if kind:
                categories = tuple(sorted(word for word in words if isinstance(word, str)))
                infos.append(
                    ColumnInfo(
                        name,
                        "categorical" if kind == "categorical" else "numeric",
                        categories,
                        of == "record" and name in self.unknown_time,
                    )
                )
        return infos

    def _sections(self) -> list[str]:
        found = {name for row in self.rows.values() for name in row.sections}
        return [*(name for name in SECTIONS if name in found), *sorted(found - set(SECTIONS))]

    def _bayes(self) -> list[str]:
        return sorted({subset for row in self.rows.values() for subset in row.bayes})

    def _studies(self, targets: Mapping[str, TargetInfo], names: Mapping[tuple[str, str, str], str]) -> pa.Table:
        rows = list(self.rows.values())
        columns = {
            name: pa.array([row.texts[name] for row in rows], pa.string())
            for name in ("study_id", "patient_id", "split", "report_image_id")
        }
        for section in self._sections():
            columns[f"report.{section}"] = pa.array([row.sections.get(section) for row in rows], pa.string())
        for key, label in names.items():
            target, values = targets[key[0]], [row.values.get(key) for row in rows]
            if target.kind is Kind.SURVIVAL:
                times = np.array(values, np.float64)
                lacking = np.isnan(times)
                columns[f"{key[0]}.{label}"] = pa.array(np.abs(times), mask=lacking)
                columns[f"{key[0]}.{label}.event"] = pa.array(~np.signbit(times), mask=lacking)
                continue
            type_ = pa.string() if target.of == "findings" or target.kind is Kind.MULTICLASS else pa.float64()
            columns[f"{key[0]}.{label}"] = pa.array(values, type_)
        for info in self._columns("record", self.columns):
            type_ = pa.string() if info.kind == "categorical" else pa.float64()
            columns[f"record.{info.name}"] = pa.array([row.record.get(info.name) for row in rows], type_)
        for info in self._columns("facts", self.facts):
            type_ = pa.string() if info.kind == "categorical" else pa.float64()
            columns[f"fact.{info.name}"] = pa.array([row.facts.get(info.name) for row in rows], type_)
        for subset in self._bayes():
            columns[f"bayes.{subset}"] = pa.array([row.bayes.get(subset) for row in rows], pa.float64())
        return pa.table(columns)

    def _images(self) -> pa.Table:
        return pa.Table.from_pylist([image for row in self.rows.values() for image in row.images], _IMAGES)

    def _regions(self, names: Mapping[tuple[str, str, str], str]) -> pa.Table:
        rows = [region for row in self.rows.values() for region in row.regions]
        renamed = [
            {**region, "label": names.get((region["target"], region["label"], region["reader"]), region["label"])}
            for region in rows
        ]
        return pa.Table.from_pylist(renamed, _REGIONS)

    def _counts(self, tables: Mapping[str, pa.Table], targets: Mapping[str, TargetInfo]) -> dict[str, Any]:
        rows = self.rows.values()
        regions = tables["regions"].select(["target", "label"]).to_pylist()
        unlabelled = sum(
            r["target"] != "anatomy" and (r["target"] not in targets or r["label"] not in targets[r["target"]].labels)
            for r in regions
        )
        return {
            "studies": len(self.rows),
            "patients": len({row.texts["patient_id"] for row in rows}),
            "splits": {name: sum(row.texts["split"] == name for row in rows) for name in SPLITS},
            "images": len(tables["images"]),
            "images_2d": self.arrays["pixels_2d"].count if "pixels_2d" in self.arrays else 0,
            "images_3d": self.arrays["pixels_3d"].count if "pixels_3d" in self.arrays else 0,
            "studies_without_image": sum(not row.images for row in rows),
            "reports": sum(bool(row.sections) for row in rows),
            "regions": len(regions),
            "regions_without_label": unlabelled,
            "boxes_outside": sum(region["outside"] for row in rows for region in row.regions),
            "empty_record_columns": sorted(name for name, kind in self.columns.items() if not kind),
            "rejected": sum(not item.taken for item in self.rejected),
            "noted": sum(item.taken for item in self.rejected),
        }


def channel_names(count: int) -> list[str]:
    """Of stored images: gray, or so many numbered ones."""
    return ["gray"] if count == 1 else [f"channel_{i + 1}" for i in range(count)]


def show_plane(pixels: NDArray[Any], scale: Scale, windows: Sequence[Window]) -> NDArray[np.uint8]:
    """[C, *S] stored values of an image -> [*S] 0 .. 255 as a person sees its first channel, through the first window."""
    if pixels.dtype == np.uint8:
        first: NDArray[np.uint8] = pixels[0]
        return first
    if scale is not Scale.MODALITY:
        return narrow(pixels[0])
    shown: NDArray[np.uint8] = np.rint(shown_values(scale, tuple(windows)[:1])[0][pixels[0]]).astype(np.uint8)
    return shown


def write_content(content: Content, folder: Path) -> None:
    """Write all but the pixels, which are there already."""
    for name, table in content.tables.items():
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=10_000, compression="zstd")
    if "atlas" in content.arrays:
        np.save(folder / "atlas.npy", content.arrays["atlas"], allow_pickle=False)
    write_skipped(folder, content.rejected)
    write_json(folder / "cohort.json", content.meta)
    kept = (
        "cohort.json",
        "atlas.npy",
        "pixels_2d.npy",
        "pixels_3d.npy",
        *(f"{name}.parquet" for name in content.tables),
    )
    seal(folder, [name for name in kept if (folder / name).is_file()])
