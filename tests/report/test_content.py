"""What a text may say: where each fact comes from, and what stays out."""

from dataclasses import replace

import numpy as np
import pytest

from chiasm.geometry import Geometry
from chiasm.report.content import (
    Statement,
    TextContent,
    read_content,
    read_entities,
    read_image_content,
    render_statement,
)
from chiasm.report.findings import label_report
from chiasm.study import Finding, Image, Outcome, Record, Region, Report, State, Study, View
from chiasm.vocabulary import FINDINGS


def film(view=View.PA, spacing=()):
    return Image("i", np.zeros((100, 200), np.uint8), Geometry.identity((100, 200), spacing), view)


def study(**parts):
    return Study("s", "p", **{"images": (film(),), **parts})


def test_every_finding_of_the_vocabulary_has_an_entry_with_sources_that_the_labeler_knows_by_its_name():
    assert set(FINDINGS) < set(read_entities())
    for finding, entry in read_entities().items():
        assert set(entry) - {"reviewed"} == {"name", "definition", "appearance", "sources"}
        assert entry["sources"] and all(len(entry[part].split()) <= 25 for part in ("definition", "appearance"))
        if finding in FINDINGS:
            (read,) = label_report(f"There is {entry['name']}.", [finding])
            assert read.state is State.PRESENT


def test_the_report_speaks_before_the_labels():
    labels = (Finding("mass", State.PRESENT), Finding("edema", State.ABSENT))
    report = Report({"indication": "Mass?", "findings": "No pneumothorax. Possible fracture."})
    content = read_content(study(report=report, findings=labels))
    assert content.source == "report"
    assert content.states == {"pneumothorax": State.ABSENT, "fracture": State.UNCERTAIN, "normal": State.ABSENT}


def test_a_report_that_states_nothing_leaves_the_word_to_the_labels_of_the_main_target():
    labels = (Finding("edema", State.ABSENT), Finding("lung_opacity", State.PRESENT, target="lung_opacity"))
    content = read_content(study(report=Report({"findings": "Die Lunge ist frei."}), findings=labels))
    assert (content.source, content.states) == ("labels", {"edema": State.ABSENT})


def test_a_nodule_is_a_lung_lesion_and_no_nodule_rules_out_no_lesion():
    present = read_content(study(findings=(Finding("nodule", State.PRESENT), Finding("lung_lesion", State.ABSENT))))
    assert present.states["lung_lesion"] is State.PRESENT
    absent = read_content(study(findings=(Finding("nodule", State.ABSENT),)))
    assert absent.states == {"nodule": State.ABSENT}


@pytest.mark.parametrize(
    ("box", "view", "lungs", "side", "place"),
    [
        ((10, 70, 50, 90), View.PA, (), "right", "lower third of the image"),
        ((150, 5, 180, 25), View.AP, (), "left", "upper third of the image"),
        ((90, 5, 120, 25), View.PA, (), "", ""),  # across the midline
        ((10, 40, 50, 60), View.LATERAL, (), "", "middle third of the image"),
        # the left lung begins at y = 40 and is 30 high: y = 45 lies in its upper third
        ((150, 40, 160, 50), View.PA, ((20, 30, 80, 80), (120, 40, 190, 70)), "left", "upper zone"),
        # the chest's midline lies at x = 50, not at that of the film
        ((60, 40, 70, 50), View.PA, ((10, 0, 45, 90), (55, 0, 90, 90)), "left", "mid zone"),
    ],
)
def test_a_region_is_placed_as_the_reader_of_a_film_sees_it(box, view, lungs, side, place):
    organs = [
        Region(label, "i", lung, target="anatomy")
        for label, lung in zip(("right_lung", "left_lung"), lungs, strict=False)
    ]
    content = read_image_content(study(images=(film(view),), regions=(Region("fracture", "i", box), *organs)))
    (said,) = content.statements
    assert (said.finding, said.state, said.side, said.place) == ("fracture", State.PRESENT, side, place)


@pytest.mark.parametrize(
    ("box", "size"), [((0, 0, 40, 50), "10% of the image"), ((0, 0, 10, 10), "less than 1% of the image")]
)
def test_size_as_a_share_where_no_spacing_is_known(box, size):
    (said,) = read_image_content(study(regions=(Region("fracture", "i", box),))).statements
    assert said.size == size


def test_size_in_mm_where_the_spacing_is_known_and_a_mask_counts_by_its_box():
    mask = np.zeros((100, 200), bool)
    mask[70:80, 20:50] = True
    content = read_image_content(
        study(images=(film(spacing=(2.0, 0.5)),), regions=(Region("fracture", "i", mask=mask),))
    )
    assert content.statements[0].size == "15 x 20 mm"


def test_image_facts_hold_nothing_of_record_outcome_label_or_report():
    bare = study(regions=(Region("mass", "i", (10, 10, 30, 30)),), facts={"lesion_volume_ml": 3.0, "foci": None})
    told = replace(
        bare,
        patient_id="another",
        report=Report({"findings": "Large pneumothorax."}),
        record=Record({"age_years": 80.0}),
        outcomes=(Outcome("event", 1.0),),
        findings=(Finding("edema", State.PRESENT),),
        split="test",
    )
    assert read_image_content(bare) == read_image_content(told)
    assert read_image_content(bare).measured == {"lesion_volume_ml": 3.0}
    assert read_image_content(bare).source == "regions+measurements"


def test_nothing_known_is_no_facts():
    assert not read_content(study())
    assert not read_image_content(study(findings=(Finding("mass", State.PRESENT),)))
    assert TextContent().to_json() == '{"findings": [], "measured": {}}'


def test_a_side_is_said_once():
    here = Statement("atelectasis", State.UNCERTAIN, manner="small", side="right", place="right upper lobe")
    assert render_statement(here) == "Possible small atelectasis, right upper lobe."
    assert (
        render_statement(replace(here, state=State.PRESENT, place="", size="5 x 4 mm"))
        == "Small right atelectasis, 5 x 4 mm."
    )


def test_a_report_is_said_again_with_its_own_words_for_place_and_size():
    text = "Small left pleural effusion. Patchy opacity in the right lower lobe, possibly pneumonia. No fracture."
    content = read_content(study(report=Report({"findings": text})))
    said = {s.finding: s for s in content.statements}
    assert said["pleural_effusion"] == Statement("pleural_effusion", State.PRESENT, manner="small", side="left")
    opacity = said["lung_opacity"]
    assert (opacity.manner, opacity.side, opacity.place) == ("patchy", "right", "lower lobe")
    assert said["pneumonia"].state is State.UNCERTAIN
    assert said["fracture"] == Statement("fracture", State.ABSENT)


def test_every_mention_of_a_finding_is_said_and_a_word_that_would_be_another_finding_is_not():
    text = "Right pleural effusion. Large left effusion. Nodular opacity in the left apex."
    content = read_content(study(report=Report({"findings": text})))
    sides = [s.side for s in content.statements if s.finding == "pleural_effusion"]
    assert sides == ["right", "left"]
    (opacity,) = [s for s in content.statements if s.finding == "lung_opacity"]
    assert "nodular" not in opacity.manner and opacity.side == "left"
