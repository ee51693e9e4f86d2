"""Open-i's Indiana University chest X-rays (Demner-Fushman et al. 2016): XML reports, with or without their images.

    *.xml                         in any folders, or in a zip (ecgen-radiology.zip)
    PNG or JPEG, optional         in any folders, named as the report's parentImage ids (CXR1_1_IM-0001-3001.png) or as
                                  Kaggle's copy has them (1_IM-0001-3001.dcm.png)
    gold-labels.csv               optional: filename (CXR<n> for <n>.xml) and 14 findings as 0 or 1
    indiana_projections.csv       optional: filename, projection (Frontal or Lateral)

A study is one report with its images, none to five. There is no patient id: every report is a patient of its own, so two
visits of one person may stand on both sides of a split.

Of the XML only the four parts of the abstract are taken, as the sections "comparison", "indication", "findings" and
"impression". The MeSH block is where the gold comes from; neither it nor a caption ever reaches the report. A report
without any text is kept when it has images.

The gold knows no doubt: 1 is present and 0 absent, reader "mesh". A report without a gold row has no labels. Frontal images
are PA or AP where the caption names one of them, and all views are "other" where nothing tells them apart.
"""

from __future__ import annotations

import logging
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from chiasm.errors import ImageError, InputError
from chiasm.formats.cells import Files, Row, find_table, read_rows, reason
from chiasm.formats.pixels import read_image
from chiasm.geometry import Geometry
from chiasm.report.files import LARGEST_XML, openi_id, openi_sections, parse_openi_xml
from chiasm.report.findings import label_report
from chiasm.sources.registry import Source
from chiasm.study import Finding, Image, Rejected, Report, State, Study, View
from chiasm.vocabulary import scheme

ABOUT = "Open-i (Indiana University): chest X-ray reports as XML with human MeSH labels, with or without images"
LABELS_FROM = ("auto", "gold", "report", "none")
_GOLD = {name: own for name, own in scheme("chestxray14").items() if name != "normal"}
_KEY = re.compile(r"\d+_IM-[^.]*")
_log = logging.getLogger(__name__)


@dataclass
class _Beside:
    """What lies beside the reports; images and views go by the part of the name that all copies share (1_IM-0001-3001).

    Attributes:
        gold: report id -> its row, until a report takes it.
        lateral: key -> whether the image is a lateral one.
    """

    folder: Path
    images: dict[str, Path] = field(default_factory=dict)
    used: set[Path] = field(default_factory=set)
    gold: dict[str, Row] = field(default_factory=dict)
    from_report: bool = False
    lateral: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class _Xml:
    report_id: str
    sections: dict[str, str]
    captions: dict[str, str]
    """Image id -> caption."""


def read(path: Path, *, label_from: str = "auto") -> Iterator[Study | Rejected]:
    """One study a report, by number.

    Args:
        path: a folder with the reports, loose or zipped, and what lies beside them; or the zip itself (without images).
        label_from: "gold", from gold-labels.csv; "report", by `chiasm.report.findings.label_report`; "none"; or "auto": gold
            where the table is there, else report.

    Raises:
        InputError: no reports, no gold where it is asked for, or another choice of labels.
        TableError: a table lacks a column.
    """
    if label_from not in LABELS_FROM:
        raise InputError(
            "There is no such choice", expected=", ".join(LABELS_FROM), got=label_from, where="option label_from"
        )
    if not path.exists():
        expected = "a folder of XML reports, or a zip of them"
        raise InputError("The source is not there", expected=expected, got="no such path", where=str(path))
    beside = _Beside(path if path.is_dir() else path.parent)
    files = Files([path] if path.is_dir() else [])
    yield from _read_gold(label_from, beside)
    yield from _read_projections(beside)
    for file in files.left():
        if match := _KEY.search(file.name):
            beside.images.setdefault(match.group(), file)
    seen = set()
    with ExitStack() as stack:
        for where, open_ in _find_reports(path, stack):
            try:
                xml = _parse(open_)
                if xml.report_id in seen:
                    raise InputError("the report id repeats an earlier report's")
                seen.add(xml.report_id)
                yield from _study(where, xml, beside)
            except InputError as error:
                yield Rejected(where, reason(error))
    if not seen:
        raise InputError("There are no reports", expected="XML files, or a zip of them", where=str(path))
    for file in files.left():
        if file not in beside.used:
            yield Rejected(str(file.relative_to(path)), "no report names this image")
    for row in beside.gold.values():
        yield Rejected(row.where, "there is no report of this name")
    if not beside.images:
        _log.warning("there are no images beside the reports: the cohort holds text alone")


def _study(where: str, xml: _Xml, beside: _Beside) -> Iterator[Study | Rejected]:
    """The study, and each image of it that is lost."""
    images, lost = [], []
    for image_id, caption in xml.captions.items() if beside.images else ():
        match = _KEY.search(image_id)
        key = match.group() if match else image_id
        if (file := beside.images.get(key)) is None:
            lost.append(Rejected(f"{where}, image {image_id}", "the image file is not there"))
            continue
        beside.used.add(file)
        source = str(file.relative_to(beside.folder))
        try:
            pixels = read_image(file)
        except ImageError as error:
            lost.append(Rejected(source, reason(error)))
            continue
        view = _view(caption, beside.lateral.get(key), alone=len(xml.captions) == 1)
        images.append(Image(image_id, pixels, Geometry.identity(pixels.shape), view, "DX", source))
    gold = beside.gold.pop(xml.report_id, None)
    yield from lost
    if not images and not xml.sections:
        raise InputError("the report is empty, and has no image")
    report = Report(xml.sections) if xml.sections else None
    findings = _gold_findings(gold) if gold else []
    if beside.from_report and report:
        named = [finding for finding in label_report(report) if finding.state is not State.NOT_MENTIONED]
        findings = [finding for finding in named if finding.name != "normal"]
    yield Study(xml.report_id, xml.report_id, tuple(images), report, None, tuple(findings))
    yield from gold.rejected if gold else ()


def _view(caption: str, lateral: bool | None, alone: bool) -> View:
    """One caption stands for all images of a report, so it names a view only where the image is known to be frontal."""
    words = set(re.findall(r"[a-z]+", caption.lower()))
    if lateral:
        return View.LATERAL
    if lateral is None and (not alone or words & {"lateral", "lat"}):
        return View.OTHER
    named = words & {"pa", "ap"}
    return View(named.pop()) if len(named) == 1 else View.OTHER


def _gold_findings(row: Row) -> list[Finding]:
    answers = {name: row.yes_no(own) for name, own in _GOLD.items()}
    states = {name: State.PRESENT if answer else State.ABSENT for name, answer in answers.items() if answer is not None}
    return [Finding(name, state, reader="mesh") for name, state in states.items()]


def _read_gold(label_from: str, beside: _Beside) -> Iterator[Rejected]:
    table = find_table(beside.folder, "gold-labels.csv") if label_from in ("auto", "gold") else None
    if label_from == "gold" and table is None:
        raise InputError("There are no gold labels", expected="gold-labels.csv", where=str(beside.folder))
    beside.from_report = label_from == "report" or (label_from == "auto" and table is None)
    if label_from == "auto":
        _log.info(
            "labels are from %s", "the reports, by the finding labeler" if beside.from_report else "gold-labels.csv"
        )
    for row in read_rows(table, ("filename", *_GOLD.values()), key="filename") if table else ():
        if isinstance(row, Rejected):
            yield row
        else:
            beside.gold[row.cells["filename"].strip()] = row


def _read_projections(beside: _Beside) -> Iterator[Rejected]:
    table = find_table(beside.folder, "indiana_projections.csv")
    for row in read_rows(table, ("filename", "projection"), key="filename") if table else ():
        if isinstance(row, Rejected):
            yield row
            continue
        word, match = (row.text("projection") or "").lower(), _KEY.search(row.cells["filename"])
        if match is None or word not in ("frontal", "lateral"):
            yield Rejected(row.where, "no image name of Open-i, or neither frontal nor lateral")
        else:
            beside.lateral[match.group()] = word == "lateral"


def _find_reports(path: Path, stack: ExitStack) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    """Where a report is, and how to open it; loose files go before zips."""

    def number(name: str) -> tuple[float, str]:
        stem = Path(name).stem
        return float(stem) if stem.isdecimal() else float("inf"), name

    if loose := [str(file.relative_to(path)) for file in path.rglob("*.xml")]:
        for name in sorted(loose, key=number):
            yield name, partial(_open, path / name)
        return
    for archive in [path] if path.is_file() else sorted(path.glob("*.zip")):
        try:
            opened = stack.enter_context(zipfile.ZipFile(archive))
        except zipfile.BadZipFile as error:
            raise InputError("The zip cannot be read", got=str(error), where=str(archive)) from None
        for name in sorted((name for name in opened.namelist() if name.endswith(".xml")), key=number):
            yield f"{archive.name}: {name}", partial(opened.open, name)


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")


def _parse(open_: Callable[[], IO[bytes]]) -> _Xml:
    """Read one report."""
    try:
        with open_() as file:
            data = file.read(LARGEST_XML + 1)
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise InputError("the XML cannot be read", got=type(error).__name__) from None
    root = parse_openi_xml(data)
    captions = {image.get("id") or "": image.findtext("caption") or "" for image in root.iterfind("parentImage")}
    return _Xml(openi_id(root), openi_sections(root), captions)


SOURCE = Source("openi", ABOUT, read)
