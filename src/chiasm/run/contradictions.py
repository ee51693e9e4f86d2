"""Where an answer contradicts itself: its findings and its description, its image and its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from chiasm.report.findings import label_report
from chiasm.study import About, Finding, Note, State
from chiasm.vocabulary import FINDINGS

_OPPOSITE = {State.PRESENT: State.ABSENT, State.ABSENT: State.PRESENT}


def check_description(findings: Sequence[Finding], description: str | None) -> list[Note]:
    """A note for each finding that is decided as present while the generated description denies it, or the other way round.

    The labeler of reports reads the description, so only findings of `chiasm.vocabulary.FINDINGS` can be compared; what the description
    hedges or leaves out contradicts nothing.

    >>> [note.text for note in check_description([Finding("edema", State.PRESENT)], "No edema.")]
    ['edema is present by its probability, and absent by the description']
    """
    decided = {finding.name: finding.state for finding in findings if finding.name in FINDINGS}
    if not decided or not description:
        return []
    notes = []
    for told in label_report(description, list(decided)):
        state = decided[told.name]
        if told.state is _OPPOSITE[state]:
            said = f"{told.name} is {state.value} by its probability, and {told.state.value} by the description"
            notes.append(Note(About.CONTRADICTION, said.replace("_", " ")))
    return notes


def check_inputs(
    labels: Mapping[str, Sequence[str]],
    image: Mapping[str, NDArray[np.float64]],
    text: Mapping[str, NDArray[np.float64]],
    thresholds: Sequence[Mapping[str, NDArray[np.float64]]],
    limits: Mapping[str, Mapping[str, float]],
    both: NDArray[np.bool_],
) -> list[list[Note]]:
    """Of each study a note for each label on which the image alone and the report alone are at odds.

    They are where one lies above its threshold and the other below its own, further apart than validation shows.

    Args:
        image, text: target -> [n, L] probabilities by the image alone and by the report alone.
        thresholds: of both, target -> [n, L] thresholds; NaN, where validation could not say, is .5.
        limits: target -> label -> how far they lie apart in most validation patients. both: [n] studies that have both inputs.
    """
    notes: list[list[Note]] = [[] for _ in both]
    for target, own in limits.items():
        yes = [
            values[target] >= np.nan_to_num(threshold[target], nan=0.5)
            for values, threshold in zip((image, text), thresholds, strict=True)
        ]
        apart = np.abs(image[target] - text[target])
        for label, limit in own.items():
            k = list(labels[target]).index(label)
            for place in np.flatnonzero(both & (yes[0][:, k] != yes[1][:, k]) & (apart[:, k] > limit)).tolist():
                sides = ("present", "absent") if yes[0][place, k] else ("absent", "present")
                said = f"{label} is {sides[0]} by the image alone, and {sides[1]} by the report alone".replace("_", " ")
                notes[place].append(Note(About.CONTRADICTION, said))
    return notes
