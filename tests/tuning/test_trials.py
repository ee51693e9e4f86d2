"""The next configuration follows from space, seed and figures, however often the process begins anew."""

import builtins

import pytest

from chiasm.errors import MissingExtraError
from chiasm.recipe import read_recipe
from chiasm.tuning.space import read_space
from chiasm.tuning.trials import Trials, digest_recipe, recover

TEXT = """
recipe: [baseline-record]
train.learning_rate: {low: 0.0001, high: 0.1, log: true}
train.epochs: {low: 2, high: 40, step: 2}
heads.localization.weight: [0.5, 1]
inputs.text.sections: [[history], [findings, impression]]
baseline.leaves: [3, 5, 31]
"""


@pytest.fixture
def space(tmp_path):
    (tmp_path / "space.yaml").write_text(TEXT, "utf-8")
    return read_space(tmp_path / "space.yaml", [read_recipe("report-fusion")])


def tried(path, space, count, seed=0, reopen=False, figure=lambda asked: float(len(str(asked.settings)) % 7)):
    trials, found = Trials(path, space, seed), []
    while len(trials) < count:
        asked = trials.ask()
        trials.tell(asked, str(asked.number), figure(asked), [figure(asked)])
        found.append((asked.recipe, dict(asked.settings)))
        trials = Trials(path, space, seed) if reopen else trials
    return found


def test_the_same_space_and_seed_try_the_same_and_another_seed_others(tmp_path, space):
    whole = tried(tmp_path / "a.log", space, 14)
    assert tried(tmp_path / "b.log", space, 14, reopen=True) == whole
    assert tried(tmp_path / "c.log", space, 14, seed=1)[2:] != whole[2:]
    assert len({str(each) for each in whole}) > 10


def test_recipes_as_they_stand_come_first_and_later_ones_have_their_own_keys(tmp_path, space):
    found = tried(tmp_path / "a.log", space, 12)
    assert found[:2] == [("report-fusion", {}), ("baseline-record", {})]
    for recipe, settings in found[2:]:
        assert list(settings) == list(space.keys[recipe])
        assert space.build(recipe, settings).name == recipe
    assert {recipe for recipe, _ in found[2:]} == set(space.recipes)


def test_what_was_tried_is_read_back_and_the_first_of_the_best_wins(tmp_path, space):
    trials = Trials(tmp_path / "a.log", space, 0)
    for value in (0.6, None, 0.8, 0.8):
        asked = trials.ask()
        trials.tell(asked, f"d{asked.number}", value, [value, None], "" if value else "the loss is not finite")
    again = Trials(tmp_path / "a.log", space, 0)
    assert [(t.number, t.value, t.digest) for t in again.done] == [
        *((0, 0.6, "d0"), (1, None, "d1"), (2, 0.8, "d2"), (3, 0.8, "d3"))
    ]
    assert (again.done[1].why, again.done[0].figures) == ("the loss is not finite", (0.6, None))
    assert again.best() == again.done[2]
    lower = Trials(tmp_path / "low.log", space, 0, higher=False)
    for value in (2.0, 1.0):
        lower.tell(lower.ask(), "", value, [value])
    best = lower.best()
    assert best is not None and best.number == 1
    assert Trials(tmp_path / "none.log", space, 0).best() is None


def test_half_a_line_and_a_lock_that_a_killed_process_left_do_no_harm(tmp_path, space):
    path = tmp_path / "a.log"
    whole = tried(path, space, 6)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1][:40])
    (tmp_path / "a.log.lock").touch()
    recover(path)
    assert len(Trials(path, space, 0)) == 5
    assert tried(path, space, 6) == whole[5:]


def test_a_digest_is_of_what_a_recipe_does(space):
    recipe = read_recipe("report-fusion")
    named = recipe.model_copy(update={"name": "x", "about": "y"})
    assert (
        digest_recipe(recipe)
        == digest_recipe(named)
        != digest_recipe(space.build("report-fusion", {"train.epochs": 2}))
    )


def test_without_optuna_the_extra_is_named(tmp_path, space, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "optuna":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'chiasm\[tune\]'"):
        Trials(tmp_path / "a.log", space, 0)
