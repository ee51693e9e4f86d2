"""`chiasm inspect`: what a cohort holds, what is missing, and what would let a model look better than it is.

What comes out names studies by their ids, so that the holder of the data can find them; no text and no patient id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from chiasm.audit.counts import (
    count_images,
    count_missing,
    count_splits,
    count_truth,
    count_unknown,
    describe_facts,
    describe_record,
)
from chiasm.audit.duplicates import CORRELATION, FAR_BITS, identical, near_identical
from chiasm.audit.inspection import render_inspection
from chiasm.audit.record import record_leaks
from chiasm.cohort.store import Cohort
from chiasm.metrics.bootstrap import FEWEST
from chiasm.report.findings import label_reports
from chiasm.study import Kind, State
from chiasm.vocabulary import FINDINGS, canonical, snake_case

__all__ = ["inspect_cohort", "render_inspection"]

MOST_LISTED = 200
"""Groups or pairs that are named one by one; the counts are always of all."""
LONG_WORDS = 20
"""Words from which a repeated report is no stock phrase ("No acute disease.")."""
MOST_READ = 2000
"""Texts of a section that the finding labeler reads; whether a label is named is looked up in all of them."""
GIVES_AWAY = 0.75
"""AUROC of the label's words alone from which a section is warned of."""
_FEWEST = 10


def inspect_cohort(cohort: Cohort) -> dict[str, Any]:
    """Counts, missingness, ranges and leakage as one JSON document; `warnings` are its sentences for people.

    Reads the pixels of images whose perceptual hash is near another patient's; memory stays flat.
    """
    studies = cohort.studies[["study_id", "patient_id", "split"]]
    document: dict[str, Any] = {
        "cohort": {
            "source": cohort.source,
            "hash": cohort.hash,
            "size": cohort.size,
            "split_rule": cohort.meta["split_rule"],
            "rejected": cohort.meta["counts"]["rejected"],
            "notes": list(cohort.notes),
        },
        "splits": count_splits(cohort),
        "images": count_images(cohort),
        "targets": count_truth(cohort),
        "missing": count_missing(cohort),
        "unknown": count_unknown(cohort),
        "record": describe_record(cohort),
        "facts": describe_facts(cohort),
        "leakage": {
            "shared_patients": shared_patients(studies),
            "identical_pixels": identical_pixels(cohort, studies),
            "near_identical_pixels": near_pixels(cohort, studies),
            "identical_reports": identical_reports(cohort, studies),
            "label_words": label_words(cohort),
            "record": record_leaks(cohort),
        },
    }
    return {**document, "warnings": warnings(document)}


def shared_patients(studies: pd.DataFrame) -> dict[str, Any]:
    """Patients with studies in more than one split."""
    several = studies.groupby("patient_id")["split"].transform("nunique") > 1
    groups = [rows.index.tolist() for _, rows in studies[several].groupby("patient_id")]
    return _listed([_group(studies, rows) for rows in groups])


def identical_pixels(cohort: Cohort, studies: pd.DataFrame) -> dict[str, Any]:
    """Groups of images with equal stored pixels; those of one gray value (`blank`) are counted apart."""
    groups = []
    for images in identical(cohort.images["pixel_hash"].to_numpy(np.str_)):
        first = cohort.pixels(images[0])
        rows = sorted({int(row) for row in cohort.image_study[images]})
        groups.append({**_group(studies, rows), "images": len(images), "blank": bool(first.min() == first.max())})
    pictures = [group for group in groups if not group["blank"]]
    return {
        **_listed(pictures),
        "blank": len(groups) - len(pictures),
        "blank_images": sum(group["images"] for group in groups if group["blank"]),
    }


def near_pixels(cohort: Cohort, studies: pd.DataFrame) -> dict[str, Any]:
    """Pairs of images of different patients that are one picture scaled, re-encoded or shifted."""
    found = [pair for array in cohort.arrays for pair in _near_in(cohort, studies, array)]
    rule = f"perceptual hashes within {FAR_BITS} of 64 bits, stored pixels correlating by {CORRELATION} or more"
    return {**_listed(found), "rule": rule}


def _near_in(cohort: Cohort, studies: pd.DataFrame, array: str) -> list[dict[str, Any]]:
    """The pairs of one pixel array; pictures that are identical take part once, and belong to all their studies."""
    images = cohort.images
    mine = np.flatnonzero((images["array"] == array).to_numpy())
    _, first, group = np.unique(images["pixel_hash"].to_numpy(np.str_)[mine], return_index=True, return_inverse=True)
    picture = first[group]  # the first image with the same pixels
    study_rows = cohort.image_study[mine]
    patients = np.unique(studies["patient_id"].to_numpy(np.str_), return_inverse=True)[1][study_rows]
    one = np.ones(len(mine), bool)
    np.logical_and.at(one, picture, patients == patients[picture])
    once = np.sort(first)
    hashes = images["perceptual_hash"].to_numpy(np.uint64)[mine[once]]
    pairs = near_identical(hashes, np.where(one, patients, -1)[once], lambda i: cohort.pixels(int(mine[once[i]])))
    return [
        {
            **_group(
                studies, sorted({int(row) for row in study_rows[np.isin(picture, once[[pair.first, pair.second]])]})
            ),
            "correlation": round(pair.correlation, 5),
            "shift_px": list(pair.shift_px),
        }
        for pair in pairs
    ]


def identical_reports(cohort: Cohort, studies: pd.DataFrame) -> dict[str, Any]:
    """Groups of studies of several patients or splits with one report text (but for case and white space)."""
    texts = pd.Series([" ".join(text.lower().split()) for text in cohort.texts(cohort.sections)])
    repeated = texts[(texts != "") & texts.duplicated(keep=False)]
    groups = []
    for text, rows in repeated.groupby(repeated):
        group = _group(studies, rows.index.tolist())
        if group["across_patients"] or group["across_splits"]:
            groups.append({**group, "words": len(str(text).split())})
    groups.sort(key=lambda group: -group["words"])
    long = [group for group in groups if group["words"] >= LONG_WORDS]
    return {
        **_listed(groups),
        "long": len(long),
        "long_across_splits": sum(group["across_splits"] for group in long),
    }


def label_words(cohort: Cohort) -> dict[str, dict[str, Any]]:
    """Section -> "target/label" -> how often its text names the label where it is present, and where it is known not to be.

    `named` counts the label's words and its aliases, negated or not; `affirmed` what the finding labeler reads as
    present or uncertain (findings of the vocabulary only, in up to `MOST_READ` texts). `auroc` is that of the better of
    the two as a predictor: .5 says nothing, 1 gives the label away to a model that reads the section.
    """
    labels = _label_states(cohort)
    found: dict[str, dict[str, Any]] = {}
    for section in cohort.sections:
        texts = cohort.texts([section])
        rows = np.flatnonzero([bool(text) for text in texts])
        patterns = _patterns({name for name, *_ in labels.values()}, (texts[i] for i in rows))
        read = rows[np.unique(np.linspace(0, len(rows) - 1, MOST_READ).astype(int))] if len(rows) > MOST_READ else rows
        known = sorted({name for name, *_ in labels.values()} & set(FINDINGS))
        states = label_reports([texts[i] for i in read], known)
        said = dict(zip(known, np.isin(states, [State.PRESENT.value, State.UNCERTAIN.value]).T, strict=True))
        entries = {}
        for key, (name, present, other) in labels.items():
            named = np.array([bool(patterns[name].search(texts[i])) for i in rows], bool)
            entry = _compare(named, present[rows], other[rows], "named")
            if name in said:
                entry |= {**_compare(said[name], present[read], other[read], "affirmed"), **entry, "read": len(read)}
            entry["auroc"] = max((v for k, v in entry.items() if k.endswith("_auroc") and v is not None), default=None)
            entries[key] = {k: v for k, v in entry.items() if not k.endswith("_auroc")}
        found[section] = entries
    return found


def _label_states(cohort: Cohort) -> dict[str, tuple[str, NDArray[np.bool_], NDArray[np.bool_]]]:
    """ "target/label" -> the name its words are looked for by, and [n] where it is present (or a binary outcome is 1)."""
    result = {}
    for target, info in cohort.targets.items():
        for label, reader in zip(info.labels, info.readers, strict=True):
            values = cohort.studies[f"{target}.{label}"]
            present = values == (State.PRESENT.value if info.of == "findings" else 1)
            if info.kind is Kind.BINARY and present.any():
                name = label.removesuffix(f"_{snake_case(reader)}") if reader else label
                other = values.notna() & ~present
                result[f"{target}/{label}"] = (
                    name,
                    present.to_numpy(bool),
                    (other if other.any() else ~present).to_numpy(bool),
                )
    return result


def _patterns(names: Iterable[str], texts: Iterable[str]) -> dict[str, re.Pattern[str]]:
    """A pattern a label: its own words, and every word or pair of words in the texts that the vocabulary calls by it."""
    spelled: set[str] = set()
    for text in texts:
        words = re.findall(r"[^\W_]+", text.lower())
        spelled.update(words, map(" ".join, zip(words, words[1:], strict=False)))
    forms = {name: {name.replace("_", " ")} for name in names}
    for phrase in spelled:
        if (name := canonical(phrase)) in forms:
            forms[name].add(phrase)
    return {name: re.compile("|".join(map(_spelling, sorted(forms[name]))), re.IGNORECASE) for name in forms}


def _spelling(phrase: str) -> str:
    """A pattern for one phrase, in singular and plural, with spaces or hyphens.

    >>> [bool(re.fullmatch(_spelling("lung opacity"), text)) for text in ("lung opacity", "lung-opacities", "lung opa")]
    [True, True, False]
    """
    *first, last = map(re.escape, phrase.split())
    plural = f"{last[:-1]}(?:y|ies)" if last.endswith("y") else f"{last}(?:s|es)?"
    return r"\b" + r"[\s_-]+".join([*first, plural]) + r"\b"


def _compare(
    said: NDArray[np.bool_], present: NDArray[np.bool_], other: NDArray[np.bool_], name: str
) -> dict[str, Any]:
    """Shares of texts that say it, among present ones and others, and the AUROC of saying it."""
    share, rest = (float(said[rows].mean()) if rows.any() else None for rows in (present, other))
    auroc = None if share is None or rest is None else round(0.5 + (share - rest) / 2, 4)
    return {
        "present": int(present.sum()),
        "others": int(other.sum()),
        f"{name}_if_present": share,
        f"{name}_otherwise": rest,
        f"{name}_auroc": auroc,
    }


def _group(studies: pd.DataFrame, rows: Sequence[int]) -> dict[str, Any]:
    mine = studies.iloc[list(rows)]
    return {
        "studies": mine["study_id"].tolist()[:MOST_LISTED],
        "splits": sorted(mine["split"].unique().tolist()),
        "across_patients": mine["patient_id"].nunique() > 1,
        "across_splits": mine["split"].nunique() > 1,
    }


def _listed(groups: list[dict[str, Any]]) -> dict[str, Any]:
    """All counted; the gravest (across splits, then across patients) listed."""
    ordered = sorted(groups, key=lambda group: (not group["across_splits"], not group["across_patients"]))
    return {
        "count": len(groups),
        "across_patients": sum(group["across_patients"] for group in groups),
        "across_splits": sum(group["across_splits"] for group in groups),
        "listed": ordered[:MOST_LISTED],
    }


def warnings(document: dict[str, Any]) -> list[str]:
    """What the holder of the data should look at, the gravest first."""
    leaks, said = document["leakage"], []
    if n := leaks["shared_patients"]["count"]:
        said.append(f"{n} patients have studies in more than one split: test scores will be too high")
    if n := leaks["identical_pixels"]["across_patients"]:
        said.append(f"{n} pictures stand under more than one patient, pixel by pixel: one person may have two ids")
    if n := leaks["identical_pixels"]["blank_images"]:
        said.append(f"{n} images are blank")
    if n := leaks["near_identical_pixels"]["count"]:
        across = leaks["near_identical_pixels"]["across_splits"]
        said.append(f"{n} pairs of images of different patients are nearly the same picture, {across} across splits")
    if n := leaks["identical_reports"]["long_across_splits"]:
        said.append(f"{n} reports of {LONG_WORDS} words or more stand in several splits, word by word")
    said += [
        f"the section {section} gives {label} away: its words alone reach AUROC {entry['auroc']:.2f} "
        "(leave the section out of the inputs, or score it as an arm of its own)"
        for section, entries in leaks["label_words"].items()
        for label, entry in entries.items()
        if (entry["auroc"] or 0) >= GIVES_AWAY and min(entry["present"], entry["others"]) >= _FEWEST
    ]
    said += [
        f"the record column {leak['column']} alone tells {leak['target']}/{leak['label']} (AUROC {leak['auroc']:.2f} in "
        f"{leak['patients']:,} patients): is it the label under another name? "
        f"(train without it: --set inputs.record.leave_out=[{leak['column']}])"
        for leak in leaks["record"]
    ]
    said += [
        f"{u['label']} is unknown in {u['unknown_low']:.0%} of studies with {u['column']} up to {u['low']:g} and in "
        f"{u['unknown_high']:.0%} from {u['high']:g}: it is not missing at random"
        for u in document["unknown"]
    ]
    said += _constant(document)
    if document["splits"]["train"]["studies"] and not document["splits"]["validation"]["studies"]:
        said.append(
            "no study in validation, so nothing can be trained: import with another --seed, or train with --folds"
        )
    return said


def _constant(document: dict[str, Any]) -> list[str]:
    """Labels that are the same, or nearly, for all studies of a split: they cannot be learned, or not be scored."""
    labels = [
        (f"{t}/{label}", info["kind"], e["splits"])
        for t, info in document["targets"].items()
        for label, e in info["labels"].items()
    ]
    said = []
    for split, verb in (("train", "learned"), ("test", "scored")):
        classes = {name: _classes(own[split]) for name, kind, own in labels if kind == Kind.BINARY.value}
        same = [name for name, kind, own in labels if kind != Kind.BINARY.value and _varies_not(own[split])]
        found = {
            f"no positive study in {split}, so it cannot be {verb}": [n for n, (yes, _) in classes.items() if not yes],
            f"no negative study in {split}, so it cannot be {verb}": [
                n for n, (yes, no) in classes.items() if yes and not no
            ],
            f"one value in {split}, so it cannot be {verb}": same,
            f"fewer than {FEWEST} studies of a class in {split}, so little can be {verb}": [
                f"{n} ({min(pair)})" for n, pair in classes.items() if 0 < min(pair) < FEWEST
            ],
        }
        said += [f"{what}: {', '.join(names)}" for what, names in found.items() if names]
    return said


def _classes(facts: dict[str, Any]) -> tuple[int, int]:
    """Positive and negative studies."""
    if "present" in facts:
        return int(facts["present"]), int(facts["absent"])
    return int(facts["positive"]), int(facts["known"]) - int(facts["positive"])


def _varies_not(facts: dict[str, Any]) -> bool:
    """Known of some, and the same for all of them; of times to an event, without an event."""
    if not facts["known"]:
        return False
    if "classes" in facts:
        return len([word for word, count in facts["classes"].items() if count]) < 2
    if "events" in facts:
        return int(facts["events"]) == 0
    return float(facts["min"]) == float(facts["max"])
