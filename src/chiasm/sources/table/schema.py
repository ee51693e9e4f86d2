"""The map of a table: which column is what. The classes are the whole schema of `map.yaml` (docs/table.md).

A list of columns may be written as one name; `images: path`, `report: text` and `record: [age]` are short forms.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from chiasm.documents import check_yaml
from chiasm.errors import InputError, TableError
from chiasm.formats.intensity import Intensity
from chiasm.report.sections import SECTIONS
from chiasm.sources.table.cells import MISSING
from chiasm.sources.table.tabular import nearest
from chiasm.study import Kind, State, View
from chiasm.vocabulary import canonical, snake_case

EACH_ROW = "study"
LEAKAGE = (
    "without it, two studies of one patient can fall into training and test, and every score comes out too high; "
    f"if no patient has a second study, say so: `patient: {EACH_ROW}`"
)
# prefixes of other columns; organs are no findings
RESERVED = frozenset({"report", "record", "fact", "bayes", "anatomy"})
RENAMED = {"age": "age_years", "age_years": "age_years", "sex": "sex", "gender": "sex"}
_DELIMITERS = {"comma": ",", "tab": "\t", "\\t": "\t", "semicolon": ";", "bar": "|"}


def _many(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float) else value


def _short(key: str) -> BeforeValidator:
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str | list | int | float) else value)


Columns = Annotated[tuple[str, ...], BeforeValidator(_many), Field(min_length=1)]
Name = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class Format(_Part):
    """How the file is written. What is left out is found out; `missing` adds words that mean "no value"."""

    delimiter: str | None = None
    encoding: str | None = None
    decimal: Literal[".", ","] | None = None
    sheet: str | None = None
    missing: Annotated[tuple[str, ...], BeforeValidator(_many)] = ()

    @field_validator("delimiter")
    @classmethod
    def _delimiter(cls, value: str | None) -> str | None:
        value = _DELIMITERS.get(value or "", value)
        if value is not None and len(value) != 1:
            raise ValueError("must be one character, or comma, tab, semicolon, bar")
        return value

    @property
    def words(self) -> frozenset[str]:
        return MISSING | {word.strip().lower() for word in self.missing}

    @property
    def list_words(self) -> frozenset[str]:
        """As `words`, for categories and lists of findings, where "none" is an answer ("oedema: none")."""
        return (MISSING - {"none"}) | {word.strip().lower() for word in self.missing}


class Volume(_Part):
    """Pictures as the slices of a volume, in the order of their numbers, or as a list gives them.

    `spacing_mm` is from slice to slice, from row to row and from column to column; no picture says it, nor which way the
    volume lies, so slices, rows and columns stay as they are.
    """

    spacing_mm: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]


class Images(_Part):
    """The image files: a path a cell (or several, with `separator`), in `folder`s beside the table.

    `suffix` is what the cells lack of the names; of several, the first that makes the name of a file.

    `view` is the column that says pa, ap or lateral; `views` says it once for each of `columns`. `modality` is DICOM's ("CT"),
    of files that do not say it; `window` is the window of CT, CENTER,WIDTH in HU (several with ; between), and `intensity`
    gives a rule to each modality. `names` says what the image of each of `columns` is, such as a sequence; `channels` names the
    colour channels of pictures that hold an image in each. With `volume` the pictures of a cell (a folder, a list, or a TIFF of
    several pages) are the slices of one volume.
    """

    columns: Columns
    folder: Columns = (".",)
    separator: str | None = None
    suffix: Annotated[tuple[str, ...], BeforeValidator(_many)] = ()
    view: Name | None = None
    views: tuple[View, ...] = ()
    modality: str = ""
    window: str = ""
    intensity: dict[str, str] = {}
    names: Annotated[tuple[Name, ...], BeforeValidator(_many)] = ()
    channels: Annotated[tuple[Name, ...], BeforeValidator(_many)] = ()
    volume: Volume | None = None

    @model_validator(mode="after")
    def _named(self) -> Images:
        if self.names and len(self.names) != len(self.columns):
            raise ValueError(f"`names` gives one name for each of the {len(self.columns)} image columns")
        for part in (self.names, self.channels):
            if len(set(part)) < len(part):
                raise ValueError(f"two have one name: {', '.join(part)}")
        if self.channels and self.volume:
            raise ValueError("slices with channels of their own are not read: `channels` or `volume`, not both")
        return self

    @model_validator(mode="after")
    def _known_rules(self) -> Images:
        try:
            Intensity.parse(self.rules)
        except InputError as error:
            raise ValueError(f"{error.what}; expected {error.expected}. Got {error.got}") from None
        return self

    def files(self, cell: str) -> list[str]:
        """The files that one image is made of: with `volume` all that a cell lists."""
        listed = cell.split(self.separator) if self.volume and self.separator else [cell]
        return [name.strip() for name in listed if name.strip()]

    @property
    def rules(self) -> dict[str, str]:
        """DICOM modality -> intensity rule."""
        return {**({"CT": self.window} if self.window else {}), **self.intensity}

    @model_validator(mode="after")
    def _views(self) -> Images:
        if self.views and (self.view is not None or len(self.views) != len(self.columns)):
            raise ValueError(
                "either `view` names the column of the view, or `views` gives one view for each of "
                f"the {len(self.columns)} image columns"
            )
        return self


class ReportText(_Part):
    """The report: a `column` that is split into sections, a column for each of `sections`, or a column of text `file`s."""

    column: Name | None = None
    sections: dict[str, Name] = {}
    file: Name | None = None
    folder: str = "."

    @model_validator(mode="after")
    def _one(self) -> ReportText:
        if (self.column is not None) + bool(self.sections) + (self.file is not None) != 1:
            raise ValueError("must have exactly one of column, sections, file")
        for section in set(self.sections) - set(SECTIONS):
            near = nearest(section, SECTIONS)
            hint = f"did you mean {near}?" if near else f"known: {', '.join(SECTIONS)}"
            raise ValueError(f"there is no section {section}; {hint}")
        return self


class RecordColumn(_Part):
    """A column of the chart; without `kind` its cells decide. `unknown_time`: a recipe must opt in by name.

    `unit` is that of an age without one in its cells: it is kept in years. `missing` are codes of this column for no value, and
    `words` say what its other codes mean: they take their place, up to the page.
    """

    column: Name
    kind: Literal["numeric", "categorical"] | None = None
    unknown_time: bool = False
    missing: Annotated[tuple[str, ...], BeforeValidator(_many)] = ()
    words: dict[str, Name] = {}
    unit: Literal["years", "months", "weeks", "days"] = "years"

    @model_validator(mode="after")
    def _worded(self) -> RecordColumn:
        if self.words and self.kind == "numeric":
            raise ValueError("`words` make a column categorical, and `kind` says numeric")
        return self


class Labels(_Part):
    """Findings: `columns` of 0/1/-1 (a list, or name: column), or one `column` that lists what is present."""

    columns: dict[str, Name] = {}
    column: Name | None = None
    separator: Annotated[str, Field(min_length=1)] = "|"
    others: Literal["absent", "not_mentioned"] = "absent"
    target: str = "findings"
    reader: str = ""
    values: dict[str, State] = {}

    @field_validator("columns", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        value = _many(value)
        return {str(c): str(c) for c in value} if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _one(self) -> Labels:
        if bool(self.columns) + (self.column is not None) != 1:
            raise ValueError("must have exactly one of columns (of 0/1/-1) and column (a list of names)")
        return self

    def named(self) -> list[tuple[str, str]]:
        """(label, column) of each 0/1/-1 column."""
        return [(label_name(name), column) for name, column in self.columns.items()]

    def words(self) -> dict[str, State]:
        return {word.strip().lower(): state for word, state in self.values.items()}


class Boxes(_Part):
    """Boxes: four `columns` x, y, width, height (`corners`: x_min, y_min, x_max, y_max) of this table or of a `file`.

    `frame` is the [width, height] of the picture the boxes were drawn on, where the files have been resized since. `phrase` is the
    column with the words of the report that a box shows.
    """

    columns: Columns
    corners: bool = False
    file: Name | None = None
    image: Name | None = None
    study: Name | None = None
    label: str | None = None
    label_column: Name | None = None
    phrase: Name | None = None
    frame: Annotated[tuple[Annotated[int, Field(gt=0)], ...] | None, BeforeValidator(_many)] = None
    target: str = "findings"
    reader: str = ""

    @model_validator(mode="after")
    def _one(self) -> Boxes:
        if len(self.columns) != 4:
            raise ValueError(f"columns must be four, such as [x, y, width, height]. Got {len(self.columns)}.")
        if self.frame is not None and len(self.frame) != 2:
            raise ValueError("frame must be [width, height] in pixels, such as [1024, 1024]")
        if (self.label is None) == (self.label_column is None):
            raise ValueError("must have exactly one of label (a name for all boxes) and label_column")
        if self.file is not None and (self.image is None) == (self.study is None):
            raise ValueError(
                "must name exactly one of image and study: the column of the file that says where a box lies"
            )
        if self.file is None and (self.image or self.study):
            raise ValueError("image and study name columns of a box file; boxes of this table lie in the row's image")
        return self


class Masks(_Part):
    """A column of mask files. Two-valued files need nothing more; of others, `value` is the mask.

    `image` says in which image of the row it lies, by the names that `images` gives to its columns.
    """

    column: Name
    image: Name | None = None
    label: Name
    folder: str = "."
    value: int | None = None
    target: str = "findings"
    reader: str = ""


class OutcomeColumn(_Part):
    """What is known later, or a reader's score. A target has one kind: without `target` it follows from the kind.

    Of survival, `column` is the time to the event or to the last day without it, and `event` says which. `missing` are codes of
    this column for no value, and `words` say what the codes of a multiclass column mean.
    """

    column: Name
    name: str = ""
    kind: Kind = Kind.BINARY
    event: Name | None = None
    target: str = ""
    reader: str = ""
    missing: Annotated[tuple[str, ...], BeforeValidator(_many)] = ()
    words: dict[str, Name] = {}

    @model_validator(mode="after")
    def _worded(self) -> OutcomeColumn:
        if self.words and self.kind is not Kind.MULTICLASS:
            raise ValueError("`words` name the classes of a multiclass outcome; the others are numbers")
        return self

    @model_validator(mode="after")
    def _timed(self) -> OutcomeColumn:
        if (self.kind is Kind.SURVIVAL) != (self.event is not None):
            raise ValueError(
                "`event` names the column that says whether the event happened: of kind survival, and of no other"
            )
        return self

    @property
    def key(self) -> tuple[str, str]:
        return snake_case(self.target) or _OUTCOME_TARGETS[self.kind], snake_case(self.name or self.column)


_OUTCOME_TARGETS = {
    Kind.BINARY: "outcome",
    Kind.ORDINAL: "grade",
    Kind.MULTICLASS: "category",
    Kind.REGRESSION: "severity",
    Kind.SURVIVAL: "survival",
}


class TableMap(_Part):
    """`map.yaml`. Only `patient` is a must; without `study` each row is a study."""

    patient: Name
    study: Name | None = None
    table: Format = Format()
    images: Annotated[Images | None, _short("columns")] = None
    split: Name | None = None
    report: Annotated[ReportText | None, _short("column")] = None
    record: dict[str, RecordColumn] = {}
    labels: tuple[Labels, ...] = ()
    boxes: tuple[Boxes, ...] = ()
    masks: tuple[Masks, ...] = ()
    outcomes: tuple[OutcomeColumn, ...] = ()

    @field_validator("record", mode="before")
    @classmethod
    def _record(cls, value: Any) -> Any:
        value = _many(value)
        if isinstance(value, list | tuple):
            value = {str(column): str(column) for column in value}
        if not isinstance(value, Mapping):
            return value
        named = [record_name(str(name)) for name in value]
        if twice := sorted({name for name in named if named.count(name) > 1}):
            raise ValueError(f"two columns are called {', '.join(twice)}")
        parts = ({"column": part} if isinstance(part, str | int) else part for part in value.values())
        return dict(zip(named, parts, strict=True))

    @field_validator("labels", "boxes", "masks", "outcomes", mode="before")
    @classmethod
    def _list(cls, value: Any) -> Any:
        return [value] if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _whole(self) -> TableMap:
        if (self.boxes or self.masks) and self.images is None:
            raise ValueError("boxes and masks lie in images: the map has no `images`")
        keys = Counter(
            (snake_case(part.target), label, part.reader) for part in self.labels for label, _ in part.named()
        ) + Counter((*part.key, part.reader) for part in self.outcomes)
        if twice := [f"{target}.{label}" for (target, label, _), n in keys.items() if n > 1]:
            raise ValueError(f"{', '.join(twice)}: two columns say it; give them two readers, names or targets")
        kinds: dict[str, set[str]] = {}
        for target, kind in [(snake_case(p.target), "findings") for p in self.labels] + [
            (part.key[0], part.kind.value) for part in self.outcomes
        ]:
            kinds.setdefault(target, set()).add(kind)
        if reserved := sorted(kinds.keys() & RESERVED):
            raise ValueError(f"target {', '.join(reserved)}: the name is taken; choose another")
        if mixed := [target for target, several in kinds.items() if len(several) > 1]:
            raise ValueError(f"target {', '.join(mixed)}: has several kinds; give each kind a target of its own")
        named = self.images.names if self.images else ()
        if lost := sorted({part.image for part in self.masks if part.image and part.image not in named}):
            raise ValueError(f"masks: no image is called {', '.join(lost)}; `names` under images names each column")
        return self

    @property
    def files(self) -> frozenset[str]:
        return frozenset(part.file for part in self.boxes if part.file)


_PARTS: dict[str, type[BaseModel]] = {
    "table": Format,
    "images": Images,
    "report": ReportText,
    "record": RecordColumn,
    "labels": Labels,
    "boxes": Boxes,
    "masks": Masks,
    "outcomes": OutcomeColumn,
}


def label_name(name: str) -> str:
    """`label_Effusion` and `Effusion` are both `pleural_effusion`.

    >>> label_name("label_Effusion"), label_name("Hip fracture")
    ('pleural_effusion', 'hip_fracture')
    """
    key = snake_case(name)
    return canonical(key.removeprefix("label_") or key)


def record_name(column: str) -> str:
    """The name of a chart column: snake case; an age without a unit is in years."""
    return RENAMED.get(snake_case(column).removeprefix("patient_"), snake_case(column))


def read_map(source: str | Path | Mapping[str, Any]) -> TableMap:
    """Read `map.yaml`, or check the same keys given as a mapping.

    Raises:
        TableError: not there, not YAML, or keys and values that do not fit; all problems in one message.
    """
    where = "the map"
    if isinstance(source, str | Path):
        path, where = Path(source), str(source)
        if not path.is_file():
            raise TableError("the map is not there", expected="a YAML file", where=where)
        try:  # BaseLoader takes every scalar as text: columns named `no`, `on` or `2024` stay what they are
            text = path.read_text("utf-8-sig")
            check_yaml(text)
            source = yaml.load(text, Loader=yaml.BaseLoader)
        except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
            mark = getattr(error, "problem_mark", None)
            got = f"{getattr(error, 'problem', None) or type(error).__name__}" + (
                f", line {mark.line + 1}" if mark else ""
            )
            raise TableError("the map is not valid YAML", expected="`key: value` lines", got=got, where=where) from None
    if not isinstance(source, Mapping):
        raise TableError(
            "the map is not a mapping", expected="`key: value` lines, such as `patient: patient_id`", where=where
        )
    try:
        return TableMap.model_validate(_without_blanks(source))
    except ValidationError as error:
        lines = [_problem(problem) for problem in error.errors()]
        raise problems_error("the map", lines, where, "correct these keys; docs/table.md shows every one") from None


def problems_error(what: str, lines: list[str], where: str, remedy: str, expected: str = "") -> TableError:
    """One error for a list of problems; `what` goes before "has 2 problems"."""
    number = f"{what} has {len(lines)} problem{'s' * (len(lines) > 1)}:\n"
    return TableError(
        number + "\n".join(f"  - {line}" for line in lines), expected=expected, where=where, remedy=remedy
    )


def _without_blanks(value: Any) -> Any:
    """A key without a value counts as left out, except inside `values`, where "" is the blank cell."""
    if isinstance(value, Mapping):
        return {str(k): _without_blanks(v) for k, v in value.items() if v not in ("", None, "null", "~")}
    return [_without_blanks(v) for v in value] if isinstance(value, list | tuple) else value


def _problem(problem: Mapping[str, Any]) -> str:
    """One problem of pydantic's in the project's words."""
    loc = [str(part) for part in problem["loc"] if not str(part).startswith(("function-", "tuple["))]
    path = ".".join(loc)
    if problem["type"] == "extra_forbidden":
        model = _PARTS.get(loc[0], TableMap) if len(loc) > 1 else TableMap
        near = nearest(loc[-1], model.model_fields)
        return f"{path}: unknown key" + (
            f", did you mean {near}?" if near else f"; known: {', '.join(model.model_fields)}"
        )
    if problem["type"] == "missing":
        return f"{path}: missing. " + (
            f"It names the column of the patient: {LEAKAGE}" if path == "patient" else "It must be there."
        )
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{path}: {message}" if path else message
    return f"{path}: {message}. Got {problem['input']!r}."
