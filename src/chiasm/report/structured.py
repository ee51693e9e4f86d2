"""A structured report: definition, appearance, observations and verdict of one study, as an object and as text.

The four parts are those of Gowda et al. (arXiv 2507.21794). What a finding is and how it looks comes from
`lexicon/entities.yaml`, with sources; what is observed and concluded comes from the content of the study. The labeler
reads in the text the findings it was written from: `find_differences` says where it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from chiasm.report.content import (
    MEASURED_FINDING,
    TextContent,
    as_sentence,
    finding_name,
    read_entities,
    read_wording,
    render_statement,
)
from chiasm.report.description import StrictModel, build_description
from chiasm.report.findings import label_report
from chiasm.study import State

_ABNORMAL = (State.PRESENT, State.UNCERTAIN)
_STATES: dict[State, Literal["present", "uncertain", "absent"]] = {
    State.PRESENT: "present",
    State.UNCERTAIN: "uncertain",
    State.ABSENT: "absent",
}


class Entry(StrictModel):
    """What a finding is, or how it looks."""

    finding: str
    text: str


class Judgement(StrictModel):
    """What is concluded of a finding."""

    finding: str
    state: Literal["present", "uncertain", "absent"]


class StructuredReport(StrictModel):
    """The four parts. `definition` and `appearance` have an entry for each finding that is present or uncertain (of a
    normal study: for `normal`), `verdict` one for every finding of which anything is known.
    """

    definition: tuple[Entry, ...]
    appearance: tuple[Entry, ...]
    observations: tuple[str, ...]
    verdict: tuple[Judgement, ...]

    @property
    def text(self) -> str:
        """Under the four headings, which the labeler knows: it reads observations and verdict."""
        parts = {
            "DEFINITION": [f"{finding_name(e.finding).capitalize()}: {e.text}" for e in self.definition],
            "APPEARANCE": [f"{finding_name(e.finding).capitalize()}: {e.text}" for e in self.appearance],
            "OBSERVATIONS": self.observations or [read_wording()["nothing_observed"]],
            "VERDICT": _conclude({j.finding: State(j.state) for j in self.verdict}),
        }
        return "\n".join(f"{heading}: {' '.join(words)}" for heading, words in parts.items() if words)


def build_report(content: TextContent, observations: tuple[str, ...] | None = None) -> StructuredReport:
    """The report of some content.

    Args:
        observations: a writer's own sentences; by default one for each statement that is present or uncertain, then what was
            measured.
    """
    states = content.states
    named = [
        name for name, state in states.items() if state in _ABNORMAL and name != "normal" and name in read_entities()
    ]
    named = named or ["normal"] * (states.get("normal") is State.PRESENT)
    if observations is None:
        observed = [
            s for s in content.statements if s.state in _ABNORMAL and s.finding not in ("normal", MEASURED_FINDING)
        ]
        measured = build_description(content) if MEASURED_FINDING in states else None
        observations = (*map(render_statement, observed), *(measured.findings if measured else ()))
    return StructuredReport(
        definition=tuple(Entry(finding=name, text=read_entities()[name]["definition"]) for name in named),
        appearance=tuple(Entry(finding=name, text=read_entities()[name]["appearance"]) for name in named),
        observations=observations,
        verdict=tuple(Judgement(finding=name, state=_STATES[state]) for name, state in states.items()),
    )


def find_differences(text: str, states: Mapping[str, State], closed: bool = True) -> list[str]:
    """A sentence for each finding whose state in the text, as the labeler reads it, is not the given one.

    Findings without a given state must not be present or uncertain if the states are all there is (`closed`). Findings that
    the labeler does not know (a user's own labels) are not compared, nor is `normal` where it has no given state.
    """
    found = []
    for read in label_report(text):
        state = states.get(read.name, State.NOT_MENTIONED)
        silent = state is State.NOT_MENTIONED and (not closed or read.state is State.ABSENT or read.name == "normal")
        if read.state is not state and not silent:
            found.append(
                f"{finding_name(read.name)} is {_words(state)} in the facts, but reads as {_words(read.state)}"
            )
    return found


def _words(state: State) -> str:
    return state.value.replace("_", " ")


def _conclude(states: Mapping[str, State]) -> list[str]:
    """A sentence a finding; `normal` is said only where it does not follow from the others."""
    words = read_wording()
    abnormal = any(state in _ABNORMAL for name, state in states.items() if name not in ("normal", "support_devices"))
    said = [
        as_sentence(words["verdict"][state.value].format(name=finding_name(name)))
        for name, state in states.items()
        if name != "normal"
    ]
    if states.get("normal") is State.PRESENT and not any(s in _ABNORMAL for n, s in states.items() if n != "normal"):
        return [words["normal"], *said]
    if states.get("normal") is State.ABSENT and not abnormal:
        return [*said, words["not_normal"]]
    return said
