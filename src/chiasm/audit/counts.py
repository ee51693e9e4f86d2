"""Counts of what a cohort holds and lacks, by split: studies, modalities, truth, chart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from chiasm.cohort.store import Cohort, ColumnInfo
from chiasm.splits import SPLITS
from chiasm.study import Kind

STATES = ("present", "absent", "uncertain")
MOST_CATEGORIES = 20
FEWEST_IN_QUARTER = 30
UNEVEN = 0.15
"""Difference in the share of unknown values from which an outcome counts as missing not at random."""


def count_splits(cohort: Cohort) -> dict[str, dict[str, int]]:
    """Of each split and of "all": studies, patients, images, and studies with each modality or a region."""
    studies = cohort.studies
    images = cohort.images["study_id"].value_counts()
    has = pd.DataFrame(
        {
            "with_image": studies["study_id"].isin(images.index),
            "with_report": _any(studies, "report.", cohort.sections),
            "with_record": _any(studies, "record.", tuple(cohort.record)),
            "with_region": studies["study_id"].isin(cohort.regions["study_id"]),
        }
    )
    return {
        split: {
            "studies": len(rows),
            "patients": int(rows["patient_id"].nunique()),
            "images": int(images.reindex(rows["study_id"], fill_value=0).sum()),
            **{str(name): int(column[rows.index].sum()) for name, column in has.items()},
        }
        for split, rows in _by_split(studies).items()
    }


def count_images(cohort: Cohort) -> dict[str, dict[str, int]]:
    """Images by view, DICOM modality and dimension; studies by their number of images."""
    images = cohort.images
    per_study = images["study_id"].value_counts().reindex(cohort.studies["study_id"], fill_value=0)
    names = images["name"] if "name" in images else images["view"].map(lambda _: "")
    return {
        "name": _tally(names[names != ""]),
        "view": _tally(images["view"]),
        "dicom_modality": _tally(images["dicom_modality"].replace("", "not said")),
        "array": _tally(images["array"]),
        "images_per_study": _tally(per_study.astype(str)),
    }


def count_truth(cohort: Cohort) -> dict[str, Any]:
    """Of each target, label and split: the states of a finding and its prevalence, or the values of an outcome.

    Prevalence is the share of present among present and absent; None where neither is known.
    """
    splits = _by_split(cohort.studies)
    targets: dict[str, Any] = {}
    for name, info in cohort.targets.items():
        describe = _findings if info.of == "findings" else _DESCRIBE[info.kind]
        timed = info.kind is Kind.SURVIVAL
        labels = {
            label: {
                "reader": reader,
                "splits": {
                    split: describe(rows[f"{name}.{label}"]) | (_events(rows[f"{name}.{label}.event"]) if timed else {})
                    for split, rows in splits.items()
                },
            }
            for label, reader in zip(info.labels, info.readers, strict=True)
        }
        targets[name] = {"kind": info.kind.value, "of": info.of, "labels": labels}
    return targets


def count_missing(cohort: Cohort) -> dict[str, Any]:
    """Share of the studies of each split without image, report section, record value."""
    studies, splits = cohort.studies, _by_split(cohort.studies)
    no_image = ~studies["study_id"].isin(cohort.images["study_id"])

    def shares(missing: pd.Series[bool]) -> dict[str, float | None]:
        return {split: _share(missing.loc[rows.index]) for split, rows in splits.items()}

    return {
        "image": shares(no_image),
        "report": {name: shares(studies[f"report.{name}"].isna()) for name in cohort.sections},
        "record": {name: shares(studies[f"record.{name}"].isna()) for name in cohort.record},
    }


def count_unknown(cohort: Cohort) -> list[dict[str, Any]]:
    """Outcomes that are unknown more often at one end of a chart column than at the other, so not at random.

    Compared are the lowest and the highest quarter of the column's known values, where each has `FEWEST_IN_QUARTER`.
    """
    found = []
    outcomes = [(t, label) for t, info in cohort.targets.items() if info.of == "outcomes" for label in info.labels]
    for name in (name for name, info in cohort.record.items() if info.kind == "numeric"):
        values = cohort.studies[f"record.{name}"].to_numpy(float)
        low, high = np.nanquantile(values, (0.25, 0.75))
        ends = (values <= low, values >= high)
        if low == high or min(map(np.sum, ends)) < FEWEST_IN_QUARTER:
            continue
        for target, label in outcomes:
            unknown = cohort.studies[f"{target}.{label}"].isna().to_numpy()
            shares = [round(float(unknown[end].mean()), 6) for end in ends]
            if abs(shares[0] - shares[1]) >= UNEVEN and label != name:
                facts = {"low": float(low), "high": float(high), "unknown_low": shares[0], "unknown_high": shares[1]}
                found.append({"label": f"{target}/{label}", "column": name, **facts})
    return found


def describe_record(cohort: Cohort) -> dict[str, Any]:
    """The range of each numeric column of the chart, and how often each word of the others occurs."""
    return _describe(cohort, "record", cohort.record)


def describe_facts(cohort: Cohort) -> dict[str, Any]:
    """The same of what was measured on the images."""
    return _describe(cohort, "fact", cohort.facts)


def _describe(cohort: Cohort, prefix: str, infos: Mapping[str, ColumnInfo]) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for name, info in infos.items():
        values = cohort.studies[f"{prefix}.{name}"]
        facts: dict[str, Any] = {"kind": info.kind, "unknown_time": info.unknown_time}
        if info.kind == "numeric":
            facts |= _numbers(values)
        else:
            words = _tally(values)  # of those that are known
            facts |= {"known": int(values.notna().sum()), "missing": int(values.isna().sum())}
            facts["words"] = dict(list(words.items())[:MOST_CATEGORIES])
            facts["further_words"] = max(0, len(words) - MOST_CATEGORIES)
        described[name] = facts
    return described


def _by_split(studies: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {**{split: studies[studies["split"] == split] for split in SPLITS}, "all": studies}


def _any(studies: pd.DataFrame, prefix: str, names: tuple[str, ...]) -> pd.Series[bool]:
    return studies[[prefix + name for name in names]].notna().any(axis=1)


def _share(values: pd.Series[bool]) -> float | None:
    return round(float(values.mean()), 6) if len(values) else None


def _tally(values: pd.Series[Any]) -> dict[str, int]:
    return {str(value): int(count) for value, count in values.value_counts().items()}


def _findings(values: pd.Series[Any]) -> dict[str, Any]:
    counts = {state: int((values == state).sum()) for state in STATES}
    known = counts["present"] + counts["absent"]
    prevalence = round(counts["present"] / known, 6) if known else None
    return {**counts, "not_mentioned": len(values) - sum(counts.values()), "prevalence": prevalence}


def _binary(values: pd.Series[Any]) -> dict[str, Any]:
    known = values.dropna().astype(float)
    positive = int((known == 1).sum())
    prevalence = round(positive / len(known), 6) if len(known) else None
    return {"known": len(known), "missing": len(values) - len(known), "positive": positive, "prevalence": prevalence}


def _numbers(values: pd.Series[Any]) -> dict[str, Any]:
    known = values.dropna().to_numpy(float)
    facts: dict[str, Any] = {"known": len(known), "missing": len(values) - len(known)}
    names = ("min", "q25", "median", "q75", "max")
    quantiles = np.quantile(known, (0, 0.25, 0.5, 0.75, 1)).tolist() if len(known) else [None] * len(names)
    return {**facts, **dict(zip(names, quantiles, strict=True)), "mean": float(known.mean()) if len(known) else None}


def _classes(values: pd.Series[Any]) -> dict[str, Any]:
    return {"known": int(values.notna().sum()), "missing": int(values.isna().sum()), "classes": _tally(values)}


def _levels(values: pd.Series[Any]) -> dict[str, Any]:
    levels, counts = np.unique(values.dropna().to_numpy(float), return_counts=True)
    return {**_numbers(values), "levels": {f"{level:g}": int(n) for level, n in zip(levels, counts, strict=True)}}


def _events(values: pd.Series[Any]) -> dict[str, Any]:
    return {"events": int((values == 1).sum())}


_DESCRIBE = {
    Kind.BINARY: _binary,
    Kind.ORDINAL: _levels,
    Kind.MULTICLASS: _classes,
    Kind.REGRESSION: _numbers,
    Kind.SURVIVAL: _numbers,
}
