"""A space is checked against its recipes before anything is trained."""

from pathlib import Path

import pytest

from chiasm.errors import RecipeError
from chiasm.recipe import read_recipe, recipe_names
from chiasm.tuning.space import Choices, Range, baseline_space, match_recipes, read_space


def space_of(tmp_path: Path, text: str, *names: str, sets: tuple[str, ...] = ()):
    (tmp_path / "space.yaml").write_text(text, "utf-8")
    return read_space(tmp_path / "space.yaml", [read_recipe(name, sets) for name in names or ("report-fusion",)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.learning_rat: [0.1]", r"train.learning_rat: unknown key, did you mean learning_rate\?"),
        ("trian.epochs: [1]", r"did you mean train\?"),
        ("train.epochs: [0]", r"with train.epochs: 0, the recipe report-fusion has 1 problem"),
        ("train.epochs: 3", "neither choices nor a range"),
        ("train.epochs: {low: 3, high: 1}", "neither choices nor a range"),
        ("train.epochs: {low: 8, high: 20, step: 5}", "neither choices nor a range"),
        ("train.epochs: [3, 3]", "stands there twice"),
        ("train.seed: [0, 1]", "cannot be chosen"),
        ("evaluate.resamples: [100, 1000]", "cannot be chosen"),
        ("targets: [[findings]]", "cannot be chosen"),
        ("targets.outcome.labels: [[event]]", "cannot be chosen"),
        ("heads.alignment.image_text: [0.1]", "no recipe has this part"),
        ("recipe: fusion-gated", "takes a list"),
        ("recipe: [fusion-gatd]", "no such recipe"),
        ("[]", "not a mapping"),
        ("a: [1]\na: [2]", "not valid YAML"),
    ],
)
def test_what_does_not_fit_is_one_message(tmp_path, text, message):
    with pytest.raises(RecipeError, match=message):
        space_of(tmp_path, text)


def test_a_key_is_asked_only_of_recipes_that_have_its_part(tmp_path):
    text = """
recipe: [baseline-record]
train.epochs: {low: 2, high: 8, step: 2}
heads.localization.weight: [0.5, 1]
baseline.leaves: [3, 7]
fusion-gated: {fusion.dropout: [0.0, 0.2]}
"""
    space = space_of(tmp_path, text, "report-fusion", "fusion-gated")
    assert list(space.recipes) == ["report-fusion", "fusion-gated", "baseline-record"]
    assert {name: list(keys) for name, keys in space.keys.items()} == {
        "report-fusion": ["train.epochs", "heads.localization.weight"],
        "fusion-gated": ["train.epochs", "fusion.dropout"],
        "baseline-record": ["baseline.leaves"],
    }
    assert space.keys["report-fusion"]["heads.localization.weight"] == Choices((0.5, 1))
    assert space.named("fusion-gated", "fusion.dropout") == "fusion-gated:fusion.dropout"
    assert space.named("fusion-gated", "train.epochs") == "train.epochs"
    assert space.build("fusion-gated", {"fusion.dropout": 0.2}).fusion.dropout == 0.2


def test_a_range_holds_what_its_steps_reach():
    whole, steps, free = Range(low=2, high=8), Range(low=2, high=8, step=3), Range(low=0.1, high=1.0, log=True)
    assert [whole.holds(x) for x in (2, 3, 8, 9, 2.5, True, None)] == [True, True, True, False, False, False, False]
    assert [steps.holds(x) for x in (2, 5, 6, 8)] == [True, True, False, True]
    assert [free.holds(x) for x in (0.1, 0.37, 1, 1.1)] == [True, True, True, False]
    assert (whole.whole, free.whole) == (True, False)


def test_recipes_are_asked_alike():
    first = read_recipe("stroke-prognosis", ["train.seed=5", "evaluate.resamples=200"])
    found = match_recipes([first, read_recipe("fusion-gated"), read_recipe("baseline-frozen")])
    assert next(iter(found.values())) == first
    gated, frozen = found["fusion-gated"], found["baseline-frozen"]
    assert gated.inputs == first.inputs and gated.fusion == read_recipe("fusion-gated").fusion
    assert frozen.inputs.text is not None and first.inputs.text is not None
    assert frozen.inputs.text.sections == first.inputs.text.sections
    for other in (gated, frozen):
        assert (other.targets, other.train.seed, other.evaluate) == (first.targets, 5, first.evaluate)


def test_two_recipes_of_one_name_and_a_baseline_without_inputs_are_refused():
    first = read_recipe("report-fusion")
    with pytest.raises(RecipeError, match="one name"):
        match_recipes([first, first])
    with pytest.raises(RecipeError, match="reads none of the inputs"):
        match_recipes([read_recipe("report-fusion", ["inputs.record=null"]), read_recipe("baseline-record")])


@pytest.mark.parametrize("name", recipe_names())
def test_the_space_that_chiasm_ships_fits_every_recipe(name):
    recipe = read_recipe(name)
    space = read_space(None, [recipe])
    own = space.keys[name]
    assert len(own) >= 4
    assert all(key.startswith("baseline.") is (recipe.baseline is not None) for key in own)
    assert all(dimension.holds(value) for key, dimension in own.items() for value in dimension.ends())


def test_a_baseline_beside_has_the_keys_of_baselines_given_or_shipped(tmp_path):
    given = space_of(tmp_path, "train.epochs: [2, 3]\nbaseline.leaves: [3, 5]\n")
    beside = baseline_space(given, read_recipe("baseline-record"))
    assert beside is not None and list(beside.keys["baseline-record"]) == ["baseline.leaves"]
    beside = baseline_space(space_of(tmp_path, "train.epochs: [2, 3]\n"), read_recipe("baseline-record"))
    assert beside is not None and "baseline.l2" in beside.keys["baseline-record"]
    lacking = space_of(tmp_path, "train.epochs: [2, 3]\n", sets=("inputs.record=null",))
    assert baseline_space(lacking, read_recipe("baseline-record")) is None
