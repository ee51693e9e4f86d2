"""The exceptions of chiasm. Each says what was expected, what was got, where, and what to do.

ChiasmError
├── InputError          a file or folder of the user's cannot be taken
│   ├── ImageError      an image file or DICOM object cannot be read
│   └── TableError      a table, or the map that describes it, does not fit
├── CohortError         a cohort on disk is missing, damaged, of another schema, or does not fit the recipe
├── RecipeError         a recipe has unknown keys or values out of range
├── RunError            a run folder is missing, unfinished, damaged or of another schema
├── WriterError         a language model cannot be loaded, or its server does not answer
├── TrainingError       training cannot go on (no target left, NaN loss at a named step)
└── MissingExtraError   an optional dependency is not installed
"""

from __future__ import annotations


class ChiasmError(Exception):
    """The base of all errors a user can fix.

    Args:
        what: the problem in one sentence.
        expected, got, where, remedy: the four details a user needs; leave out what does not apply. Never put report text,
            names or patient identifiers into them.
    """

    def __init__(self, what: str, *, expected: str = "", got: str = "", where: str = "", remedy: str = "") -> None:
        self.what, self.expected, self.got, self.where, self.remedy = what, expected, got, where, remedy
        details = {"expected": expected, "got": got, "where": where, "what to do": remedy}
        super().__init__("\n".join([what, *(f"  {name}: {detail}" for name, detail in details.items() if detail)]))


class InputError(ChiasmError):
    """A file or folder of the user's cannot be taken."""


class ImageError(InputError):
    """An image file or DICOM object cannot be read."""


class TableError(InputError):
    """A table, or the map that describes it, does not fit."""


class CohortError(ChiasmError):
    """A cohort on disk is missing, damaged, of another schema, or does not fit the recipe."""


class RecipeError(ChiasmError):
    """A recipe has unknown keys or values out of range."""


class RunError(ChiasmError):
    """A run folder is missing, unfinished, damaged or of another schema."""


class WriterError(ChiasmError):
    """A language model cannot be loaded, or its server does not answer."""


class TrainingError(ChiasmError):
    """Training cannot go on."""


class MissingExtraError(ChiasmError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        self._arguments = (package, extra, purpose)
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed",
            remedy=f"pip install 'chiasm[{extra}]'",
        )

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str, str]]:
        return type(self), self._arguments  # so that it survives the way out of a worker process


def first_line(error: Exception) -> str:
    """The kind of a library's error and the first line of its message, at most 200 characters of it.

    Only where the library cannot quote what a file holds of a patient.

    >>> first_line(ValueError("bad header\\nat byte 7"))
    'ValueError: bad header'
    """
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"


def check_schema(got: object, known: int, error: type[ChiasmError], *, what: str, where: str, remedy: str) -> None:
    """Refuse what another version of chiasm wrote.

    Raises:
        ChiasmError: an `error`, where `got` is not the known schema version.
    """
    if got != known:
        message = f"{what} of another schema version"
        raise error(message, expected=f"schema {known}", got=f"schema {got}", where=where, remedy=remedy)
