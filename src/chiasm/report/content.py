"""The content of a text to be written: what is reported, labelled or measured of one study, and where that comes from.

A structured report is written from the report if it states a finding, else from the labels with the regions drawn for them,
and in any case from what was measured on the image. An image description is written from the image's regions and
measurements alone: nothing of record, outcome, label or report reaches it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache, lru_cache
from typing import Any

import numpy as np

from chiasm.report.attributes import Attribute, describe_findings
from chiasm.report.findings import label_report
from chiasm.report.sections import read_lexicon
from chiasm.study import Box, Image, Region, Report, State, Study, View
from chiasm.vocabulary import FINDINGS

MAIN_TARGET = "findings"
"""The target whose labels are stated; those of other truths (another reader's) are never merged with them."""
MEASURED_FINDING = "ischemic_lesion"
"""The finding that is stated where the volume of a lesion was measured."""
_LEAST_SHARE = 0.02  # of a territory that is named
_STRENGTH = (State.NOT_MENTIONED, State.ABSENT, State.UNCERTAIN, State.PRESENT)


@dataclass(frozen=True)
class Statement:
    """One finding, its state, and what is known of it.

    Attributes:
        manner: severity, texture, age ("small", "chronic"); side: "left", "right", "bilateral".
        place: "upper zone", "middle third of the image"; size: "45 x 30 mm", "3% of the image".
    """

    finding: str
    state: State
    manner: str = ""
    side: str = ""
    place: str = ""
    size: str = ""


@dataclass(frozen=True)
class TextContent:
    """All that a text may say of a study.

    Attributes:
        measured: of `Study.facts`, without the unknown ones.
        source: "report", "labels", "regions", "measurements", joined by "+"; "" if nothing is known.
        names: number -> name of the regions of an atlas, of which shares were measured.
    """

    statements: tuple[Statement, ...] = ()
    measured: Mapping[str, float | str] = field(default_factory=dict)
    source: str = ""
    names: Mapping[int, str] = field(default_factory=dict)

    @property
    def states(self) -> dict[str, State]:
        """Finding -> its strongest state, in the order of the statements."""
        strongest: dict[str, State] = {}
        for said in self.statements:
            strongest[said.finding] = max(strongest.get(said.finding, said.state), said.state, key=_STRENGTH.index)
        return strongest

    def __bool__(self) -> bool:
        return bool(self.statements or self.measured)

    def to_json(self) -> str:
        """For a prompt: rounded, without what is empty, always in the same order."""
        said = [{key: value for key, value in asdict(s).items() if value} for s in self.statements]
        measured = {name: value for name, value in sorted(self.measured.items()) if not name.startswith("territory_")}
        rounded = {name: round(v, 3) if isinstance(v, float) else v for name, v in measured.items()}
        shares = {f"share in the territory of the {name}": f"{percent}%" for name, percent in self.territories}
        return json.dumps({"findings": said, "measured": rounded | shares}, ensure_ascii=False)

    @property
    def territories(self) -> list[tuple[str, int]]:
        """(name, percent) of the named regions that hold some of a lesion, the largest first."""
        shares = {n: float(self.measured.get(f"territory_{n}_share", 0)) for n in sorted(self.names)}
        found = [n for n in sorted(shares, key=lambda n: -shares[n]) if shares[n] >= _LEAST_SHARE]
        return [(" of the ".join(reversed(self.names[n].split(", "))), round(100 * shares[n])) for n in found]


@cache
def read_entities() -> dict[str, Any]:
    """Finding -> name, definition, appearance and sources, from `lexicon/entities.yaml`."""
    return read_lexicon("entities")


def finding_name(finding: str) -> str:
    """What a report calls a finding; a user's own label is called by its words."""
    return str(read_entities()[finding]["name"]) if finding in read_entities() else finding.replace("_", " ")


@cache
def read_wording() -> dict[str, Any]:
    """The sentences of `lexicon/wording.yaml`."""
    return read_lexicon("wording")


def render_statement(said: Statement) -> str:
    """A statement that is present or uncertain as a sentence: "Small left pleural effusion, lower zone, 45 x 30 mm."."""
    side = "" if said.side in said.place.split() else said.side
    words = " ".join(filter(None, (said.manner, side, finding_name(said.finding))))
    words = ", ".join(filter(None, (words, said.place, said.size)))
    return as_sentence(read_wording()["observation"][said.state.value].format(words=words))


def as_sentence(words: str) -> str:
    """Words as a sentence: with a capital at the beginning."""
    return words[:1].upper() + words[1:]


def read_content(study: Study, names: Mapping[int, str] | None = None) -> TextContent:
    """What is known of a study: from its report if that states a finding, else from its labels; and its measurements.

    Args:
        names: of the regions of an atlas, whose shares were measured.
    """
    if study.report and (said := _of_report(study.report)):
        return _build_content(study, said, "report", names)
    placed: dict[str, list[Statement]] = {}
    for statement in _of_regions(study, MAIN_TARGET):
        placed.setdefault(statement.finding, []).append(statement)
    said = []
    for label in study.findings:
        if label.target == MAIN_TARGET and label.state is not State.NOT_MENTIONED:
            here = placed.get(label.name, []) if label.state is State.PRESENT else []
            said += here or [Statement(label.name, label.state)]
    if not said and (volume := study.facts.get("lesion_volume_ml")) is not None:
        measured = Statement(MEASURED_FINDING, State.PRESENT if float(volume) > 0 else State.ABSENT)
        return _build_content(study, [measured], "", names)
    return _build_content(study, said, "labels", names)


def read_image_content(study: Study, names: Mapping[int, str] | None = None) -> TextContent:
    """What was drawn in or measured on the images of a study, and nothing else; `names` as in `read_content`."""
    return _build_content(study, list(_of_regions(study)), "regions", names)


def _build_content(study: Study, said: list[Statement], source: str, names: Mapping[int, str] | None) -> TextContent:
    measured = {name: value for name, value in study.facts.items() if value is not None}
    sources = (source * bool(said), "measurements" * bool(measured))
    return TextContent((*said, *_implied(said)), measured, "+".join(filter(None, sources)), dict(names or {}))


def _of_report(report: Report) -> list[Statement]:
    """What the labeler reads, each finding at its strongest, with the words of every such mention."""
    described: dict[tuple[str, State], list[Statement]] = {}
    for mention, *_, attributes in describe_findings(report):
        here = _describe(mention.finding, mention.state, attributes)
        described.setdefault((mention.finding, mention.state), []).append(here)
    said: list[Statement] = []
    for finding in label_report(report):
        bare = Statement(finding.name, finding.state)
        if finding.state in (State.PRESENT, State.UNCERTAIN):
            own = described.get((finding.name, finding.state), [])
            said += dict.fromkeys(s for s in own if s != bare) or [bare]
        elif finding.state is State.ABSENT:
            said.append(bare)
    return said


def _describe(finding: str, state: State, attributes: Iterable[Attribute]) -> Statement:
    """A statement with its attributes in the words of `wording`, but for those that would change how it is read."""
    parts, joined = {"manner": "", "side": "", "place": ""}, {"manner": " ", "side": " and ", "place": ", "}
    said = Statement(finding, state)
    if state not in (State.PRESENT, State.UNCERTAIN) or finding not in FINDINGS:
        return said
    bare = _reading(render_statement(said))
    for kind, value in dict.fromkeys((a.kind, a.value) for a in attributes):
        for part, kinds in ((part, read_wording()[part]) for part in parts):
            word = (kinds.get(kind, {}) if part != "side" else kinds if kind == "side" else {}).get(value)
            longer = {**parts, part: joined[part].join(filter(None, (parts[part], word)))}
            if word and _reading(render_statement(Statement(finding, state, **longer))) == bare:
                parts = longer
    return Statement(finding, state, **{**parts, "side": "bilateral" if " and " in parts["side"] else parts["side"]})


@lru_cache(4096)
def _reading(text: str) -> tuple[State, ...]:
    return tuple(finding.state for finding in label_report(text))


def _implied(said: Iterable[Statement]) -> list[Statement]:
    """What follows from what was said, unless it was said as strongly: a nodule is a lung lesion."""
    states = TextContent(tuple(said)).states
    found: dict[str, State] = {}
    for finding, state in states.items():
        for other in broader(finding) if state in (State.PRESENT, State.UNCERTAIN) else ():
            if _STRENGTH.index(state) > _STRENGTH.index(states.get(other, State.ABSENT)):
                found[other] = max(found.get(other, state), state, key=_STRENGTH.index)
    return [Statement(name, state) for name, state in found.items()]


@cache
def broader(finding: str) -> tuple[str, ...]:
    """Findings that the labeler reads in this one's name beside it."""
    if finding not in FINDINGS:
        return ()
    read = label_report(f"There is {finding_name(finding)}.")
    return tuple(f.name for f in read if f.state is State.PRESENT and f.name not in (finding, "normal"))


def _of_regions(study: Study, target: str | None = None) -> Iterator[Statement]:
    """A statement for each region of a finding drawn in a single image, with its place and size."""
    images = {image.image_id: image for image in study.images if len(image.geometry.shape) == 2}
    boxes = [(region, box) for region in study.regions if (box := _box(region)) and region.image_id in images]
    for region, box in boxes:
        if region.target != "anatomy" and target in (None, region.target):
            image = images[region.image_id]
            lungs = [b for r, b in boxes if r.image_id == region.image_id and r.label.endswith("_lung")]
            side, place = _place(box, image, lungs)
            yield Statement(region.label, State.PRESENT, side=side, place=place, size=_size(box, image))


def _box(region: Region) -> Box | None:
    if region.box is not None or region.mask is None or region.mask.ndim != 2 or not region.mask.any():
        return region.box
    y, x = np.nonzero(region.mask)
    return float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1)


def _place(box: Box, image: Image, lungs: list[Box]) -> tuple[str, str]:
    """Side (of the patient, who faces the reader) and height; thirds of the lung the box lies in, else of the image.

    What lies across the midline of a frontal view has neither; of other views only the height is said.
    """
    height, width = image.geometry.original_shape
    middle = (min(b[0] for b in lungs) + max(b[2] for b in lungs)) / 2 if lungs else width / 2
    frontal, x, y = image.view in (View.PA, View.AP), (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    if frontal and box[0] < middle < box[2]:
        return "", ""
    side = ("right" if x < middle else "left") if frontal else ""
    own = [b for b in lungs if b[0] <= x <= b[2]]
    top, bottom = (own[0][1], own[0][3]) if own else (0.0, float(height))
    third = min(2, max(0, int(3 * (y - top) / (bottom - top))))
    return side, (("upper", "mid", "lower")[third] + " zone") if own else (
        ("upper", "middle", "lower")[third] + " third of the image"
    )


def _size(box: Box, image: Image) -> str:
    wide, high = box[2] - box[0], box[3] - box[1]
    if len(image.geometry.spacing_mm) == 2:
        y_mm, x_mm = image.geometry.spacing_mm
        return f"{wide * x_mm:.0f} x {high * y_mm:.0f} mm"
    height, width = image.geometry.original_shape
    share = 100 * wide * high / (height * width)
    return f"{share:.0f}% of the image" if share >= 1 else "less than 1% of the image"
