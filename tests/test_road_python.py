"""Python as people write it: a cohort or a run is named by a text, a path or the thing itself, alone or in a list."""

from pathlib import Path

import numpy as np
import pytest

import chiasm
from chiasm.errors import CohortError, RecipeError, RunError

QUICK = {
    "inputs": {"image": {"encoder": "small-cnn", "size": 64, "augment": False}, "text": {"max_tokens": 24}},
    "fusion.dim": 16,
    "fusion.heads": 2,
    "train": {"epochs": 1, "batch_size": 16},
    "evaluate.resamples": 100,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory, phantom):
    """A recipe, and a run that was trained with names alone."""
    folder = tmp_path_factory.mktemp("python")
    recipe = chiasm.read_recipe("fusion-early", QUICK)
    recipe.save(folder / "mine.yaml")
    return folder, chiasm.train(str(folder / "mine.yaml"), str(phantom.path), str(folder / "run"))


def test_what_train_returns_stands_wherever_a_run_is_meant(home, phantom):
    folder, run = home
    assert (run.status, run.path) == ("finished", folder / "run")
    evaluation = chiasm.evaluate(run)
    assert chiasm.verify(run) == []
    assert chiasm.verify(str(folder / "run")) == chiasm.verify(folder / "run") == []
    study = phantom.study(0)
    answers = [chiasm.load_predictor(named)(study) for named in (run, folder / "run", str(folder / "run"))]
    assert len({a.outcomes[0].probability for a in answers}) == 1
    joined = evaluation.predictions().merge(phantom.studies, on="study_id")
    assert len(joined) == len(evaluation.predictions()) > 0


@pytest.mark.parametrize("named", ["text", "path", "cohort", "list"])
def test_a_cohort_is_named_by_a_text_a_path_or_itself_one_or_a_list(home, phantom, tmp_path, named):
    folder, run = home
    cohort = {"text": str(phantom.path), "path": phantom.path, "cohort": phantom, "list": [phantom]}[named]
    made = chiasm.train(folder / "mine.yaml", cohort, tmp_path / "run", init=run if named == "text" else None)
    assert made.status == "finished"
    predicted = chiasm.predict(made, cohort, str(tmp_path / named))
    assert [p.study_id for p in predicted] == phantom.studies["study_id"].tolist()
    assert len(chiasm.embed(made, phantom if named == "list" else cohort)) == len(phantom)


def test_a_cohort_in_memory_is_answered_and_saved_to_be_trained_on(home, phantom, tmp_path):
    folder, run = home
    memory = chiasm.cohort_from_studies([phantom.study(i) for i in range(20)], size=64)
    assert len(chiasm.predict(run, memory, tmp_path / "out")) == 20
    with pytest.raises(CohortError, match="in memory alone") as caught:
        chiasm.train(folder / "mine.yaml", memory, tmp_path / "run")
    assert "save" in caught.value.remedy
    saved = memory.save(tmp_path / "cohort")
    assert saved.hash == memory.hash
    assert all(np.array_equal(saved.arrays[name], memory.arrays[name]) for name in memory.arrays)
    saved.verify()
    with pytest.raises(CohortError, match="in a folder already"):
        saved.save(tmp_path / "again")
    with pytest.raises(CohortError):
        memory.save(tmp_path / "cohort")


@pytest.mark.parametrize("wrong", [3, None, object()])
def test_what_is_neither_a_run_nor_a_cohort_is_an_error_of_ours(home, phantom, tmp_path, wrong):
    folder, run = home
    for call in (
        lambda: chiasm.train(folder / "mine.yaml", wrong, tmp_path / "r"),
        lambda: chiasm.evaluate(wrong),
        lambda: chiasm.predict(wrong, phantom, tmp_path / "o"),
        lambda: chiasm.verify(wrong),
        lambda: chiasm.load_predictor(wrong),
        lambda: chiasm.embed(run, wrong),
        lambda: chiasm.compare([run, wrong]),
        lambda: chiasm.train_baselines(wrong),
        lambda: chiasm.write_texts(wrong, "template"),
    ):
        with pytest.raises((CohortError, RunError), match="this is no"):
            call()


def test_texts_are_written_for_a_named_cohort_by_a_named_writer(phantom, tmp_path):
    import shutil

    shutil.copytree(phantom.path, tmp_path / "cohort")
    counts = chiasm.write_texts(str(tmp_path / "cohort"), "template", limit=2)
    assert counts["written"] >= 2


def test_a_recipe_of_python_is_saved_read_and_changed(tmp_path):
    made = chiasm.Recipe(name="mine", targets={"outcome": {}}, inputs={"text": None, "image": {"size": 64}})
    made.save(tmp_path / "mine.yaml")
    assert chiasm.read_recipe(tmp_path / "mine.yaml") == made == chiasm.read_recipe(made)
    for change in ({"train.epochs": 3}, {"train": {"epochs": 3}}, "train.epochs=3", ["train.epochs=3"]):
        changed = chiasm.read_recipe(made, change)
        assert (changed.train.epochs, changed.train.batch_size) == (3, made.train.batch_size)
    several = chiasm.read_recipe(
        "report-fusion", {"targets": ["outcome"], "heads.description": None, "train.balance": {}}
    )
    assert (list(several.targets), list(several.active_heads)) == (["outcome"], ["localization"])
    assert several.train.balance is not None


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: chiasm.Recipe(name="x"), "a recipe learns at least one thing"),
        (lambda: chiasm.Recipe(name="x", targets={"a": {}}, train={"epoch": 3}), "train.epoch: unknown key, did you mean epochs"),
        (lambda: chiasm.Recipe(name="x", targets={"a": {}}, heads={"localization": {"strid": 3}}), "did you mean stride"),
        (lambda: chiasm.read_recipe("report-fusion", {"train": {"epochs": "many"}}), "train.epochs: .*Got 'many'"),
        (lambda: setattr(chiasm.read_recipe("report-fusion"), "name", "x"), "frozen"),
    ],
)  # fmt: skip
def test_a_recipe_that_does_not_fit_is_an_error_of_ours(call, problem):
    with pytest.raises(RecipeError, match=problem):
        call()


def test_a_path_of_a_recipe_may_be_a_text(home):
    folder, _ = home
    assert chiasm.read_recipe(str(folder / "mine.yaml")) == chiasm.read_recipe(Path(folder / "mine.yaml"))


def test_what_a_notebook_shows_fits_a_screen(home, phantom):
    folder, run = home
    recipe, predictor = chiasm.read_recipe(folder / "mine.yaml"), chiasm.load_predictor(run)
    evaluation = chiasm.evaluate(run)
    study = phantom.study(0)
    for shown in (phantom, recipe, run, predictor, evaluation, study, predictor(study)):
        assert len(repr(shown)) < 1000
    for shown in (phantom, evaluation, predictor(study)):
        page = shown._repr_html_()
        assert page.count("<tr>") == page.count("</tr>") > 1
    assert "60 studies" in repr(phantom) and str(phantom.path) in repr(phantom)
    assert repr(run).startswith(f"<Run {folder / 'run'}: fusion-early, finished")
    assert study == chiasm.Cohort.open(phantom.path).study(0)
