"""The recipe schema: overrides, and one message that holds every problem and names the nearest key."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from chiasm.errors import RecipeError
from chiasm.recipe import Recipe, parse_recipe, read_recipe, recipe_names, write_recipe
from chiasm.registry import HEADS


@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes_are_named_as_their_files_and_say_what_they_are(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.name == name
    assert recipe.about


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean report-fusion"):
        read_recipe("report-fuson")


def test_a_file_is_read_where_no_recipe_has_that_name(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\ntargets: {findings: {}}\n", "utf-8")
    assert read_recipe(tmp_path / "mine.yaml").name == "mine"


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("train.epochs=5", lambda r: r.train.epochs == 5),
        ("train.learning_rate=2e-3", lambda r: r.train.learning_rate == 0.002),
        ("inputs.text=null", lambda r: r.inputs.text is None),
        ("inputs.record.opt_in=[troponin]", lambda r: r.inputs.record.opt_in == ("troponin",)),
        ("targets=[lung_opacity]", lambda r: list(r.targets) == ["lung_opacity"]),
        ("targets.findings.labels=[pneumonia]", lambda r: r.targets["findings"].labels == ("pneumonia",)),
        ("heads.description=null", lambda r: r.heads.get("description") is None),
    ],
)
def test_an_override_changes_its_key(override: str, value) -> None:  # type: ignore[no-untyped-def]
    assert not value(read_recipe("report-fusion"))
    assert value(read_recipe("report-fusion", [override]))


def test_an_override_revives_a_section_that_was_off() -> None:
    recipe = read_recipe("report-fusion", ["inputs.text=null", "inputs.text.max_tokens=7"])
    assert recipe.inputs.text is not None
    assert recipe.inputs.text.max_tokens == 7


def test_all_problems_come_in_one_message() -> None:
    with pytest.raises(RecipeError) as caught:
        read_recipe(
            "report-fusion",
            [
                "trian.epochs=3",
                "train.epochs=many",
                "inputs.image.sizes=3",
                "targets.findings.weigth=2",
                "targets.x.weight=0",
            ],
        )
    message = str(caught.value)
    assert "5 problems" in message
    assert "trian: unknown key, did you mean train?" in message
    assert "inputs.image.sizes: unknown key, did you mean size?" in message
    assert "targets.findings.weigth: unknown key, did you mean weight?" in message
    assert "train.epochs" in message
    assert "Got 'many'" in message
    assert "targets.x.weight" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "not valid YAML"),
        ("- a", "not a mapping"),
        ("", "not a mapping"),
        ("name: a\nname: b\ntargets: {x: {}}", "name stands there twice"),
        ("name: a\ntargets: {x: {}, x: {}}", "x stands there twice"),
        ("name: a\ntargets: {}", "targets"),
        ("name: a", "targets"),
        ("targets: {x: {}}", "name"),
    ],
)
def test_a_recipe_file_with_a_problem_is_refused_with_its_name(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.yaml").write_text(text, "utf-8")
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe(tmp_path / "bad.yaml")
    assert "bad.yaml" in caught.value.where


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="UTF-8"):
        read_recipe(tmp_path / "bad.yaml")


@pytest.mark.parametrize("override", ["train.epochs", "=3", "train.epochs=["])
def test_an_override_without_key_and_value_is_refused(override: str) -> None:
    with pytest.raises(RecipeError, match="--set needs"):
        read_recipe("report-fusion", [override])


@given(
    st.fixed_dictionaries(
        {
            "name": st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=8),
            "targets": st.dictionaries(st.sampled_from(["findings", "outcome"]), st.just({"weight": 0.5}), min_size=1),
            "inputs": st.fixed_dictionaries(
                {"text": st.none() | st.just({"sections": ["history"]}), "record": st.none()}
            ),
            "train": st.fixed_dictionaries(
                {"learning_rate": st.floats(1e-6, 1), "devices": st.integers(1, 8) | st.just("auto")}
            ),
        }
    )
)
def test_writing_and_reading_is_exact(tmp_path_factory: pytest.TempPathFactory, raw) -> None:  # type: ignore[no-untyped-def]
    recipe = parse_recipe(raw, where="here")
    path = tmp_path_factory.mktemp("recipes") / "recipe.yaml"
    write_recipe(recipe, path)
    assert read_recipe(path) == recipe


def test_a_recipe_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read_recipe("report-fusion").train.epochs = 3  # type: ignore[misc]


def test_the_defaults_of_the_schema_are_legal() -> None:
    """A default is not validated by pydantic: check each by writing the minimal recipe out and reading it in."""
    minimal = Recipe.model_validate({"name": "a", "targets": {"x": {}}})
    assert Recipe.model_validate(yaml.safe_load(yaml.safe_dump(minimal.model_dump(mode="json")))) == minimal


@pytest.mark.parametrize("name", ["efficientnet-lite1", "hf:", "monai", "resnet50"])
def test_a_misspelt_image_encoder_is_a_problem_of_the_recipe(name: str) -> None:
    with pytest.raises(RecipeError, match="must be efficientnet-lite0, small-cnn"):
        read_recipe("report-fusion", [f"inputs.image.encoder='{name}'"])


@pytest.mark.parametrize("override", ["fusion.dim=100", "fusion.heads=3"])
def test_a_width_that_cannot_be_divided_is_a_problem_of_the_recipe(override):
    with pytest.raises(RecipeError, match=r"fusion: .*dim must be a multiple of 8 and of heads"):
        read_recipe("report-fusion", [override])


def test_the_page_of_keys_names_every_key_with_its_default():
    import re
    import types
    import typing
    from pathlib import Path

    from pydantic import BaseModel

    page = (Path(__file__).parents[1] / "docs" / "recipe.md").read_text("utf-8")
    said = dict(re.findall(r"^\| `([^`]+)` \| (.*?) \|", page, flags=re.MULTILINE))

    def keys(model, prefix=""):
        for name, field in model.model_fields.items():
            kind = field.annotation
            if isinstance(kind, types.UnionType):
                kind = next(part for part in typing.get_args(kind) if part is not type(None))
            if name == "heads":
                for head in HEADS:
                    yield from keys(HEADS[head].options, f"heads.{head}.")
            elif typing.get_origin(kind) is dict:
                yield from keys(typing.get_args(kind)[1], f"{prefix}{name}.NAME.")
            elif isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from keys(kind, f"{prefix}{name}.")
            else:
                default = field.default
                shown = f"`{list(default) if isinstance(default, tuple) else default}`"
                yield prefix + name, "" if field.is_required() else shown

    assert dict(keys(Recipe)).items() <= said.items()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["fusion.name=daft", "inputs.record=null"], "fusion daft needs inputs.record"),
        (["fusion.name=vision-conditioned", "inputs.image=null", "inputs.text=null"], "inputs.image and inputs.text"),
        (["fusion.name=late-mean"], "train.unimodal_weight is above 0"),
        (["heads.alignment.target=mrs"], r"- heads.alignment.target is mrs, .* \(findings, .*set heads.alignment=null"),
        (["fusion.name=lat-mean"], "fusion.name"),
        (["inputs.image.encoder=voxels"], r"- inputs\.image: encoder voxels needs tokens: territories\.\n"),
    ],
)
def test_keys_at_odds_with_each_other(overrides, message):
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe("report-fusion", overrides)
    assert "efficientnet" not in str(caught.value)  # the key, not the whole recipe
