import pytest

from chiasm.metrics.metric import Metric
from chiasm.metrics.name import parse_name
from chiasm.summary import tables
from chiasm.summary.tables import Names, Row, Table


def names(**values: float | None) -> Names:
    """Metrics by name; `__` stands for /, which a keyword cannot hold."""
    return {parse_name(name): of(value) for name, value in values.items()}


def of(value: float | None) -> Metric:
    if value is None:
        return Metric(None, None, None, 9, "p", "why")
    return Metric(value, value - 0.05, value + 0.05, 9, "p")


SUBSETS = names(
    **{
        "outcome/event/auroc": 0.8,
        "image+text+record:outcome/event/auroc": 0.8,
        "record:outcome/event/auroc": 0.6,
        "image:outcome/event/auroc": 0.7,
        "text:outcome/event/auroc": 0.65,
        "image+record:outcome/event/auroc": 0.75,
        "shuffled_text:outcome/event/auroc": 0.7,
        "bayes:image:outcome/event/auroc": 0.72,
        "image:outcome/event/auroc@sex=f": 0.1,
    }
)


def test_subsets_come_from_large_to_small_with_bayes_beside() -> None:
    (table,) = tables.subset_tables(SUBSETS)
    assert [row.name for row in table.rows] == [
        "image + text + record",
        "image + record",
        "image only",
        "text only",
        "record only",
        "with shuffled texts",
    ]
    assert [row.note for row in table.rows[:4]] == ["report-conditioned", "", "", "report-conditioned"]
    image = table.rows[2]
    assert [mark.value for mark in image.marks] == [0.72]
    assert [cell.value if cell else None for cell in image.cells] == [0.7, 0.72]
    assert table.rows[-1].quiet
    assert list(table.columns) == ["AUROC", "Bayes"]


def test_those_who_have_all_inputs_stand_beside() -> None:
    whole = names(**{"outcome/event/auroc@inputs=complete": 0.9, "image:outcome/event/auroc@inputs=complete": 0.68})
    (table,) = tables.subset_tables({**SUBSETS, **whole})
    assert list(table.columns) == ["AUROC", "where all inputs are there", "Bayes"]
    cells = {row.name: row.cells[1].value if row.cells[1] else None for row in table.rows}
    assert (cells["image + text + record"], cells["image only"], cells["text only"]) == (0.9, 0.68, None)
    assert tables.subgroup_tables({**SUBSETS, **whole}, "") == [], "it is no subgroup of people"


def test_a_scale_holds_every_whisker_and_mark() -> None:
    (table,) = tables.subset_tables(SUBSETS)
    assert (table.low, table.high, table.chance) == (0.45, 1.0, 0.5)
    far = {**SUBSETS, parse_name("bayes:text:outcome/event/auroc"): of(0.33)}
    assert tables.subset_tables(far)[0].low == pytest.approx(0.3), "Bayes at .33"
    low = names(**{"outcome/event/auroc": 0.31})
    (table,) = tables.score_tables(low, "")
    assert table.low == pytest.approx(0.2), "a whisker at .26"
    (table,) = tables.score_tables(names(**{"severity/extent/mae": 3.0, "severity/extent/r": 0.5}), "")
    assert table.high == pytest.approx(1.05 * 3.05)
    assert table.at(99.0) == 100.0


def test_the_leading_arm_names_its_inputs() -> None:
    assert tables.lead_name(SUBSETS, "") == "image + text + record · report-conditioned"
    assert tables.lead_name(SUBSETS, "image+record") == "image + record"
    assert tables.lead_name(names(**{"a/b/auroc": 0.7, "image:a/b/auroc": 0.7}), "") == "image only"
    assert tables.lead_name(names(**{"a/b/auroc": 0.7}), "") == "all inputs"


def test_one_input_has_no_subsets_to_compare() -> None:
    assert tables.subset_tables(names(**{"a/b/auroc": 0.7, "image:a/b/auroc": 0.7})) == []


def test_a_target_of_many_labels_is_led_by_its_average() -> None:
    found = names(
        **{
            f"{prefix}findings/{label}/auroc": 0.7
            for prefix in ("", "image:", "text:", "image+text:")
            for label in ("edema", "macro", "mass")
        }
    )
    (table,) = tables.subset_tables(found)
    assert table.title == "findings · average over labels"
    (scores,) = tables.score_tables(found, "")
    assert [(row.name, row.strong) for row in scores.rows] == [
        ("average over labels", True),
        ("edema", False),
        ("mass", False),
    ]


def test_the_one_label_of_a_target_goes_by_its_name() -> None:
    (table,) = tables.score_tables(names(**{"lung_opacity/all/auroc": 0.7}), "")
    assert (table.title, table.rows[0].name) == ("lung opacity", "lung opacity")


def test_controls_stand_on_the_scale_of_the_image_model() -> None:
    found = names(
        **{
            "a/b/auroc": 0.9,
            "image:a/b/auroc": 0.8,
            "thumbnail:a/b/auroc": 0.6,
            "pixel_statistics:a/b/auroc": 0.79,
            "metadata_only:a/b/auroc": None,
        }
    )
    (table,) = tables.control_tables(found)
    assert list(table.columns) == ["image alone", "metadata", "pixel statistics", "a 16 x 16 thumbnail"]
    (row,) = table.rows
    assert [cell.value if cell else None for cell in row.cells] == [0.8, None, 0.79, 0.6]
    assert {mark.shape: mark.value for mark in row.marks} == {"square": 0.79, "triangle": 0.6}


def test_subgroups_of_the_leading_arm_with_the_whole_group_beside() -> None:
    found = names(
        **{
            "a/b/auroc": 0.7,
            "a/b/auroc@sex=f": 0.6,
            "a/b/f1@sex=f": 0.4,
            "a/b/auroc@age=65_plus": 0.5,
            "image:a/b/auroc@sex=f": 0.1,
        }
    )
    (table,) = tables.subgroup_tables(found, "")
    assert [row.name for row in table.rows] == ["sex f", "age 65+"]
    assert [mark.value for mark in table.rows[0].marks] == [0.7]
    assert [cell.value if cell else None for cell in table.rows[0].cells] == [0.6, 0.4], "no AUPRC, no column of it"
    assert table.rows[0].note == "n = 9"


def test_descriptions_stand_beside_their_controls() -> None:
    found = names(**{f"{p}description/all/cider": 0.2 for p in ("", "constant:", "nearest:", "shuffled_image:")})
    (table,) = tables.arm_table(found, "description", ("cider", "bleu4"))
    assert [row.name for row in table.rows] == [
        "the model",
        "one report for everybody",
        "the nearest neighbour's report",
        "the model on shuffled images",
    ]
    assert tables.arm_table(found, "localization", ("box_iou",)) == []


def test_names_and_numbers_are_written_as_people_read_them() -> None:
    assert tables.pretty("lung_opacity", "all") == "lung opacity"
    assert tables.pretty("findings", "pleural_effusion") == "findings · pleural effusion"
    assert tables.number(None) == "—"
    assert tables.number(0.12345) == "0.123"
    assert tables.number(12.345) == "12.3"
    assert Table("", (), (), low=0.0, high=2.0).at(0.5) == 25.0


def test_an_ordinal_target_has_its_own_tables() -> None:
    found = names(
        **{
            "mrs/all/mae": 0.8, "mrs/all/qwk": -0.12, "mrs/all/r": 0.7, "mrs/all/auroc_gt_2": 0.8, "mrs/all/coverage": 0.9,
            "mrs/all/mae@sex=f": 0.7, "mrs/all/qwk@sex=f": 0.6, "nihss/all/mae": 3.0, "nihss/all/r": 0.6,
            "survival/death/c_index": 0.7, "survival/death/ibs": 0.1,
        }
    )  # fmt: skip
    drawn = tables.score_tables(found, "")
    assert [(table.title, list(table.columns)) for table in drawn] == [
        ("mrs", ["Quadratic kappa", "MAE", "Pearson r"]),
        ("mrs · above a level", ["AUROC > 2"]),
        ("mrs · prediction sets", ["Coverage"]),
        ("nihss", ["MAE", "Pearson r"]),
        ("survival", ["C-index", "Integrated Brier"]),
    ]
    assert drawn[0].low == -0.2, "the whisker of a kappa below 0 is on the scale"
    (group,) = tables.subgroup_tables(found, "")
    assert [mark.value for mark in group.rows[0].marks] == [0.8]


def test_calibration_and_net_benefit_stand_in_one_table_with_a_line_at_1() -> None:
    found = names(
        **{
            "outcome/bad/auroc": 0.8, "outcome/bad/calibration_slope": 0.9, "outcome/bad/calibration_intercept": -0.3,
            "outcome/bad/net_benefit_0.2": 0.1,
        }
    )  # fmt: skip
    table = tables.score_tables(found, "")[1]
    assert list(table.columns) == ["Slope", "Intercept", "Net benefit at 0.2"]
    assert table.chance == 1.0


def test_what_is_added_stands_around_nothing() -> None:
    gains = names(
        **{
            "outcome/event/auroc": 0.8,
            "added_image:outcome/event/auroc": 0.1,
            "added_text:outcome/event/auroc": -0.02,
            "added_opt_in:outcome/event/auroc": 0.3,
            "added_image:outcome/event/auroc@inputs=complete": 0.12,
            "outcome/event/shapley_image": 0.7,
        }
    )
    (table,) = tables.added_tables(gains, ["etiology"])
    assert [row.name for row in table.rows] == ["the image", "the text", "etiology"]
    assert list(table.columns) == ["AUROC", "where all inputs are there", "mean share of an answer"]
    assert [cell.value if cell else None for cell in table.rows[0].cells] == [0.1, 0.12, 0.7]
    assert (table.low, table.high, table.chance) == (pytest.approx(-1.1 * 0.35), pytest.approx(1.1 * 0.35), 0.0)
    lower = names(**{"mrs/all/mae": 1.0, "added_text:mrs/all/mae": -0.2})
    assert list(tables.added_tables(lower)[0].columns) == ["MAE (lower is better)"]
    assert tables.added_tables(SUBSETS) == []


def test_a_target_without_a_control_has_no_table() -> None:
    only = names(**{"image:mrs/all/mae": 1.0, "thumbnail:mrs/all/mae": 1.2})
    assert tables.control_tables(only) == []


def test_no_number_is_less_than_nothing_by_rounding() -> None:
    assert (tables.number(-0.0001), tables.number(-0.001), tables.number(None)) == ("0.000", "-0.001", "—")


def test_the_answer_stands_with_each_input_and_what_it_adds() -> None:
    gains = names(**{"added_image:outcome/event/auroc": 0.02, "added_text:outcome/event/auroc": -0.01})
    beside = {parse_name("outcome/event/auroc"): [Row("nearest control: metadata", [of(0.66)], quiet=True)]}
    (table,) = tables.answer_tables({**SUBSETS, **gains}, [""], beside)
    assert [row.name for row in table.rows] == [
        "the model",
        "image only",
        "text only",
        "record only",
        "nearest control: metadata",
    ]
    assert [row.cells[0].value if row.cells[0] else None for row in table.rows] == [0.8, 0.7, 0.65, 0.6, 0.66]
    assert [row.cells[1].value if row.cells[1] else None for row in table.rows] == [None, 0.02, -0.01, None, None]
    assert list(table.columns) == ["AUROC", "added to all others"]
    assert (table.rows[0].note, table.chance) == ("n = 9", 0.5)


def test_two_leading_arms_are_two_answers() -> None:
    (table,) = tables.answer_tables(SUBSETS, ["image+record", ""], {})
    assert [row.name for row in table.rows[:2]] == ["image + record", "all inputs"]
    assert [row.strong for row in table.rows[:3]] == [True, True, False]


def test_an_error_stands_beside_the_prior() -> None:
    found = names(**{"severity/all/mae": 1.0, "prior:severity/all/mae": 1.5})
    (table,) = tables.answer_tables(found, [""], {})
    assert (table.title, [row.name for row in table.rows]) == ("severity (lower is better)", ["the model", "prior"])
    assert list(table.columns) == ["MAE"], "one input: nothing was added"


def test_a_row_without_any_figure_has_one_reason() -> None:
    assert Row("r", [of(None), None, of(None)]).reason == "why"
    assert Row("r", [of(None), of(0.5)]).reason == ""
    assert Row("r", [of(None)]).reason == "", "a cell says it itself"
