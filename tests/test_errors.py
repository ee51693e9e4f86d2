"""The exception tree: what it promises in its head is what it is, and a message holds its facts."""

import inspect
import pickle
import re

import pytest

from chiasm import errors
from chiasm.errors import ChiasmError, MissingExtraError, RunError

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, ChiasmError)]


def test_the_drawn_tree_is_the_tree() -> None:
    depth_of_name = {
        m.group(2): len(m.group(1)) // 4 for m in re.finditer(r"^([│├└─ ]*)(\w+Error)\b", errors.__doc__, re.M)
    }
    parents: dict[int, str] = {}
    for name, depth in depth_of_name.items():
        parents[depth] = name
        if depth:
            assert getattr(errors, name).__base__.__name__ == parents[depth - 1]
    assert set(depth_of_name) == {c.__name__ for c in CLASSES}


def test_a_message_names_the_facts_it_has_and_no_others() -> None:
    error = RunError("it broke", got="this", remedy="do that")
    assert str(error) == "it broke\n  got: this\n  what to do: do that"
    assert (error.what, error.expected, error.got, error.where, error.remedy) == ("it broke", "", "this", "", "do that")


def test_a_missing_extra_says_what_to_install() -> None:
    assert "pip install 'chiasm[serve]'" in str(MissingExtraError("fastapi", "serve", "chiasm serve"))


@pytest.mark.parametrize(
    "error", [RunError("what", expected="a", got="b", where="c", remedy="d"), MissingExtraError("p", "e", "u")]
)
def test_errors_survive_the_way_between_processes(error: ChiasmError) -> None:
    """Worker processes send their exceptions by pickle."""
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)
