"""A structured report: definition, appearance, observations and verdict of one study, as an object and as text.

The four parts are those of Gowda et al. (arXiv 2507.21794). What a finding is and how it looks comes from
`lexicon/entities.yaml`, with sources; what is observed and concluded comes from the facts of the study. Reading the
text with the labeler gives back the findings it was written from: `unlike` says where it does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from chiasm.report.description import Part, describe
from chiasm.report.facts import MEASURED, Facts, entities, name_of, observe, sentence, wording
from chiasm.report.findings import label_report
from chiasm.study import State

_ABNORMAL = (State.PRESENT, State.UNCERTAIN)
_STATES: dict[State, Literal["present", "uncertain", "absent"]] = {
    State.PRESENT: "present",
    State.UNCERTAIN: "uncertain",
    State.ABSENT: "absent",
}


class Entry(Part):
    """What a finding is, or how it looks."""

    finding: str
    text: str


class Judgement(Part):
    """What is concluded of a finding."""

    finding: str
    state: Literal["present", "uncertain", "absent"]


class StructuredReport(Part):
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
            "DEFINITION": [f"{name_of(e.finding).capitalize()}: {e.text}" for e in self.definition],
            "APPEARANCE": [f"{name_of(e.finding).capitalize()}: {e.text}" for e in self.appearance],
            "OBSERVATIONS": self.observations or [wording()["nothing_observed"]],
            "VERDICT": _conclude({j.finding: State(j.state) for j in self.verdict}),
        }
        return "\n".join(f"{heading}: {' '.join(words)}" for heading, words in parts.items() if words)


def build_report(facts: Facts, observations: tuple[str, ...] | None = None) -> StructuredReport:
    """The report of some facts.

    Args:
        observations: a writer's own sentences; by default one for each statement that is present or uncertain, then what was
            measured.
    """
    states = facts.states
    named = [name for name, state in states.items() if state in _ABNORMAL and name != "normal" and name in entities()]
    named = named or ["normal"] * (states.get("normal") is State.PRESENT)
    if observations is None:
        observed = [s for s in facts.statements if s.state in _ABNORMAL and s.finding not in ("normal", MEASURED)]
        measured = describe(facts) if MEASURED in states else None
        observations = (*map(observe, observed), *(measured.findings if measured else ()))
    return StructuredReport(
        definition=tuple(Entry(finding=name, text=entities()[name]["definition"]) for name in named),
        appearance=tuple(Entry(finding=name, text=entities()[name]["appearance"]) for name in named),
        observations=observations,
        verdict=tuple(Judgement(finding=name, state=_STATES[state]) for name, state in states.items()),
    )


def unlike(text: str, states: Mapping[str, State], closed: bool = True) -> list[str]:
    """A sentence for each finding that the labeler reads otherwise in the text than it is in the facts.

    Findings of which the facts say nothing must not be present or uncertain, if the facts are all there is (`closed`); those the labeler does not know (a user's own
    labels) are not compared, nor is `normal`, where the facts do not name it.
    """
    found = []
    for read in label_report(text):
        state = states.get(read.name, State.NOT_MENTIONED)
        silent = state is State.NOT_MENTIONED and (not closed or read.state is State.ABSENT or read.name == "normal")
        if read.state is not state and not silent:
            found.append(f"{name_of(read.name)} is {_words(state)} in the facts, but reads as {_words(read.state)}")
    return found


def _words(state: State) -> str:
    return state.value.replace("_", " ")


def _conclude(states: Mapping[str, State]) -> list[str]:
    """A sentence a finding; `normal` is said only where it does not follow from the others."""
    words = wording()
    abnormal = any(state in _ABNORMAL for name, state in states.items() if name not in ("normal", "support_devices"))
    said = [
        sentence(words["verdict"][state.value].format(name=name_of(name)))
        for name, state in states.items()
        if name != "normal"
    ]
    if states.get("normal") is State.PRESENT and not any(s in _ABNORMAL for n, s in states.items() if n != "normal"):
        return [words["normal"], *said]
    if states.get("normal") is State.ABSENT and not abnormal:
        return [*said, words["not_normal"]]
    return said
