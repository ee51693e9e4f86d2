"""MIMIC-CXR and MIMIC-CXR-JPG (Johnson et al. 2019), in the published layout.

    files/p10/p10000032/s50414267/<dicom_id>.jpg       the images of a study
    files/p10/p10000032/s50414267.txt                  its report, in the same tree or in one of its own beside it
    mimic-cxr-2.0.0-metadata.csv(.gz)                  optional: dicom_id, subject_id, study_id, ViewPosition
    mimic-cxr-2.0.0-split.csv(.gz)                     optional: the published split, by patient
    mimic-cxr-2.0.0-chexpert.csv(.gz), -negbio.csv(.gz)    optional: 14 labels a study: 1, 0, -1 or blank

The trees may lie anywhere in the folder: what counts are the names p<subject>/s<study>. Study and patient ids are the bare
numbers, as in the tables. A study is all its images and its report; one that lacks either is kept with what it has, and
where there are no images or no reports at all, that is said once.

Labels: 1 is present, 0 absent, -1 uncertain, blank not mentioned; reader "chexpert" or "negbio". "No Finding" follows from
the others and is no label. The cohort holds the JPG's gray values, as published.
"""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from chiasm.errors import ImageError, InputError
from chiasm.formats.cells import Row, check_folder, find_table, read_rows, reason
from chiasm.formats.pixels import SUFFIXES, read_image
from chiasm.geometry import Geometry
from chiasm.report.findings import label_report
from chiasm.report.sections import split_sections
from chiasm.sources.registry import Source
from chiasm.study import Finding, Image, Rejected, Report, State, Study, View
from chiasm.vocabulary import scheme

ABOUT = "MIMIC-CXR: chest X-rays with free-text reports, CheXpert or NegBio labels and the published split"
LABELS_FROM = ("auto", "chexpert", "negbio", "report", "none")
_LABELS = {name: own for name, own in scheme("chexpert").items() if name != "normal"}
_STATES = {1.0: State.PRESENT, 0.0: State.ABSENT, -1.0: State.UNCERTAIN}
_SPLITS = {"train": "train", "validate": "validation", "test": "test"}
_VIEWS = {"PA": View.PA, "AP": View.AP, "LATERAL": View.LATERAL, "LL": View.LATERAL, "RL": View.LATERAL}
_log = logging.getLogger(__name__)


@dataclass
class _Entry:
    """What trees and tables say of one study.

    Attributes:
        patients: the subjects it is filed under; more than one is an error.
        views: dicom_id -> view, of the images that a table lists.
    """

    patients: set[str] = field(default_factory=set)
    images: list[Path] = field(default_factory=list)
    report: Path | None = None
    views: dict[str, View] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


@dataclass
class _Archive:
    path: Path
    entries: dict[str, _Entry] = field(default_factory=lambda: defaultdict(_Entry))
    splits: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Patient -> the parts of the published split."""
    listed: bool = False
    """Whether a table lists the images."""
    from_report: bool = False


def read(path: Path, *, label_from: str = "auto") -> Iterator[Study | Rejected]:
    """One study with all its images, by study id.

    Args:
        label_from: "chexpert", "negbio", "report" (`chiasm.report.findings.label_report`), "none", or "auto": chexpert
            where the table is there, else report.

    Raises:
        InputError: no such folder, no study in it, no table where one is asked for, or another choice of labels.
        TableError: a table lacks a column.
    """
    if label_from not in LABELS_FROM:
        expected = ", ".join(LABELS_FROM)
        raise InputError("There is no such choice", expected=expected, got=label_from, where="option label_from")
    archive = _Archive(check_folder(path, "files/p10/p1.../s5..., and the mimic-cxr-2.0.0 tables"))
    _walk(archive)
    if not archive.entries:
        raise InputError("There are no studies", expected="files/p10/p1.../s5...", where=str(path))
    yield from _read_images(archive)
    yield from _read_split(archive)
    has_images = any(entry.images for entry in archive.entries.values())
    if not has_images:
        _log.warning("there are no images in the tree: the cohort holds text alone")
    if not any(entry.report for entry in archive.entries.values()):
        _log.warning("there are no reports in the tree: the cohort holds images alone")
    yield from _read_labels(archive, label_from)
    for study_id in sorted(archive.entries):
        yield from _study(study_id, archive, has_images)


def _study(study_id: str, archive: _Archive, has_images: bool) -> Iterator[Study | Rejected]:
    """The study, and each file of it that is lost."""
    entry = archive.entries.pop(study_id)
    where = f"p{min(entry.patients)}/s{study_id}"
    parts = archive.splits.get(min(entry.patients), set())
    if len(entry.patients) > 1:
        yield Rejected(where, "the study is filed under several patients")
        return
    if archive.splits and len(parts) != 1:
        yield Rejected(where, f"the patient is in {len(parts)} parts of the published split, not in one")
        return
    images = []
    for file in sorted(entry.images):
        source = str(file.relative_to(archive.path))
        if archive.listed and file.stem not in entry.views:
            yield Rejected(source, "no table lists this image")
            continue
        view = entry.views.pop(file.stem, View.OTHER)
        try:
            pixels = read_image(file)
        except ImageError as error:
            yield Rejected(source, reason(error))
            continue
        images.append(Image(file.stem, pixels, Geometry.identity(pixels.shape), view, "DX", source))
    if has_images:
        for dicom_id in sorted(entry.views):
            yield Rejected(f"{where}/{dicom_id}", "the image file is not there")
    report = None
    if entry.report is not None:
        try:
            report = _read_report(entry.report)
        except InputError as error:
            yield Rejected(str(entry.report.relative_to(archive.path)), reason(error))
    if not images and report is None:
        yield Rejected(where, "neither an image nor a report is there")
        return
    findings = entry.findings
    if archive.from_report and report is not None:
        named = [finding for finding in label_report(report, list(_LABELS)) if finding.state is not State.NOT_MENTIONED]
        findings = tuple(named)
    split = _SPLITS[min(parts)] if parts else None
    yield Study(study_id, min(entry.patients), tuple(images), report, None, findings, split=split)


def _read_report(file: Path) -> Report:
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("the report cannot be read", got=type(error).__name__) from None
    sections = split_sections(text)
    if not sections:
        raise InputError("the report is empty")
    return Report(sections)


def _walk(archive: _Archive) -> None:
    """Enter every image and report whose folder is named after a subject and a study."""
    for parent, _, names in os.walk(archive.path):
        folder = Path(parent)
        if re.fullmatch(r"p\d{3,}", folder.name):
            for name in names:
                if match := re.fullmatch(r"s(\d+)\.txt", name):
                    archive.entries[match[1]].patients.add(folder.name[1:])
                    archive.entries[match[1]].report = folder / name
        elif re.fullmatch(r"s\d+", folder.name) and re.fullmatch(r"p\d{3,}", folder.parent.name):
            entry = archive.entries[folder.name[1:]]
            entry.patients.add(folder.parent.name[1:])
            entry.images += [folder / name for name in names if Path(name).suffix.lower() in SUFFIXES]


def _table(archive: _Archive, name: str) -> Path | None:
    return find_table(archive.path, f"mimic-cxr-*{name}.csv", f"mimic-cxr-*{name}.csv.gz")


def _read_images(archive: _Archive) -> Iterator[Rejected]:
    """The images that a table lists, with their views if it is the table of metadata."""
    metadata, split = _table(archive, "metadata"), _table(archive, "split")
    table = metadata or split
    if table is None:
        _log.warning("there is no table of metadata: views are unknown")
        return
    archive.listed = True
    columns = ("dicom_id", "subject_id", "study_id", *(("ViewPosition",) if metadata else ()))
    for row in read_rows(table, columns, key="dicom_id"):
        if isinstance(row, Rejected):
            yield row
            continue
        patient, study = row.text("subject_id"), row.text("study_id")
        if patient is None or study is None:
            yield Rejected(row.where, "subject_id or study_id is missing")
            continue
        entry = archive.entries[study]
        entry.patients.add(patient)
        entry.views[row.cells["dicom_id"].strip()] = _VIEWS.get((row.text("ViewPosition") or "").upper(), View.OTHER)


def _read_split(archive: _Archive) -> Iterator[Rejected]:
    table = _table(archive, "split")
    for row in read_rows(table, ("subject_id", "split")) if table else ():
        if isinstance(row, Rejected):
            yield row
            continue
        patient, part = row.text("subject_id"), row.text("split")
        if patient is None or part not in _SPLITS:
            yield Rejected(row.where, f"subject_id is missing, or the split is none of {', '.join(_SPLITS)}")
        else:
            archive.splits[patient].add(part)


def _read_labels(archive: _Archive, label_from: str) -> Iterator[Rejected]:
    reader = "negbio" if label_from == "negbio" else "chexpert"
    table = _table(archive, reader)
    if table is None and label_from == reader:
        expected = f"mimic-cxr-2.0.0-{reader}.csv.gz"
        raise InputError("There are no labels", expected=expected, where=str(archive.path))
    archive.from_report = label_from == "report" or (label_from == "auto" and table is None)
    if table is None or label_from in ("report", "none"):
        return
    strange = 0
    for row in read_rows(table, ("study_id", *_LABELS.values()), key="study_id"):
        if isinstance(row, Rejected):
            yield row
            continue
        if (study := row.cells["study_id"].strip()) not in archive.entries:
            strange += 1
            continue
        archive.entries[study].findings = _findings(row, reader)
        yield from row.rejected
    if strange:
        _log.warning("%d rows of %s are of studies that are not here", strange, table.name)


def _findings(row: Row, reader: str) -> tuple[Finding, ...]:
    findings = []
    for name, own in _LABELS.items():
        if (value := row.number(own, -1, 1)) is None:
            continue
        if value in _STATES:
            findings.append(Finding(name, _STATES[value], reader=reader))
        else:
            row.reject(own, "the label is none of 1, 0, -1 and blank: treated as not mentioned")
    return tuple(findings)


SOURCE = Source("mimic-cxr", ABOUT, read)
