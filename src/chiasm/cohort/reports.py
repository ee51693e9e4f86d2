"""Radiology reports of a cohort or of text files, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from chiasm.cohort.store import Cohort
from chiasm.report.files import NamedReport, read_report_files
from chiasm.study import Rejected, Report


def read_reports(path: Path, rejected: list[Rejected]) -> Iterator[NamedReport]:
    """Every report of a cohort, under its study's id, or else of what `read_report_files` reads.

    Args:
        rejected: takes each study without a report, and each file or line that cannot be read.

    Raises:
        CohortError: the cohort is damaged or of another schema; InputError: as `read_report_files`.
    """
    if not (path / "cohort.json").is_file():
        yield from read_report_files(path, rejected)
        return
    cohort = Cohort.open(path)
    columns = {section: cohort.studies[f"report.{section}"] for section in cohort.sections}
    for row, study in enumerate(cohort.studies["study_id"]):
        sections = {
            name: text for name, column in columns.items() if isinstance(text := column.iloc[row], str) and text
        }
        if sections:
            yield NamedReport(str(study), Report(sections))
        else:
            rejected.append(Rejected(str(study), "the study has no report"))
