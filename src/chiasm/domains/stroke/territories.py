"""The names of the regions in the atlas of arterial territories of Liu et al. (Scientific Data 2023, 10:74)."""

from __future__ import annotations

_ARTERIES = (
    "anterior cerebral artery",
    "medial lenticulostriate arteries",
    "lateral lenticulostriate arteries",
    "middle cerebral artery, frontal branches",
    "middle cerebral artery, parietal branches",
    "middle cerebral artery, temporal branches",
    "middle cerebral artery, occipital branches",
    "middle cerebral artery, insular branches",
    "posterior cerebral artery, temporal branches",
    "posterior cerebral artery, occipital branches",
    "posterior choroidal and thalamoperforating arteries",
    "anterior choroidal and thalamoperforating arteries",
    "basilar artery",
    "superior cerebellar artery",
    "inferior cerebellar arteries",
)
TERRITORIES = {
    2 * i + 1 + right: f"{('left', 'right')[right]} {name}" for i, name in enumerate(_ARTERIES) for right in (0, 1)
}
"""Arterial territories by their number: odd is left, even right."""
VENTRICLES = {31: "left lateral ventricle", 32: "right lateral ventricle"}
"""What the same atlas numbers beside the territories."""
