"""Attributes of findings against the qualifiers in Open-i's human MeSH codes ("Opacity/lung/upper lobe/right/mild").

    python benchmarks/attributes.py [--data ../shared/data/openi] [--halves even odd]

Rules were written on reports of even number; the odd ones are for the figures. Writes benchmarks/results/attributes.json.
"""

from __future__ import annotations

import argparse
import json
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from chiasm.metrics.bootstrap import Resamples
from chiasm.report.attributes import Attribute, describe_findings
from chiasm.report.files import openi_id, parse_openi_xml, read_openi_xml
from chiasm.study import Report, State

PROTOCOL = (
    "values of one kind said of one finding in one report, pooled over its statements that are present or uncertain; micro "
    "precision, recall and F1 over (report, finding, value); intervals by report. 'shared': pairs of report and finding that "
    "both the codes and the labeler have; 'all': every pair. Bilateral is left and right; the codes write lobes for zones, so "
    "upper and lower zone count as the lobe, a mid zone as middle lobe (right) or lingula (left), and a coded middle lobe or "
    "lingula is right or left"
)
HEADINGS = {
    "Pulmonary Atelectasis": "atelectasis",
    "Cardiomegaly": "cardiomegaly",
    "Pleural Effusion": "pleural_effusion",
    "Opacity": "lung_opacity",
    "Density": "lung_opacity",
    "Airspace Disease": "lung_opacity",
    "Infiltrate": "lung_opacity",
    "Consolidation": "lung_opacity",
    "Nodule": "nodule",
    "Mass": "mass",
    "Pneumonia": "pneumonia",
    "Pneumothorax": "pneumothorax",
    "Pulmonary Edema": "edema",
    "Emphysema": "emphysema",
    "Pulmonary Emphysema": "emphysema",
    "Pulmonary Fibrosis": "fibrosis",
    "Hernia, Hiatal": "hernia",
    "Fractures, Bone": "fracture",
}
QUALIFIERS = {
    "side": {"left": "left", "right": "right", "bilateral": "both"},
    "lobe": {"upper lobe": "upper", "middle lobe": "middle", "lower lobe": "lower", "lingula": "lingula"},
    "zone": {"base": "base", "apex": "apex", "hilum": "hilum", "retrocardiac": "retrocardiac"},
    "severity": {name: name for name in ("mild", "moderate", "severe", "borderline")},
    "extent": {name: name for name in ("small", "large", "focal", "diffuse", "scattered", "multiple")},
    "texture": {name: name for name in ("patchy", "streaky", "interstitial", "reticular", "round", "irregular")},
    "chronicity": {"chronic": "chronic", "healed": "chronic"},
}
MID = {"left": "lingula", "right": "middle"}
SIDE = {"lingula": "left", "middle": "right"}
Values = dict[str, set[tuple[str, str]]]  # finding -> (kind, value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/openi"))
    parser.add_argument("--halves", nargs="+", default=["even", "odd"], choices=["even", "odd"])
    arguments = parser.parse_args()
    pairs: dict[str, list[tuple[str, Values, Values]]] = {half: [] for half in arguments.halves}
    with zipfile.ZipFile(arguments.data / "ecgen-radiology.zip") as archive:
        for name in sorted(archive.namelist()):
            half = "odd" if name.endswith(".xml") and int(Path(name).stem) % 2 else "even"
            if name.endswith(".xml") and half in pairs:
                root = parse_openi_xml(archive.read(name), name)
                coded = read_codes([element.text or "" for element in root.iter("major")])
                text = read_openi_xml(archive.read(name), name)
                pairs[half].append((openi_id(root), coded, read_report(text.report)))
    result = {
        "date": date.today().isoformat(),
        "command": "python benchmarks/attributes.py",
        "protocol": PROTOCOL,
        "halves": {half: measure(rows) for half, rows in pairs.items()},
    }
    if set(pairs) == {"even", "odd"}:
        (Path(__file__).parent / "results" / "attributes.json").write_text(json.dumps(result, indent=1), "utf-8")
    for half, figures in result["halves"].items():
        for protocol in ("shared", "all"):
            for kind, m in figures[protocol].items():
                shown = (
                    f"P {m['precision']:.3f}  R {m['recall']:.3f}  F1 {m['f1']:.3f} ({m['low']:.3f} to {m['high']:.3f})"
                )
                print(f"{half:5} {protocol:7} {kind:11} {shown}  coded {m['coded']}")


def read_codes(codes: Sequence[str]) -> Values:
    """What the codes of one report say of each finding."""
    values: Values = defaultdict(set)
    for code in codes:
        heading, *qualifiers = (part.strip() for part in code.split("/"))
        if heading in HEADINGS:
            own = values[HEADINGS[heading]]
            for kind, known in QUALIFIERS.items():
                own |= {(kind, known[q]) for q in qualifiers if q in known}
    return {finding: _spread(own) for finding, own in values.items()}


def read_report(report: Report) -> Values:
    """What the labeler reads of each finding, in the values the codes have."""
    values: Values = defaultdict(set)
    for described in describe_findings(report):
        finding, state = described.mention.finding, described.mention.state
        if state in (State.PRESENT, State.UNCERTAIN) and finding in set(HEADINGS.values()):
            values[finding] |= _coded(described.attributes)
    return {finding: _spread(own) for finding, own in values.items()}


def measure(rows: Sequence[tuple[str, Values, Values]]) -> dict[str, Any]:
    """Figures of one half, for both protocols and each kind."""
    resamples = Resamples.draw([identity for identity, _, _ in rows])
    figures: dict[str, Any] = {"reports": len(rows)}
    for protocol in ("shared", "all"):
        figures[protocol] = {}
        for kind in QUALIFIERS:
            counts = np.array([_count(coded, read, kind, protocol) for _, coded, read in rows], dtype=np.float64).T
            f1 = resamples.estimate(resamples.draws(counts, lambda s: 2 * s[0] / (s[1] + s[2])), kind).metric()
            both, coded, read = counts.sum(axis=1)
            shares = {"precision": both / read, "recall": both / coded, "f1": f1.value, "low": f1.low, "high": f1.high}
            figures[protocol][kind] = {**shares, "coded": int(coded), "read": int(read)}
    return figures


def _coded(attributes: Sequence[Attribute]) -> set[tuple[str, str]]:
    """Attributes of one finding in the values of the codes: lobes for zones."""
    known = {(kind, value) for kind, values in QUALIFIERS.items() for value in values.values()}
    said = {(a.kind, a.value) for a in attributes}
    zones = {value for kind, value in said if kind == "zone"}
    said |= {("lobe", zone) for zone in zones & {"upper", "lower"}}
    if "mid" in zones:
        said |= {("lobe", MID[value]) for kind, value in _spread(said) if kind == "side"}
    return said & known


def _spread(values: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Both sides as left and right, and the side that a lobe has."""
    sides = {("side", SIDE[value]) for kind, value in values if kind == "lobe" and value in SIDE}
    both = {("side", "left"), ("side", "right")} if ("side", "both") in values else set()
    return (values | sides | both) - {("side", "both")}


def _count(coded: Values, read: Values, kind: str, protocol: str) -> tuple[int, int, int]:
    """(in both, coded, read) of one report."""
    findings = coded.keys() & read.keys() if protocol == "shared" else coded.keys() | read.keys()
    a = {(finding, value) for finding in findings for k, value in coded.get(finding, ()) if k == kind}
    b = {(finding, value) for finding in findings for k, value in read.get(finding, ()) if k == kind}
    return len(a & b), len(a), len(b)


if __name__ == "__main__":
    main()
