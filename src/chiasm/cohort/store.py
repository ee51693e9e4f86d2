"""A cohort: plain tables beside pixels, told apart by its hash; on disk, where it is written once and whole, or in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from chiasm.atomic import locked, whole_folder
from chiasm.cohort.arrays import FileArray, MemoryArray, Pixels
from chiasm.cohort.generated import SECTION_KINDS, read_generated
from chiasm.cohort.preprocessing import Preprocessing
from chiasm.cohort.tables import SCHEMA, ColumnInfo, TargetInfo, content_hash, decode_mask, pixel_hash
from chiasm.cohort.write import CohortWriter, Content, show_plane, write_content
from chiasm.errors import CohortError, check_schema
from chiasm.formats.atlas import Atlas
from chiasm.formats.intensity import OFFSET, Intensity, Scale, narrow
from chiasm.geometry import Geometry
from chiasm.seals import FILE, changed, seal
from chiasm.study import (
    Box,
    Finding,
    Image,
    Kind,
    Outcome,
    Record,
    Region,
    Rejected,
    Report,
    State,
    Study,
    Values,
    View,
    html_table,
    shorten,
)

__all__ = [
    "SCHEMA",
    "Cohort",
    "CohortLike",
    "ColumnInfo",
    "TargetInfo",
    "cohort_from_studies",
    "open_cohorts",
    "write_cohort",
]

MEMORY = Path("(in memory)")
"""The path of a cohort that is in no folder."""

_STATES = pa.array([State.ABSENT.value, State.PRESENT.value, State.UNCERTAIN.value])
_DESCRIBED = (
    "schema",
    "size",
    "volume_size",
    "preprocessing",
    "channels",
    "targets",
    "record",
    "facts",
    "reports",
    "bayes",
    "atlas",
)


class Cohort:
    """An imported cohort, opened read-only. A study is its row number in `studies`, an image its row in `images`.

    Tables are read when first asked for; pixels stay on disk until looked at. Studies are sorted by id, images by
    study. `cohort_from_studies` makes one whose tables and pixels are in memory.

    Attributes:
        path: of its folder; `MEMORY` where there is none.
        hash: over content, not over file bytes, times or paths.
        preprocessing: what the import did to pixels, and how they are shown.
        targets, record: what can be learned, and what the chart holds.
        facts: what the source measured on the images; never an input of a network.
        notes: sentences of the source that everyone who uses the cohort must know.
        sections: of the reports, in the order of `chiasm.report.sections.SECTIONS`.
        bayes: modality subsets whose true P(outcome = 1) the cohort knows (phantoms).
        meta: cohort.json as it is.
    """

    def __init__(self, path: Path, meta: dict[str, Any], content: Content | None = None) -> None:
        """Args: content: of a cohort in memory; None for the files at `path`."""
        self.path, self.meta, self._content = path, meta, content
        self.hash: str = meta["hash"]
        self.source: str = meta["source"]
        self.preprocessing = Preprocessing.from_dict(meta["preprocessing"])
        self.size, self.volume_size = self.preprocessing.size, self.preprocessing.volume_size
        self.sections: tuple[str, ...] = tuple(meta["reports"])
        self.bayes: tuple[str, ...] = tuple(meta["bayes"])
        self.targets = {name: TargetInfo.from_dict(name, raw) for name, raw in meta["targets"].items()}
        self.record = {name: ColumnInfo.from_dict(name, raw) for name, raw in meta["record"].items()}
        self.facts = {name: ColumnInfo.from_dict(name, raw) for name, raw in meta["facts"].items()}
        self.notes: tuple[str, ...] = tuple(meta["notes"])
        if content is None:
            file = pq.ParquetFile(path / "studies.parquet")
            self._length: int = file.metadata.num_rows
            self._check_columns(file.schema_arrow.names)
        else:
            self._length = content.tables["studies"].num_rows
        self.arrays: dict[str, NDArray[Any]] = {
            name: self._map(name, meta["counts"][f"images_{ndim}d"], (len(meta["channels"][name]), *self.shape(ndim)))
            for ndim, name in ((2, "pixels_2d"), (3, "pixels_3d"))
            if meta["counts"][f"images_{ndim}d"]
        }

    @classmethod
    def open(cls, path: CohortLike) -> Cohort:
        """Open a cohort folder; a cohort that is open already is taken as it is.

        Raises:
            CohortError: no cohort there, of another schema, or a file of it is missing or damaged.
        """
        if isinstance(path, Cohort):
            return path
        if not isinstance(path, str | PathLike):
            raise CohortError(
                "this is no cohort", expected="a folder, or a chiasm.Cohort", got=f"a {type(path).__name__}"
            )
        path = Path(path)
        if not (path / "cohort.json").is_file():
            raise CohortError(
                "this is no cohort",
                expected="a folder that holds cohort.json",
                got="no such folder" if not path.is_dir() else "a folder without cohort.json",
                where=str(path),
                remedy="make one with: chiasm import SOURCE PATH --out COHORT",
            )
        try:
            meta = json.loads((path / "cohort.json").read_text("utf-8"))
            schema = meta["schema"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _damaged(path / "cohort.json", error) from None
        remedy = f"import it again: chiasm import {meta.get('source', 'SOURCE')} PATH --out COHORT --size {meta.get('size', 224)}"
        check_schema(schema, SCHEMA, CohortError, what="the cohort is", where=str(path), remedy=remedy)
        try:
            return cls(path, meta)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, pa.ArrowException) as error:
            raise _damaged(path, error) from None

    def _check_columns(self, names: Sequence[str]) -> None:
        """Make sure that the table of studies has what cohort.json says of it."""
        wanted = {"study_id", "patient_id", "split", *(f"report.{section}" for section in self.sections)}
        wanted |= {f"{target.name}.{label}" for target in self.targets.values() for label in target.labels}
        wanted |= {f"record.{name}" for name in self.record} | {f"fact.{name}" for name in self.facts}
        if lacking := wanted - {*names}:
            raise CohortError(
                "the cohort is damaged",
                expected="the columns that cohort.json names",
                got=f"{len(lacking)} of them are not in studies.parquet",
                where=str(self.path),
                remedy="import it again",
            )

    @classmethod
    def open_unchanged(cls, path: CohortLike) -> Cohort:
        """Open a cohort that is to be learned from or answered: its files must be those that the import wrote.

        Sizes and times of files are compared, and where they differ the content (a table may be written again, or a folder
        copied).

        Raises:
            CohortError: as `open` and `verify`.
        """
        cohort = cls.open(path)
        if not cohort.in_memory and changed(cohort.path):
            cohort.verify()
            with suppress(OSError):  # not before each use again; a folder that cannot be written can be read
                seal(cohort.path, json.loads((cohort.path / FILE).read_text("utf-8")))
        return cohort

    def __reduce__(self) -> tuple[Callable[..., Cohort], tuple[Any, ...]]:
        if self._content is not None:
            return Cohort, (self.path, self.meta, self._content)
        return Cohort.open, (self.path,)  # a worker process opens it again: mapped pixels are never pickled

    @property
    def in_memory(self) -> bool:
        """Whether it is in no folder: nothing can be kept beside it, such as written texts or cached features."""
        return self._content is not None

    def __repr__(self) -> str:
        counts = self.meta["counts"]
        held = f"{counts['studies']} studies of {counts['patients']} patients, {counts['images']} images"
        return f"<Cohort {self.path} ({self.source}): {held}; targets {shorten(list(self.targets)) or 'none'}>"

    def _repr_html_(self) -> str:
        counts = self.meta["counts"]
        splits = ", ".join(f"{count} {name}" for name, count in counts["splits"].items())
        rows = [
            ("studies", f"{counts['studies']} of {counts['patients']} patients: {splits}"),
            ("images", f"{counts['images_2d']} pictures, {counts['images_3d']} volumes; regions: {counts['regions']}"),
            ("reports", f"{counts['reports']}: {shorten(self.sections)}"),
            ("record", shorten(list(self.record))),
            *((f"target {name}", f"{info.kind}: {shorten(info.labels)}") for name, info in self.targets.items()),
        ]
        return html_table(str(self.path), ("", ""), rows)

    def save(self, out: Path | str) -> Cohort:
        """Write a cohort that is in memory into a new folder, whole or not at all, and open it there: one hash, one content.

        Raises:
            CohortError: `out` is in use, or the cohort is in a folder already.
        """
        if self._content is None:
            raise CohortError("the cohort is in a folder already", where=str(self.path), remedy="copy the folder")
        out = Path(out)
        with whole_folder(out, CohortError) as folder:
            for name, array in self.arrays.items():
                np.save(folder / f"{name}.npy", array, allow_pickle=False)
            write_content(self._content, folder)
        return Cohort.open(out)

    def __len__(self) -> int:
        return self._length

    def _map(self, name: str, count: int, shape: tuple[int, ...]) -> NDArray[Any]:
        if self._content is not None:
            return self._content.arrays[name]
        file = self.path / f"{name}.npy"
        try:
            array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise _damaged(file, error) from None
        dtypes = ("uint8",) if name == "atlas" else ("uint8", "uint16")
        if array.shape != (count, *shape) or array.dtype not in dtypes:
            raise CohortError(
                "a pixel array does not fit its cohort",
                expected=f"{' or '.join(dtypes)} {(count, *shape)}",
                got=f"{array.dtype} {array.shape}",
                where=str(file),
                remedy="import the cohort again",
            )
        return array

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """One of the tables ("studies", "images", "regions") as Arrow, or some of its columns: lighter than pandas.

        Raises:
            CohortError: the file is missing or damaged.
        """
        if self._content is not None:
            whole = self._content.tables[name]
            return whole if columns is None else whole.select(list(columns))
        file = self.path / f"{name}.parquet"
        try:
            table = pq.read_table(file, columns=None if columns is None else list(columns))
            table.validate(full=True)  # else a text that is none is met where nobody expects it
            return table
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise _damaged(file, error) from None

    def parts(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of `studies`, some thousand rows at a time: what is only passed through need not be held."""
        if self._content is not None:
            yield from self.table("studies", columns).to_batches(4096)
            return
        file = self.path / "studies.parquet"
        try:
            with pq.ParquetFile(file) as reader:
                yield from reader.iter_batches(4096, columns=list(columns))
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise _damaged(file, error) from None

    def _frame(self, name: str) -> pd.DataFrame:
        """A table in pandas; a missing text is None, a missing number NaN."""
        table = self.table(name)
        columns = {}
        for column, values in zip(table.column_names, table.columns, strict=True):
            as_numpy = values.to_numpy()
            columns[column] = pd.Series(as_numpy, dtype=object if as_numpy.dtype == object else None)
        return pd.DataFrame(columns)

    @cached_property
    def atlas(self) -> NDArray[np.uint8] | None:
        """[D, H, W] numbered regions on the grid of the stored volumes, or None; their names and place are in `meta`."""
        return self._map("atlas", 1, self.volume_size)[0] if "atlas" in self.meta else None

    @property
    def region_names(self) -> dict[int, str]:
        """Number -> name of the regions of the atlas; {} without one."""
        return {int(number): name for number, name in self.meta.get("atlas", {"names": {}})["names"].items()}

    @cached_property
    def studies(self) -> pd.DataFrame:
        return self._frame("studies")

    @cached_property
    def images(self) -> pd.DataFrame:
        return self._frame("images")

    @cached_property
    def regions(self) -> pd.DataFrame:
        return self._frame("regions")

    @cached_property
    def people(self) -> NDArray[np.str_]:
        """[n] "SOURCE/PATIENT": two cohorts of one source may hold the same person, two sources name theirs alike by chance."""
        patients = self.table("studies", ["patient_id"])["patient_id"].to_pylist()
        return np.array([f"{self.source}/{patient}" for patient in patients], dtype=np.str_)

    @cached_property
    def image_study(self) -> NDArray[np.int64]:
        """[n_images] the study row of each image row, ascending."""
        studies = self.table("studies", ["study_id"])["study_id"].combine_chunks()
        found = pc.index_in(self.table("images", ["study_id"])["study_id"], value_set=studies)
        rows = np.asarray(found.to_numpy(), np.int64)
        if (np.diff(rows) < 0).any():
            raise _damaged(self.path / "images.parquet", ValueError("images are not in the order of studies"))
        return rows

    @cached_property
    def _arrow(self) -> dict[str, pa.Table]:
        return {name: self.table(name).combine_chunks() for name in ("studies", "images", "regions")}

    def _row(self, name: str, row: int) -> dict[str, Any]:
        found: dict[str, Any] = self._arrow[name].slice(row, 1).to_pylist()[0]
        return found

    @cached_property
    def _regions_of(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for row, image_id in enumerate(self._arrow["regions"]["image_id"].to_pylist()):
            rows.setdefault(image_id, []).append(row)
        return rows

    def rows(self, split: str) -> NDArray[np.int64]:
        """The study rows of "train", "validation" or "test"."""
        return np.flatnonzero(pc.equal(self.table("studies", ["split"])["split"], split).to_numpy())

    def image_rows(self, row: int) -> list[int]:
        """The image rows of a study."""
        return list(range(*np.searchsorted(self.image_study, (row, row + 1)).tolist()))

    def shape(self, ndim: int) -> tuple[int, ...]:
        """Of a stored image (ndim 2) or volume (ndim 3), without its channels."""
        return self.preprocessing.shape(ndim)

    def pixels(self, image_row: int) -> NDArray[np.uint8]:
        """[H, W] or [D, H, W] 0 .. 255, as a person sees the first channel: of 8 bits a view of the file, not a copy."""
        image = self._row("images", image_row)
        windows = self.preprocessing.intensity.of(image["dicom_modality"]).windows
        return show_plane(self.arrays[image["array"]][image["index"]], Scale(image["scale"]), windows)

    def stored(self, image_row: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """[C, H, W] or [C, D, H, W]: the values of an image in as many bits as it has."""
        image = self._row("images", image_row)
        return _own_bits(self.arrays[image["array"]][image["index"]], image["scale"])

    def array(self, ndim: int) -> NDArray[Any]:
        """All stored images [n, C, H, W] (ndim 2) or volumes [n, C, D, H, W] (ndim 3); `images.index` points into it.

        uint8, or uint16 where an image needs it: then those of 8 bits stand in it as `chiasm.formats.intensity.widen`
        makes them. `chiasm.encoding.images` shows them as a model sees them.
        """
        return self.arrays.get(f"pixels_{ndim}d", np.empty((0, 1, *self.shape(ndim)), np.uint8))

    def geometry(self, image_row: int) -> Geometry:
        return Geometry.from_json(self._row("images", image_row)["geometry"])

    def labels(
        self,
        target: str,
        labels: Sequence[str],
        uncertain: str = "ignore",
        words: Sequence[Sequence[float | str]] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Truth of one target: [n, L] values (0 where masked) and [n, L] mask. A label the cohort lacks is all masked.

        A class is the number of its word; a time is positive where the event happened then, negative where it had not.

        Args:
            uncertain: "ignore" masks a hedged finding; "positive" and "negative" count it as 1 and 0.
            words: multiclass: of each label, the words in the order of their numbers; another word has the number after the
                last. None: those of the cohort.
        """
        values = np.full((len(self), len(labels)), np.nan)
        info = self.targets.get(target)
        known = [(i, label) for i, label in enumerate(labels) if info and label in info.labels]
        hedged = {"ignore": np.nan, "positive": 1.0, "negative": 0.0}[uncertain]
        meaning = np.array([0.0, 1.0, hedged, np.nan])  # of absent, present, uncertain, not mentioned
        timed = info is not None and info.kind is Kind.SURVIVAL
        names = [f"{target}.{label}" for _, label in known]
        table = self.table("studies", [*names, *(f"{name}.event" for name in names if timed)])
        for (i, label), name in zip(known, names, strict=True):
            column = table[name]
            if info is not None and info.of == "findings":
                codes = pc.index_in(column, value_set=_STATES)
                values[:, i] = meaning[pc.fill_null(codes, len(_STATES)).to_numpy()]
            elif info is not None and info.kind is Kind.MULTICLASS:
                own = list(info.classes[info.labels.index(label)] if words is None else words[i])
                codes = pc.fill_null(pc.index_in(column, value_set=pa.array(own, pa.string())), len(own))
                values[:, i] = np.where(column.is_null().to_numpy(), np.nan, codes.to_numpy())
            elif timed:
                event = pc.fill_null(table[f"{name}.event"], True).to_numpy()
                values[:, i] = np.where(event, 1.0, -1.0) * column.to_numpy()
            else:
                values[:, i] = column.to_numpy()
        mask = ~np.isnan(values)
        return np.where(mask, values, 0).astype(np.float32), mask

    def texts(self, sections: Sequence[str]) -> list[str]:
        """Of each study, these sections in this order, joined by newlines; "" where it has none of them."""
        return [text for part in self.text_parts(sections) for text in part]

    def text_parts(self, sections: Sequence[str]) -> Iterator[list[str]]:
        """`texts`, some thousand at a time; sections of `chiasm.cohort.generated.SECTION_KINDS` are what writers made.

        Beside a cohort in memory nothing is written: such a text is a section of the study's report there.
        """
        written = () if self.in_memory else [name for name in sections if name in SECTION_KINDS]
        made = {name: read_generated(self.path, name) for name in written}
        known = [name for name in sections if name in self.sections or made.get(name)]
        if not known:
            yield [""] * len(self)
            return
        for part in self.parts(["study_id", *(f"report.{name}" for name in known if name not in made)]):
            ids = part["study_id"].to_pylist()
            columns = [
                [made[name].get(study) for study in ids] if name in made else part[f"report.{name}"].to_pylist()
                for name in known
            ]
            yield ["\n".join(filter(None, texts)) for texts in zip(*columns, strict=True)]

    def regions_of(self, image_row: int) -> list[Region]:
        """Every region drawn in an image, in the original frame."""
        rows = self._regions_of.get(self._row("images", image_row)["image_id"], [])
        return [_region(row) for row in self._arrow["regions"].take(pa.array(rows, pa.int64())).to_pylist()]

    def boxes(self, image_row: int, target: str, label: str) -> NDArray[np.float64]:
        """[k, 4] boxes of a label in pixels of the original; a mask without a box counts by its bounding box."""
        boxes = []
        for region in self.regions_of(image_row):
            if (region.target, region.label) == (target, label):
                box = region.box if region.mask is None or region.box else bounding_box(region.mask)
                boxes += [box] if box else []
        return np.array(boxes, np.float64).reshape(-1, 4)

    def mask(self, image_row: int, target: str, label: str) -> NDArray[np.bool_] | None:
        """[H, W] or [D, H, W] in the original frame: the union of a label's masks and of its boxes without mask.

        A box holds the pixels whose centres it holds. None where no region was drawn.
        """
        found = [r for r in self.regions_of(image_row) if (r.target, r.label) == (target, label)]
        if not found:
            return None
        union = np.zeros(self.geometry(image_row).original_shape, bool)
        x, y = np.arange(union.shape[-1]) + 0.5, np.arange(union.shape[-2]) + 0.5
        for region in found:
            if region.mask is not None:
                union |= region.mask
            elif region.box is not None:
                x_min, y_min, x_max, y_max = region.box
                union |= np.logical_and.outer((y >= y_min) & (y < y_max), (x >= x_min) & (x < x_max))
        return union

    def study(self, row: int) -> Study:
        """The whole noun again; pixels are the stored ones, and geometry leads from them to the original."""
        values = self._row("studies", row)
        image_rows = self.image_rows(row)
        sections = {name: text for name in self.sections if (text := values[f"report.{name}"])}
        record = {name: values[f"record.{name}"] for name in self.record}
        findings, outcomes = [], []
        for target, info in self.targets.items():
            for label, reader in zip(info.labels, info.readers, strict=True):
                value = values[f"{target}.{label}"]
                if info.of == "outcomes":
                    event = values.get(f"{target}.{label}.event")
                    outcomes.append(Outcome(label, value, info.kind, target, reader, event))
                elif value is not None:
                    findings.append(Finding(label, State(value), target, reader))
        return Study(
            values["study_id"],
            values["patient_id"],
            images=tuple(self._image(i) for i in image_rows),
            report=Report(sections, values["report_image_id"]) if sections else None,
            record=Record(record, frozenset(n for n in record if self.record[n].unknown_time)) if record else None,
            findings=tuple(findings),
            regions=tuple(region for i in image_rows for region in self.regions_of(i)),
            outcomes=tuple(outcomes),
            split=values["split"],
            bayes={subset: p for subset in self.bayes if (p := values[f"bayes.{subset}"]) is not None},
            facts={name: values[f"fact.{name}"] for name in self.facts},
        )

    def _image(self, image_row: int) -> Image:
        row, values = self._row("images", image_row), Values.STORED
        pixels: NDArray[np.generic] = self.stored(image_row)
        if row["scale"] == Scale.MODALITY:
            pixels, values = self.stored(image_row).astype(np.int32) - OFFSET, Values.MODALITY
        return Image(
            row["image_id"],
            pixels[0] if len(pixels) == 1 else pixels,
            self.geometry(image_row),
            View(row["view"]),
            row["dicom_modality"],
            row["source"],
            row["name"],
            values,
            body_part=row["body_part"],
        )

    def verify(self) -> None:
        """Compute the hash again from every pixel and every table.

        Raises:
            CohortError: something was changed since the import.
        """
        tables = {name: self.table(name) for name in ("studies", "images", "regions")}
        for row, expected in enumerate(tables["images"]["pixel_hash"].to_pylist()):
            if pixel_hash(self.stored(row)) != expected:
                raise _changed(self, f"the pixels of image row {row}")
        if self.atlas is not None and pixel_hash(self.atlas) != self.meta["atlas"]["pixel_hash"]:
            raise _changed(self, "the atlas")
        if content_hash(tables, {key: self.meta[key] for key in _DESCRIBED if key in self.meta}) != self.hash:
            raise _changed(self, "the tables or cohort.json")


CohortLike = Cohort | PathLike[str] | str
"""A cohort that is open, or the folder of one."""


def write_cohort(
    studies: Iterable[Study | Rejected],
    out: Path | str,
    *,
    source: str,
    options: Mapping[str, Any],
    size: int = 224,
    volume_size: tuple[int, ...] = (64, 64, 64),
    split: str = "auto",
    seed: int = 0,
    strict: bool = False,
    progress: Callable[[int], None] | None = None,
    notes: Sequence[str] = (),
    atlas: Atlas | None = None,
    intensity: Intensity | None = None,
    crop: str = "",
    channels: Sequence[str] = (),
    slices_mm: Sequence[float] = (),
) -> Cohort:
    """Write studies as a cohort, streaming: pixels go to disk as they arrive. The folder appears whole or not at all.

    A killed import leaves OUT.partial and OUT.lock, which the next one removes.

    Args:
        options: of the source, kept in cohort.json; must be JSON.
        size, volume_size: pixels of a stored image (size x size) and volume.
        split: "published", "hash" (70/10/20 by patient), "boxes-to-test" (every patient with regions is tested, the
            others by hash), or "auto": published if every study has one, else hash.
        strict: make the first rejected input an error.
        progress: called with the number of studies so far.
        notes: sentences that everyone who uses the cohort must know, kept in cohort.json.
        atlas: of the space in which all volumes lie.
        intensity, crop, channels, slices_mm: as in `Preprocessing`; the default rules if None.

    Raises:
        CohortError: `out` is in use, no study could be used, or a target or column is of two kinds.
        InputError: something was rejected, and `strict` is set.
    """
    json.dumps(dict(options))  # fails now rather than after hours
    out = Path(out)
    lock = locked(out.with_name(f"{out.name}.lock"), CohortError, "another import is writing this cohort")
    with lock, whole_folder(out, CohortError) as folder, ExitStack() as files:

        def new_array(name: str, shape: tuple[int, ...]) -> Pixels:
            return files.enter_context(FileArray(folder / f"{name}.npy", shape))

        preprocessing = Preprocessing(
            size, tuple(volume_size), intensity or Intensity(), crop, tuple(channels), tuple(slices_mm)
        )
        writer = CohortWriter(new_array, preprocessing, split, seed, strict)
        for study in studies:
            writer.add(study)
            if progress is not None:
                progress(writer.seen)
        content = writer.finish(source=source, options=options, notes=notes, atlas=atlas)
        write_content(content, folder)
    return Cohort.open(out)


def cohort_from_studies(
    studies: Iterable[Study | Rejected],
    *,
    source: str = "memory",
    options: Mapping[str, Any] | None = None,
    size: int = 224,
    volume_size: tuple[int, ...] = (64, 64, 64),
    split: str = "auto",
    seed: int = 0,
    strict: bool = False,
    notes: Sequence[str] = (),
    atlas: Atlas | None = None,
    intensity: Intensity | None = None,
    crop: str = "",
    channels: Sequence[str] = (),
    slices_mm: Sequence[float] = (),
) -> Cohort:
    """Make a cohort in memory, equal to the one that `write_cohort` writes of the same arguments. It touches no disk.

    Raises:
        CohortError: no study could be used, or a target or column is of two kinds.
        InputError: something was rejected, and `strict` is set.
    """
    preprocessing = Preprocessing(
        size, tuple(volume_size), intensity or Intensity(), crop, tuple(channels), tuple(slices_mm)
    )
    writer = CohortWriter(lambda name, shape: MemoryArray(), preprocessing, split, seed, strict)
    for study in studies:
        writer.add(study)
    content = writer.finish(source=source, options=options or {}, notes=notes, atlas=atlas)
    return Cohort(MEMORY, content.meta, content)


def listed(given: Any) -> list[Any]:
    """One thing as a list of it, several as a list; a text, a path or a recipe is one.

    >>> listed("run"), listed(["run", "other"])
    (['run'], ['run', 'other'])
    """
    return list(given) if isinstance(given, list | tuple | set | dict | Iterator) else [given]


def open_cohorts(cohorts: CohortLike | Sequence[CohortLike], *, on_disk: bool = False) -> list[Cohort]:
    """One cohort or several, each a folder or open already.

    Args:
        on_disk: a run is to name them, so each must be in a folder, unchanged since its import.

    Raises:
        CohortError: as `Cohort.open`; none; or, if `on_disk`, one is in memory.
    """
    opened = [Cohort.open(cohort) for cohort in listed(cohorts)]
    if not opened:
        raise CohortError("no cohort is named", expected="one, or a list", got="an empty list")
    if on_disk and any(cohort.in_memory for cohort in opened):
        raise CohortError(
            "the cohort is in memory alone, and what is made of it must find it again",
            expected="a cohort in a folder",
            remedy='cohort = cohort.save("FOLDER")',
        )
    return [Cohort.open_unchanged(cohort) for cohort in opened] if on_disk else opened


def _own_bits(pixels: NDArray[Any], scale: str) -> NDArray[Any]:
    return narrow(pixels) if scale == Scale.UINT8 and pixels.dtype != np.uint8 else pixels


def bounding_box(mask: NDArray[np.bool_]) -> Box | None:
    """The box around a mask [H, W] or [D, H, W] (in the plane of its last two axes), or None if it is empty."""
    y, x = np.nonzero(mask)[-2:]
    return (float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1)) if len(x) else None


def _region(row: Mapping[str, Any]) -> Region:
    box = None if row["x_min"] is None else (row["x_min"], row["y_min"], row["x_max"], row["y_max"])
    mask = None if row["rle"] is None else decode_mask(row["rle"], row["mask_shape"])
    phrase = row.get("phrase", "")  # earlier cohorts have none
    return Region(row["label"], row["image_id"], box, mask, row["target"], row["reader"], phrase=phrase)


def _damaged(path: Path, error: Exception) -> CohortError:
    return CohortError(
        "the cohort is damaged",
        got=f"{type(error).__name__}: {error}".splitlines()[0],
        where=str(path),
        remedy="import it again",
    )


def _changed(cohort: Cohort, what: str) -> CohortError:
    return CohortError(
        "the cohort was changed after its import",
        expected=f"hash {cohort.hash}",
        got=f"{what} differ",
        where=str(cohort.path),
        remedy="import it again; models trained on it name the hash they were trained on",
    )
