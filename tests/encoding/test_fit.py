from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chiasm.cohort.store import Cohort, write_cohort
from chiasm.encoding.fit import fit_plan
from chiasm.errors import CohortError, RecipeError
from chiasm.geometry import Geometry
from chiasm.recipe import Recipe, parse_recipe, read_recipe, write_recipe
from chiasm.study import Finding, Image, Kind, Outcome, Record, Region, State, View


@pytest.fixture
def write(tmp_path: Path):
    def _write(studies, **options) -> Cohort:
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        return write_cohort(
            studies, out, source="hand", options={}, **{"size": 32, "volume_size": (16, 32, 32), **options}
        )

    return _write


def recipe(*overrides: str) -> Recipe:
    return read_recipe("report-fusion", ("inputs.image.size=32", *overrides))


def every(cohort: Cohort) -> np.ndarray:
    return np.arange(len(cohort))


def test_numbers_are_those_of_the_training_rows(write, make_study) -> None:
    ill = (Finding("pneumonia", State.PRESENT, reader="a"), Finding("edema", State.UNCERTAIN, reader="a"))
    cohort = write([make_study(i, **({"findings": ill} if i == 2 else {})) for i in range(8)])
    rows = np.array([0, 2, 6])
    plan, resolved, notes = fit_plan(recipe(), [cohort], [rows])
    ages, scores = np.array([20.0, 22.0, 26.0]), np.array([0.0, 1.0, 3.0])
    assert plan.numeric == {"age_years": (ages.mean(), ages.std())}
    assert plan.categories == {"sex": ("f",)}  # "m" is not seen in training
    assert plan.scaling == {"severity": ((scores.mean(), scores.std()),)}
    assert plan.targets == {"findings": ("pneumonia",), "outcome": ("died",), "severity": ("score",)}
    assert plan.kinds == {"findings": Kind.BINARY, "outcome": Kind.BINARY, "severity": Kind.REGRESSION}
    assert (plan.image_shape, plan.grid) == ((32, 32), (2, 2))
    assert plan.localized == (("findings", "pneumonia"),)
    assert plan.findings == ("findings",)
    assert plan.text_sections == recipe().inputs.text.sections  # type: ignore[union-attr]
    assert plan.description_max_tokens == 80
    assert resolved.inputs.record.columns == ("age_years", "sex")  # type: ignore[union-attr]
    assert notes == [
        "Labels of findings without a known value in training are left out: edema.",
        "Target lung_opacity is switched off: no training study has a known value of it.",
    ]


def test_the_resolved_recipe_is_a_recipe_and_resolves_to_itself(write, make_study, tmp_path: Path) -> None:
    cohort = write([make_study(i) for i in range(4)])
    plan, resolved, _ = fit_plan(recipe(), [cohort], [every(cohort)])
    write_recipe(resolved, tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml") == resolved
    again, twice, notes = fit_plan(resolved, [cohort], [every(cohort)])
    assert (again, twice, notes) == (plan, resolved, [])


def test_what_a_cohort_lacks_is_switched_off_and_said(write, make_study) -> None:
    cohort = write([make_study(i, images=(), regions=(), record=None) for i in range(4)])
    plan, resolved, notes = fit_plan(recipe(), [cohort], [every(cohort)])
    assert (resolved.inputs.image, resolved.inputs.record) == (None, None)
    assert (resolved.heads.get("localization"), resolved.heads.get("description")) == (None, None)
    assert (plan.image_shape, plan.grid, plan.localized, plan.description_sections) == (None, None, (), ())
    text = " ".join(notes)
    for part in (
        "Images are switched off",
        "The record is switched off",
        "Localization is",
        "Description is",
        "lung_opacity",
    ):
        assert part in text
    bare = write([make_study(i, report=None, regions=(), findings=()) for i in range(4)])
    plan, resolved, notes = fit_plan(recipe(), [bare], [every(bare)])
    assert resolved.inputs.text is None
    assert (plan.text_sections, plan.max_tokens) == ((), 0)
    assert "Text is switched off: no training study has a report with history or indication" in " ".join(notes)
    assert "there are no findings to localize" in " ".join(notes)
    assert plan.grid == (2, 2)  # the image still has tokens


def test_what_only_other_splits_have_is_lacking(write, make_study) -> None:
    cohort = write([make_study(i, report=None) if i < 3 else make_study(i) for i in range(5)])
    _, resolved, notes = fit_plan(recipe(), [cohort], [np.arange(3)])
    assert resolved.inputs.text is None
    assert any(note.startswith("Text is switched off") for note in notes)


def test_no_target_or_no_input_left(write, make_study) -> None:
    cohort = write([make_study(0), make_study(1)])
    with pytest.raises(RecipeError, match="no target of the recipe") as caught:
        fit_plan(recipe("targets={grade: {}}"), [cohort], [every(cohort)])
    assert caught.value.expected == "one of findings, outcome, severity"
    with pytest.raises(RecipeError, match="no input is left"):
        fit_plan(recipe("inputs.image=null", "inputs.text=null", "inputs.record=null"), [cohort], [every(cohort)])
    with pytest.raises(CohortError, match="no study to train on"):
        fit_plan(recipe(), [cohort], [np.array([], np.int64)])


def test_another_image_size_names_the_import(write, make_study) -> None:
    cohort = write([make_study(0)])
    with pytest.raises(CohortError, match="another size") as caught:
        fit_plan(read_recipe("report-fusion"), [cohort], [every(cohort)])
    assert caught.value.remedy.startswith("chiasm import hand PATH --out COHORT --size 224")
    assert caught.value.remedy.endswith("--set inputs.image.size=32")  # or the recipe to fit
    assert "(32, 32)" in caught.value.got
    with pytest.raises(RecipeError, match="no multiple of the localization stride"):
        fit_plan(recipe("inputs.image.size=36"), [write([make_study(0), make_study(1)], size=36)], [np.array([0, 1])])


def test_a_plan_of_volumes_has_their_shape(write, make_study, make_image) -> None:
    def volume(i: int):
        return make_study(i, images=(make_image(f"v{i}", (6, 10, 10)),), regions=())

    cohort = write([*(volume(i) for i in range(3)), make_study(9)])
    plan, _, notes = fit_plan(recipe("heads.localization.stride=8"), [cohort], [every(cohort)])
    assert (plan.image_shape, plan.grid) == ((16, 32, 32), (2, 4, 4))
    assert "The single images of 1 training studies are not read" in " ".join(notes)
    other = write([volume(5)], volume_size=(16, 16, 16))
    with pytest.raises(CohortError, match="another size") as caught:
        fit_plan(recipe(), [cohort, other], [every(cohort), every(other)])
    assert caught.value.remedy.endswith("--volume-size 16,32,32")  # as the command takes it


def test_asked_labels_and_columns(write, make_study) -> None:
    cohort = write([make_study(i) for i in range(4)])
    chosen = recipe(
        "targets={findings: {labels: [pneumonia, hernia], uncertain: positive}}", "inputs.record.columns=[sex, bmi]"
    )
    plan, resolved, notes = fit_plan(chosen, [cohort], [every(cohort)])
    assert plan.targets == {"findings": ("pneumonia",)}
    assert plan.uncertain == {"findings": "positive"}
    assert (plan.numeric, plan.categories) == ({}, {"sex": ("f", "m")})
    assert resolved.targets["findings"].labels == ("pneumonia",)
    assert any("left out: hernia" in note for note in notes)
    assert any("left out: bmi" in note for note in notes)
    hedged = recipe("targets={findings: {uncertain: positive}}")
    plan, _, notes = fit_plan(hedged, [cohort], [every(cohort)])
    assert plan.targets == {"findings": ("pneumonia",)}
    assert any(note.endswith("nothing can be learned of them: edema.") for note in notes), (
        "all are hedged: all positive"
    )
    clear = write(
        [make_study(i, **({"findings": (Finding("edema", State.ABSENT, reader="a"),)} if i else {})) for i in range(4)]
    )
    assert fit_plan(hedged, [clear], [every(clear)])[0].targets == {"findings": ("edema",)}


def test_a_column_left_out_is_no_input_and_one_that_nobody_has_is_named(write, make_study) -> None:
    cohort = write([make_study(i, record=Record({"age_years": float(i), "race": "ab"[i % 2]})) for i in range(4)])
    plan, _, notes = fit_plan(recipe("inputs.record.leave_out=[race, rase]"), [cohort], [every(cohort)])
    assert plan.numeric.keys() | plan.categories.keys() == {"age_years"}
    assert [n for n in notes if "rase" in n and "race" not in n]
    with pytest.raises(RecipeError, match="either an input or left out: race"):
        recipe("inputs.record.columns=[race]", "inputs.record.leave_out=[race]")


def test_columns_of_unknown_time_need_an_opt_in(write, make_study) -> None:
    late = Record({"age_years": 30.0, "lactate": 2.0}, frozenset({"lactate"}))
    cohort = write([make_study(i, record=late) for i in range(4)])
    assert list(fit_plan(recipe(), [cohort], [every(cohort)])[0].numeric) == ["age_years"]
    opted, resolved, _ = fit_plan(recipe("inputs.record.opt_in=[lactate]"), [cohort], [every(cohort)])
    assert opted.numeric == {"age_years": (30.0, 1.0), "lactate": (2.0, 1.0)}  # a constant has the deviation 1
    assert fit_plan(resolved, [cohort], [every(cohort)])[0] == opted
    with pytest.raises(RecipeError, match="time of a record column is unknown") as caught:
        fit_plan(recipe("inputs.record.columns=[lactate]"), [cohort], [every(cohort)])
    assert "inputs.record.opt_in=[lactate]" in caught.value.remedy


def test_several_cohorts_share_one_plan(write, make_study) -> None:
    first = write([make_study(i) for i in range(4)])
    hernia = (Finding("hernia", State.PRESENT), Finding("pneumonia", State.ABSENT))
    none = (Finding("hernia", State.ABSENT),)
    second = write(
        [
            make_study(
                i,
                findings=hernia if i else hernia[1:] + none,
                outcomes=(),
                record=Record({"age_years": 70.0, "sex": "x"}),
            )
            for i in range(2)
        ]
    )
    plan, _, _ = fit_plan(recipe(), [first, second], [every(first), every(second)])
    assert plan.targets["findings"] == ("pneumonia", "hernia")
    ages = np.array([20.0, 21, 22, 23, 70, 70])
    assert plan.numeric["age_years"] == (pytest.approx(ages.mean()), pytest.approx(ages.std()))
    assert plan.categories == {"sex": ("f", "m", "x")}


def test_cohorts_that_contradict_each_other_are_refused(write, make_study) -> None:
    first = write([make_study(0)])
    words = write([make_study(0, record=Record({"age_years": "old"}))])
    with pytest.raises(CohortError, match="age_years is of another kind"):
        fit_plan(recipe(), [first, words], [every(first), every(words)])
    graded = write([make_study(0, outcomes=(Outcome("died", 2.0, Kind.ORDINAL),))])
    with pytest.raises(CohortError, match="target outcome is of different kinds"):
        fit_plan(recipe(), [first, graded], [every(first), every(graded)])


def test_without_maps_the_grid_has_a_cell_for_about_16_pixels(write, make_study) -> None:
    cohort = write([make_study(0), make_study(1)], size=40)
    plan, _, _ = fit_plan(recipe("inputs.image.size=40", "heads.localization=null"), [cohort], [every(cohort)])
    assert (plan.grid, plan.localized) == ((2, 2), ())


def test_pixels_of_a_single_slice_volume_are_a_volume(write, make_study) -> None:
    flat = Image("v", np.ones((1, 8, 8), np.uint8), Geometry.identity((1, 8, 8)))
    cohort = write([replace(make_study(0), images=(flat,)), make_study(1, images=(), regions=())])
    assert fit_plan(recipe(), [cohort], [every(cohort)])[0].image_shape == (16, 32, 32)


def test_the_recipe_that_was_read_is_left_as_it_was(write, make_study) -> None:
    cohort = write([make_study(0, report=None), make_study(1, report=None)])
    asked = recipe()
    fit_plan(asked, [cohort], [every(cohort)])
    assert asked == parse_recipe(asked.model_dump(mode="json"), "test")
    assert asked.inputs.text is not None


def test_views_are_those_of_the_training_images(write, make_study, make_image) -> None:
    def seen(number: int, *views: View):
        images = tuple(replace(make_image(f"i{number}-{n}", seed=9 * number + n), view=v) for n, v in enumerate(views))
        return make_study(number, images=images, regions=())

    cohort = write([seen(0, View.LATERAL), seen(1, View.PA, View.LATERAL), seen(2, View.AP)])
    assert fit_plan(recipe(), [cohort], [np.array([0, 1])])[0].views == ("lateral", "pa")
    assert fit_plan(recipe("inputs.image=null"), [cohort], [np.array([0, 1])])[0].views == ()


@pytest.mark.parametrize(
    ("family", "lacking"), [("film", "record"), ("daft", "record"), ("vision-conditioned", "report")]
)
def test_a_fusion_family_that_lacks_a_modality_of_the_cohort_is_refused(write, make_study, family, lacking) -> None:
    cohort = write([make_study(i, **{lacking: None}) for i in range(4)])
    with pytest.raises(RecipeError, match="the fusion family lacks a modality") as caught:
        fit_plan(recipe(f"fusion.name={family}"), [cohort], [every(cohort)])
    assert family in caught.value.expected
    fit_plan(recipe("fusion.name=gated"), [cohort], [every(cohort)])


def test_alignment_and_balance_keep_what_the_cohort_allows(write, make_study) -> None:
    asked = recipe("heads.alignment.target=outcome", "train.balance={}")
    whole = write([make_study(i) for i in range(4)])
    _, resolved, notes = fit_plan(asked, [whole], [every(whole)])
    assert resolved.heads.get("alignment") == asked.heads.get("alignment")
    assert resolved.train.balance == asked.train.balance
    assert not any("Alignment" in note or "Balance" in note for note in notes)
    silent = write([make_study(i, report=None) for i in range(4)])
    _, resolved, _ = fit_plan(asked, [silent], [every(silent)])
    assert (resolved.heads["alignment"].image_text, resolved.heads["alignment"].fused_record) == (0.0, 0.1)  # type: ignore[union-attr]
    charts = write([make_study(i, images=(), regions=(), report=None) for i in range(4)])
    _, resolved, notes = fit_plan(asked, [charts], [every(charts)])
    assert (resolved.heads.get("alignment"), resolved.train.balance) == (None, None)
    assert "Alignment is switched off" in " ".join(notes)
    assert "Balance is switched off: record has no other modality" in " ".join(notes)
    with pytest.raises(RecipeError, match="the target has none"):
        fit_plan(recipe("heads.alignment.target=severity"), [whole], [every(whole)])


@pytest.mark.parametrize("asked", ["inputs.record.columns=null", "inputs.record.columns=[age_years, score]"])
def test_a_record_column_that_is_to_be_learned_is_no_input(write, make_study, asked: str) -> None:
    def study(i: int):
        return make_study(i, record=Record({"age_years": 30.0 + i, "score": float(i)}))

    cohort = write([study(i) for i in range(6)])
    learned = recipe("targets=[severity]", asked)  # its label is `score`
    plan, resolved, notes = fit_plan(learned, [cohort], [every(cohort)])
    assert plan.targets == {"severity": ("score",)}
    assert list(plan.numeric) == ["age_years"]
    assert resolved.inputs.record.columns == ("age_years",)  # type: ignore[union-attr]
    assert "Record columns that are to be learned are left out of the inputs: score." in notes
    other, _, notes = fit_plan(recipe("targets=[outcome]", asked), [cohort], [every(cohort)])
    assert list(other.numeric) == ["age_years", "score"]
    assert not any("to be learned" in note for note in notes)


def test_where_all_have_volumes_and_pictures_the_volumes_are_taken(write, make_study, make_image) -> None:
    def study(i: int):
        return make_study(i, images=(make_image(f"v{i}", (6, 10, 10)), make_image(f"p{i}")), regions=())

    cohort = write([study(i) for i in range(4)])
    plan, _, notes = fit_plan(recipe("heads.localization.stride=8"), [cohort], [every(cohort)])
    assert plan.image_shape == (16, 32, 32)
    assert any("single images of 4 training studies are not read: most studies have both" in note for note in notes)


def test_a_label_that_all_have_is_no_target_and_keeps_its_map(write, make_study) -> None:
    """Nothing tells its patients apart; where readers drew it there is still something to find."""

    def ill(i: int):
        findings = (Finding("pneumonia", State.PRESENT), Finding("hernia", State.PRESENT))
        box = (Region("pneumonia", f"i{i:03}", (2.0, 4.0, 20.0, 30.0), reader="b"),)
        return make_study(i, findings=findings, regions=box)

    cohort = write([ill(i) for i in range(4)])
    plan, resolved, notes = fit_plan(recipe(), [cohort], [every(cohort)])
    assert "findings" not in plan.targets and "findings" not in resolved.targets
    assert plan.localized == (("findings", "pneumonia"),), "nobody drew the hernia"
    (note,) = [note for note in notes if "the same for every training patient" in note]
    assert note.startswith("Labels of findings that are") and note.endswith(": hernia, pneumonia.")
    alone, _, _ = fit_plan(recipe("targets=[findings]"), [cohort], [every(cohort)])
    assert (alone.targets, alone.localized) == ({}, (("findings", "pneumonia"),))
    with pytest.raises(RecipeError, match="no target of the recipe can be learned") as caught:
        fit_plan(recipe("targets=[findings]", "heads.localization=null"), [cohort], [every(cohort)])
    assert "the same for every training patient" in caught.value.got


@pytest.mark.parametrize(
    ("kind", "constant", "varied"),
    [
        (Kind.BINARY, (1.0, 1.0), (0.0, 1.0)),
        (Kind.REGRESSION, (7.0, 7.0), (7.0, 8.0)),
        (Kind.ORDINAL, (2.0, 2.0), (1.0, 2.0)),
    ],
)
def test_an_outcome_that_is_the_same_for_everybody_is_no_target(write, make_study, kind, constant, varied) -> None:
    def cohort(values):
        return write([make_study(i, outcomes=(Outcome("y", v, kind, "t"),)) for i, v in enumerate(values)])

    asked = recipe("targets=[findings, t]")
    same, other = cohort(constant), cohort(varied)
    assert "t" not in fit_plan(asked, [same], [every(same)])[0].targets
    assert fit_plan(asked, [other], [every(other)])[0].targets["t"] == ("y",)


def test_what_is_said_of_nobody_is_the_training_patients_mean(write, make_study) -> None:
    cohort = write([make_study(i) for i in range(8)])
    plan, _, _ = fit_plan(recipe(), [cohort], [every(cohort)])
    assert plan.prior("outcome") == pytest.approx([(3 + 0.5) / 9])  # 0, 3 and 6 of 8 died
    assert plan.prior("severity") == pytest.approx([np.arange(8).mean() / 2])
