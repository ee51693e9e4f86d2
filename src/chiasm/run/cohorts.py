"""What a run records of the cohorts it was trained on, and these cohorts opened again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chiasm.cohort.generated import SECTION_KINDS, check_texts, hash_texts
from chiasm.cohort.store import Cohort
from chiasm.documents import STRICT
from chiasm.errors import CohortError


@dataclass(frozen=True)
class RecordedCohort:
    """A cohort as a run or an evaluation records it.

    Attributes:
        path, source: where it is, and what made it; hash: over its content.
        preprocessing: what was done to pixels (`chiasm.cohort.preprocessing`).
        notes: what its users must know; texts: section -> hash of the written texts that were read.
    """

    __pydantic_config__ = STRICT

    path: str
    hash: str
    source: str
    preprocessing: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    texts: dict[str, str] = field(default_factory=dict)


def record_cohort(cohort: Cohort, sections: Iterable[str]) -> RecordedCohort:
    """What a run keeps of a cohort: where it is, what it holds, how pixels were prepared, and which written texts were read."""
    texts = {name: hash_texts(cohort.path, name) for name in sorted(SECTION_KINDS.keys() & set(sections))}
    where, prepared = str(cohort.path.resolve()), cohort.meta["preprocessing"]
    return RecordedCohort(where, cohort.hash, cohort.source, prepared, cohort.notes, texts)


def open_recorded(recorded: RecordedCohort, *, check: bool = True) -> Cohort:
    """A cohort that a run was trained on.

    Args:
        check: whether its files must be those that the import wrote.

    Raises:
        CohortError: it is gone, or is no longer what it was.
    """
    cohort = (Cohort.open_unchanged if check else Cohort.open)(Path(recorded.path))
    if cohort.hash != recorded.hash:
        raise CohortError(
            "the cohort has changed since the run was trained",
            expected=f"content hash {recorded.hash[:16]}",
            got=cohort.hash[:16],
            where=recorded.path,
            remedy="import it again as it was, or name the new one: chiasm evaluate RUN COHORT",
        )
    check_texts(recorded.texts, cohort.path)
    return cohort
