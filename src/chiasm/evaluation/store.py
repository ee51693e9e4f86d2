"""Evidence on disk: one .npz per arm, maps with their geometry, descriptions. No pickle, every digit kept.

PREDICTIONS/index.json          what was asked (`Question`), by which fold models, of which cohorts
PREDICTIONS/<arm>.npz           study_ids, patient_ids, fold_model, shown, values|logits|thresholds|quantiles|each/<target>; "full" is the model
PREDICTIONS/heads/NAME*         evidence of a head, as the head writes it; NAME.CONTROL* of its controls
PREDICTIONS/saliency.npz        values, target, label, studies: what the model looked at
PREDICTIONS/columns.json        of the example cases, what each column of the record added
PREDICTIONS/shares.parquet      a row for each study and number told of it: what each modality added (made of the arms)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from chiasm.atomic import whole_file, write_json
from chiasm.cohort.store import Cohort
from chiasm.errors import RunError, check_schema
from chiasm.evaluation.contributions import share_table
from chiasm.evaluation.spec import Arm, CaseMaps, Evidence, Saliency
from chiasm.heads.head import missing
from chiasm.heads.spec import Pool, Question
from chiasm.registry import HEADS
from chiasm.study import Kind

SCHEMA = 5


def write_evidence(evidence: Evidence, folder: Path) -> None:
    """Write everything that is scored. The files hold patient data: identifiers and generated or quoted report texts.

    Raises:
        RunError: the folder holds something else; predictions of an earlier evaluation are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stale = [path for ending in ("npz", "json", "parquet") for path in folder.rglob(f"*.{ending}")]
    if any(folder.iterdir()) and not (folder / "index.json").is_file():
        raise RunError(
            "the output folder holds something else",
            expected="a new folder, or one that chiasm evaluate wrote",
            where=str(folder),
            remedy="choose another --out",
        )
    for path in stale:
        path.unlink()
    pool = evidence.pool
    for prefix, arm in evidence.arms.items():
        arrays: dict[str, NDArray[Any]] = {
            "study_ids": pool.keys,
            "patient_ids": pool.patients,
            "fold_model": pool.fold_model,
        }
        arrays |= {f"values/{target}": values for target, values in arm.values.items()}
        arrays |= {f"logits/{target}": logits for target, logits in arm.logits.items()}
        arrays |= {f"thresholds/{target}": thresholds for target, thresholds in arm.thresholds.items()}
        arrays |= {f"quantiles/{target}": quantiles for target, quantiles in arm.quantiles.items()}
        arrays |= {f"each/{target}": each for target, each in arm.each.items()}
        arrays |= {} if arm.shown is None else {"shown": arm.shown}
        _save(folder / f"{prefix or 'full'}.npz", arrays)
    for name, by_control in evidence.heads.items():
        (folder / "heads").mkdir(exist_ok=True)
        for control, own in by_control.items():
            HEADS[name].write(own, _stem(folder, name, control), pool)
    if (seen := evidence.saliency) is not None:
        names = {"target": np.array(seen.target), "label": np.array(seen.label), "studies": np.array(seen.studies)}
        _save(folder / "saliency.npz", {"values": seen.values, **names})
    if (shares := share_table(evidence)) is not None:
        with whole_file(folder / "shares.parquet") as partial:
            pq.write_table(shares, partial)
    if evidence.columns:
        keys = pool.keys
        write_json(folder / "columns.json", {str(keys[at]): own for at, own in evidence.columns.items()})
    if evidence.maps.values:
        alike = {} if evidence.maps.alike is None else {"alike": np.array(evidence.maps.alike)}
        named = {f"map/{pool.keys[at]}": own for at, own in evidence.maps.values.items()}
        _save(folder / "case_maps.npz", {**named, **alike})
    index = {
        "schema": SCHEMA,
        "question": asdict(evidence.question),
        "arms": list(evidence.arms),
        "heads": {name: list(by_control) for name, by_control in evidence.heads.items()},
        "neighbour": evidence.neighbour,
        "details": {prefix: dict(arm.details) for prefix, arm in evidence.arms.items() if arm.details},
    }
    write_json(folder / "index.json", index)


def read_evidence(folder: Path, cohorts: Sequence[Cohort]) -> Evidence:
    """The inverse of `write_evidence`.

    Raises:
        RunError: files are missing, damaged or of another schema, or name studies that the cohorts do not hold.
    """
    try:
        return _read(folder, cohorts)
    except RunError:
        raise
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise RunError(
            "the stored predictions cannot be read",
            expected="the files that chiasm evaluate wrote",
            got=type(error).__name__,
            where=str(folder),
            remedy="chiasm evaluate RUN writes them again",
        ) from None


def _read(folder: Path, cohorts: Sequence[Cohort]) -> Evidence:
    index = json.loads((folder / "index.json").read_text("utf-8"))
    remedy = "chiasm evaluate RUN writes them again"
    check_schema(index["schema"], SCHEMA, RunError, what="the predictions are", where=str(folder), remedy=remedy)
    raw = index["question"]
    raw["kinds"] = {target: Kind(kind) for target, kind in raw["kinds"].items()}
    raw["levels"] = {t: [tuple(own) for own in labels] for t, labels in raw["levels"].items()}
    raw["opted_in"], raw["columns"] = tuple(raw["opted_in"]), tuple(raw["columns"])
    raw["net_benefit_at"] = tuple(raw["net_benefit_at"])
    raw["localized"] = [(target, label) for target, label in raw["localized"]]
    arms, keys = {}, None
    for prefix in index["arms"]:
        with (folder / f"{prefix or 'full'}.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if keys is None:
                keys, fold_model = arrays["study_ids"], arrays["fold_model"]
            elif not np.array_equal(keys, arrays["study_ids"]):
                raise RunError("two arms answered different studies", where=str(folder / f"{prefix}.npz"))
            parts: dict[str, dict[str, Any]] = {
                "values": {},
                "logits": {},
                "thresholds": {},
                "quantiles": {},
                "each": {},
            }
            for name in arrays.files:
                kind, _, target = name.partition("/")
                if target:
                    parts[kind][target] = arrays[name]
            shown = arrays["shown"] if "shown" in arrays.files else None
            arms[prefix] = Arm(**parts, shown=shown, details=index["details"].get(prefix, {}))
    if keys is None:
        raise RunError("no arm is stored", where=str(folder))
    for name in index["heads"]:
        if name not in HEADS:
            raise missing(name)
    heads = {
        name: {control: HEADS[name].load(_stem(folder, name, control)) for control in controls}
        for name, controls in index["heads"].items()
    }
    columns = json.loads((folder / "columns.json").read_text("utf-8")) if (folder / "columns.json").is_file() else {}
    place = {key: at for at, key in enumerate(keys.tolist())}
    return Evidence(
        Question(**raw),
        Pool.find(cohorts, keys.tolist(), fold_model),
        arms,
        heads,
        index["neighbour"],
        _read_saliency(folder / "saliency.npz"),
        {place[key]: [tuple(each) for each in own] for key, own in columns.items()},
        _read_maps(folder / "case_maps.npz", place),
    )


def _stem(folder: Path, name: str, control: str) -> Path:
    return folder / "heads" / (f"{name}.{control}" if control else name)


def _read_saliency(path: Path) -> Saliency | None:
    if not path.is_file():
        return None
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return Saliency(arrays["values"], str(arrays["target"]), str(arrays["label"]), int(arrays["studies"]))


def _read_maps(path: Path, place: dict[str, int]) -> CaseMaps:
    if not path.is_file():
        return CaseMaps()
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        alike = float(arrays["alike"]) if "alike" in arrays.files else None
        return CaseMaps({place[n.partition("/")[2]]: arrays[n] for n in arrays.files if n != "alike"}, alike)


def _save(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
