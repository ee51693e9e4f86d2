"""The list of findings and its names in the published schemes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chiasm.vocabulary import FINDINGS, SCHEMES, canonical, scheme, scheme_name, snake_case

CHESTXRAY14 = """Atelectasis Cardiomegaly Effusion Infiltration Mass Nodule Pneumonia Pneumothorax Consolidation Edema
Emphysema Fibrosis Pleural_Thickening Hernia"""  # Wang et al. 2017
CHEXPERT = {  # Irvin et al. 2019
    *(
        "Enlarged Cardiomediastinum",
        "Cardiomegaly",
        "Lung Lesion",
        "Lung Opacity",
        "Edema",
        "Consolidation",
        "Pneumonia",
    ),
    *("Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices", "No Finding"),
}


def test_every_scheme_names_all_its_findings() -> None:
    assert [name for name in scheme("chestxray14").values() if name != "No Finding"] == CHESTXRAY14.split()
    assert set(scheme("chexpert").values()) == CHEXPERT


@pytest.mark.parametrize("name", SCHEMES)
def test_every_name_of_a_scheme_leads_back_to_its_finding(name: str) -> None:
    for finding, own in scheme(name).items():
        assert canonical(own) == finding
        assert canonical(own.upper().replace("_", " ")) == finding
        assert scheme_name(finding, name) == own


def test_a_finding_a_scheme_lacks() -> None:
    assert scheme_name("fracture", "chestxray14") is None
    with pytest.raises(KeyError):
        scheme("nobody")


def test_names_that_differ_between_schemes_are_one_finding() -> None:
    assert canonical("Effusion") == canonical("Pleural Effusion") == "pleural_effusion"
    assert canonical("Infiltrate") == canonical("Infiltration") == "infiltration"
    assert canonical("My own label!") == "my_own_label"


@pytest.mark.parametrize("name", FINDINGS)
def test_canonical_names_are_their_own(name: str) -> None:
    assert canonical(name) == snake_case(name) == name


@given(st.text())
def test_snake_case_is_idempotent_and_keeps_letters_of_every_script(text: str) -> None:
    name = snake_case(text)
    assert snake_case(name) == name
    assert re.fullmatch(r"([^\W_]+(_[^\W_]+)*)?", name)
    assert bool(name) == any(c.isalnum() for c in text)
