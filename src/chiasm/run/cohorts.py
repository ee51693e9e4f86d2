"""What a run records of the cohorts it was trained on, and these cohorts opened again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from chiasm.cohort.generated import SECTION_KINDS, check_texts, hash_texts
from chiasm.cohort.store import Cohort
from chiasm.errors import CohortError


def record_cohort(cohort: Cohort, sections: Iterable[str]) -> dict[str, Any]:
    """What a run keeps of a cohort: where it is, what it holds, how pixels were prepared, and which written texts were read."""
    entry: dict[str, Any] = {"path": str(cohort.path.resolve()), "hash": cohort.hash, "source": cohort.source}
    entry["preprocessing"] = cohort.meta["preprocessing"]
    entry |= {"notes": list(cohort.notes)} if cohort.notes else {}
    texts = {name: hash_texts(cohort.path, name) for name in sorted(SECTION_KINDS.keys() & set(sections))}
    return {**entry, "texts": texts} if texts else entry


def open_recorded(entry: Mapping[str, Any]) -> Cohort:
    """A cohort that a run was trained on.

    Raises:
        CohortError: it is gone, or is no longer what it was.
    """
    cohort = Cohort.open(Path(entry["path"]))
    if cohort.hash != entry["hash"]:
        raise CohortError(
            "the cohort has changed since the run was trained",
            expected=f"content hash {entry['hash'][:16]}",
            got=cohort.hash[:16],
            where=entry["path"],
            remedy="import it again as it was, or name the new one: chiasm evaluate RUN COHORT",
        )
    check_texts(entry, cohort.path)
    return cohort
