"""The one list of findings: canonical name, aliases, and the names they carry in each published scheme.

ChestX-ray14's `Effusion` is CheXpert's `Pleural Effusion` and here `pleural_effusion`. A name that is in no scheme (a
user's own label) is taken as it is, in snake_case.

>>> canonical("Effusion"), canonical("Pleural Effusion"), canonical("Pleural_Thickening")
('pleural_effusion', 'pleural_effusion', 'pleural_thickening')
>>> scheme_name("pleural_effusion", "chestxray14")
'Effusion'
"""

from __future__ import annotations

import re

# canonical: (ChestX-ray14 name, CheXpert name, further aliases); "" where a scheme has no such finding
_FINDINGS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "atelectasis": ("Atelectasis", "Atelectasis", ("collapse",)),
    "cardiomegaly": ("Cardiomegaly", "Cardiomegaly", ("enlarged heart",)),
    "enlarged_cardiomediastinum": ("", "Enlarged Cardiomediastinum", ("widened mediastinum",)),
    "pleural_effusion": ("Effusion", "Pleural Effusion", ("effusion",)),
    "infiltration": ("Infiltration", "", ("infiltrate",)),
    "mass": ("Mass", "", ()),
    "nodule": ("Nodule", "", ()),
    "lung_lesion": ("", "Lung Lesion", ()),
    "lung_opacity": ("", "Lung Opacity", ("opacity",)),
    "pneumonia": ("Pneumonia", "Pneumonia", ()),
    "pneumothorax": ("Pneumothorax", "Pneumothorax", ()),
    "consolidation": ("Consolidation", "Consolidation", ("airspace disease",)),
    "edema": ("Edema", "Edema", ("pulmonary edema",)),
    "emphysema": ("Emphysema", "", ()),
    "fibrosis": ("Fibrosis", "", ()),
    "pleural_thickening": ("Pleural_Thickening", "", ()),
    "pleural_other": ("", "Pleural Other", ()),
    "hernia": ("Hernia", "", ("hiatal hernia",)),
    "fracture": ("", "Fracture", ()),
    "support_devices": ("", "Support Devices", ()),
    "normal": ("No Finding", "No Finding", ("normal",)),
}
_COLUMN = {"chestxray14": 0, "chexpert": 1}
SCHEMES = tuple(_COLUMN)
FINDINGS = tuple(_FINDINGS)


def snake_case(name: str) -> str:
    """Lower case, every run of characters but letters and digits one underscore: the form of every name in a cohort
    and a metric. Letters of any script stay.

    >>> snake_case("Pleural_Thickening"), snake_case(" COVID-19 "), snake_case("Erguß (groß)")
    ('pleural_thickening', 'covid_19', 'erguß_groß')
    """
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


_ALIASES = {
    snake_case(alias): name
    for name, (nih, chexpert, aliases) in _FINDINGS.items()
    for alias in (name, nih, chexpert, *aliases)
    if alias
}


def canonical(name: str) -> str:
    """The canonical name of a finding in any scheme's spelling; a name no scheme knows comes back in snake_case."""
    key = snake_case(name)
    return _ALIASES.get(key, key)


def scheme(name: str) -> dict[str, str]:
    """Canonical name -> the scheme's own name, in the scheme's order, for "chestxray14" or "chexpert"."""
    column = _COLUMN[name]
    names = {key: row[:2][column] for key, row in _FINDINGS.items()}
    return {key: own for key, own in names.items() if own}


def scheme_name(finding: str, scheme_: str) -> str | None:
    """The scheme's own name of a canonical finding, or None where the scheme has no such finding."""
    return scheme(scheme_).get(finding)
