"""Example cases on the page, chosen by rule: what each modality added, and the image beside what was written of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from chiasm.cohort.generated import SECTION_KINDS, read_writers
from chiasm.cohort.store import Cohort
from chiasm.evaluation.contributions import find_shares, has_shares
from chiasm.evaluation.saliency import choose_label
from chiasm.evaluation.score import complete
from chiasm.evaluation.spec import FULL, NOTHING, Evidence
from chiasm.heads.spec import Truth
from chiasm.metrics.attribution import told
from chiasm.study import Kind
from chiasm.summary.cases import Case
from chiasm.summary.figures import overlay
from chiasm.summary.tables import number, pretty
from chiasm.summary.volumes import brightest, planes

SIDE = 360  # pixels of a picture's longer side
ALIKE = 0.5
"""Rank correlation with the maps of random weights above which maps are said to follow the image."""
OTHERS = 3
"""Images of a study, beside the one that was read, that are shown with it."""
CHOSEN = {
    Kind.BINARY: "for each outcome the most certain answer that was right and the most certain that was wrong",
    Kind.ORDINAL: "the answer nearest to the truth, the one farthest above it and the one farthest below",
}
"""The rule, of a label that is a yes or no, and of one with an order."""


def draw_cases(evidence: Evidence, truth: Truth) -> tuple[list[Case], str]:
    """The patients whom the rule chooses, and the rule as a sentence; none of a model with a single modality."""
    shares, chosen = find_shares(evidence), choose_label(evidence.question)
    if shares is None or chosen is None:
        return [], ""
    question, pool = evidence.question, evidence.pool
    target, k = chosen
    kind, label = question.kinds[target], question.targets[target][k]
    said, unknowing = (told(evidence.arms[p].values, question.layout)[target][:, k] for p in (FULL, NOTHING))
    labels, (picks, whole) = truth.labels[target][:, k], _pick(evidence, truth, target, k)
    cases = []
    for which, i in picks.items():
        answer = f"{number(said[i])} ({number(unknowing[i])} of all training patients)"
        facts = {pretty(target, label): answer, "truth": f"{labels[i]:g}"}
        own = {m: float(shares[target][m][i, k]) for m in question.modalities}
        cohort, row = pool.cohorts[pool.cohort[i]], int(pool.row[i])
        texts = _texts(cohort, row, question.text_sections)
        name = str(pool.column("study_id")[i])
        parts = {f"{column} {_value(cohort, row, column)}": part for column, *part in evidence.columns.get(int(i), ())}
        columns = {title: (share, error) for title, (share, error) in parts.items()}
        cases.append(
            Case(
                which,
                f"study {name}",
                facts,
                own,
                texts,
                _pictures(cohort, row, evidence.maps.values.get(int(i))),
                columns,
            )
        )
    who = "the patients with all inputs" if whole else "the tested patients"
    rule = CHOSEN[Kind.BINARY if kind is Kind.BINARY else Kind.ORDINAL]
    unit = "log-odds" if kind is Kind.BINARY else "the target's own units"
    shown = " Of a volume the planes that hold most of the lesion; the left of a picture is the patient's left, or the back."
    return cases, (
        f"Of {who}: {rule}. Bars are Shapley values in {unit}: from what holds for all training patients, they sum to the answer."
        + " Below the record stands what each of its columns has of that." * bool(evidence.columns)
        + shown * any(len(cohort.array(3)) > 0 for cohort in pool.cohorts)
        + _tell_maps(evidence)
    )


def _tell_maps(evidence: Evidence) -> str:
    """What the maps are, and whether a model that learned nothing would show the same."""
    alike = evidence.maps.alike
    if alike is None:
        return ""
    verdict = (
        "they follow the image more than what was learned, and should not be read as evidence"
        if abs(alike) > ALIKE
        else "they are other maps, as they must be, which is no proof that these are right"
    )
    return (
        " What raised the answer is gradient times input of the image, smoothed. Maps of the same models with random weights "
        f"correlate with them by {alike:.2f} (rank, magnitudes): {verdict}."
    )


def choose_cases(evidence: Evidence, truth: Truth) -> tuple[str, list[int]]:
    """The number ("target/label") that cases are told of, and their places in the pool; "" and none where there are none."""
    chosen = choose_label(evidence.question)
    if not has_shares(evidence) or chosen is None:
        return "", []
    target, k = chosen
    return f"{target}/{evidence.question.targets[target][k]}", list(_pick(evidence, truth, target, k)[0].values())


def _pick(evidence: Evidence, truth: Truth, target: str, k: int) -> tuple[dict[str, int], bool]:
    """Which -> place of the cases, and whether they are of those who have all inputs."""
    arm = evidence.arms[FULL]
    said, labels = told(arm.values, evidence.question.layout)[target][:, k], truth.labels[target][:, k]
    known = truth.mask[target][:, k] & np.isfinite(said)
    whole = complete(evidence) & known
    among = whole if whole.any() else known
    if evidence.question.kinds[target] is not Kind.BINARY:
        return choose_ordered(said, labels, among), bool(whole.any())
    return choose_binary(said, labels, among, arm.yes_from(target, k)), bool(whole.any())


def _value(cohort: Cohort, row: int, column: str) -> str:
    """What the record says, as it stands there."""
    value = (
        cohort.table("studies", [f"record.{column}"])[f"record.{column}"][row].as_py()
        if column in cohort.record
        else None
    )
    return "missing" if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)


def choose_binary(
    said: NDArray[np.float64], labels: NDArray[np.float32], among: NDArray[np.bool_], threshold: NDArray[np.float64]
) -> dict[str, int]:
    """Which -> place: of each outcome the most certain right and the most certain wrong one, where there is one.

    Args:
        said: [n] probabilities; labels: [n] 0 or 1; among: [n] who may be chosen; threshold: [n] from where an answer is yes.
    """
    picks: dict[str, int] = {}
    for outcome, name in ((1, "with the outcome"), (0, "without it")):
        for right, how in ((True, "right"), (False, "wrong")):
            yes = right == (outcome == 1)
            places = np.flatnonzero(among & (labels == outcome) & ((said >= threshold) == yes))
            if len(places):
                certain = said[places] if yes else -said[places]
                picks[f"{how}, {name}"] = int(places[certain.argmax()])
    return picks


def choose_ordered(said: NDArray[np.float64], labels: NDArray[np.float32], among: NDArray[np.bool_]) -> dict[str, int]:
    """Which -> place: the nearest answer, the farthest above and the farthest below the truth; each once."""
    places = np.flatnonzero(among)
    if not len(places):
        return {}
    error = said[places] - labels[places]
    order = {"nearest": np.abs(error).argmin(), "farthest above": error.argmax(), "farthest below": error.argmin()}
    found = {int(places[at]): which for which, at in reversed(order.items())}
    return {which: place for place, which in reversed(found.items())}


def _texts(cohort: Cohort, row: int, sections: Sequence[str]) -> Mapping[str, str]:
    """Who wrote it, and what: of the texts that were written, never of a report."""
    study_id = str(cohort.table("studies", ["study_id"])["study_id"][row])
    found = {}
    for section in SECTION_KINDS.keys() & set(sections):
        text = cohort.texts([section])[row]
        if text:
            found[f"{pretty(section)}, written by {read_writers(cohort.path, section)[study_id]}"] = str(text)
    return found


def _pictures(cohort: Cohort, row: int, heat: NDArray[np.float32] | None) -> list[tuple[str, bytes]]:
    """Caption and JPEG: three planes of a volume with its lesion, or an image; then other images of the study.

    Args:
        heat: [H, W] what raised the answer in the first image; None where that was not asked.
    """
    rows = cohort.image_rows(row)
    volumes = [i for i in rows if cohort.pixels(i).ndim == 3][:1]
    flat = [i for i in rows if cohort.pixels(i).ndim == 2][: OTHERS if volumes else 1]
    names = cohort.images["name"] if "name" in cohort.images.columns else None
    found = [pair for i in volumes for pair in _planes(cohort, i)]
    nothing = np.zeros((0, 4))
    for i in flat:
        picture = overlay(cohort.pixels(i), nothing, nothing, min_side=SIDE, max_side=SIDE, format="JPEG")
        found.append((str((names is not None and names.iloc[i]) or cohort.images["view"].iloc[i]), picture))
    if heat is not None and flat:
        shown = overlay(
            cohort.pixels(flat[0]),
            nothing,
            nothing,
            heat / (heat.max() or 1),
            min_side=SIDE,
            max_side=SIDE,
            format="JPEG",
        )
        found.insert(1, ("what raised the answer", shown))
    return found


def _planes(cohort: Cohort, image_row: int) -> list[tuple[str, bytes]]:
    """The planes of a volume that hold most of its lesion. A drawn mask stands on the brain of the atlas, for it shows none."""
    geometry = cohort.geometry(image_row)
    pixels = geometry.map_to_original(cohort.pixels(image_row).astype(np.float32))
    masks = [region.mask for region in cohort.regions_of(image_row) if region.mask is not None]
    lesion = np.any(masks, axis=0) if masks else None
    image = cohort.images.iloc[image_row]
    if image["dicom_modality"] == "SEG":
        lesion = pixels >= max(float(pixels.max()) / 2, 1.0) if lesion is None else lesion
        if cohort.atlas is not None:
            pixels = geometry.map_to_original((cohort.atlas > 0) * np.float32(90))
    through = brightest(pixels, lesion)
    edge_mm = np.multiply(pixels.shape, geometry.spacing_mm or (1.0,) * 3)
    grown = planes(pixels, through, SIDE * edge_mm / edge_mm.max())
    drawn = {} if lesion is None else planes(lesion, through, SIDE * edge_mm / edge_mm.max())
    nothing = np.zeros((0, 4))
    return [
        (
            f"{image.get('name') or 'volume'}, {view}",
            overlay(plane.round().astype(np.uint8), nothing, nothing, mask_truth=drawn.get(view), format="JPEG"),
        )
        for view, plane in grown.items()
    ]
