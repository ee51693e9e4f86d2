"""Progress goes to standard error: plain lines where there is no terminal, now and then and not for every step."""

import pytest

from chiasm import progress
from chiasm.progress import Progress, say


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands until its one entry is moved."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_say_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    say("half")
    assert capsys.readouterr() == ("", "half\n")


def test_plain_lines_come_every_ten_seconds_and_at_the_end(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("import", 100) as bar:
        for second in (1, 9, 10, 11, 21):
            clock[0] = second
            bar.advance(10, "ok")
    assert bar.done == 50
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "import: 30 of 100, 10 s, ok",
        "import: 50 of 100, 21 s, ok",
        "import: 50 of 100, 21 s, done",
    ]


def test_quick_work_says_nothing(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("import", 3) as bar:
        bar.advance(3)
    assert capsys.readouterr() == ("", "")


def test_work_that_fails_does_not_say_done(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with Progress("import", None):
            clock[0] = 60
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    assert "done" not in capsys.readouterr().err


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("import", 4, done=1) as bar:
        bar.advance(3, "note")
    out, err = capsys.readouterr()
    assert out == ""
    assert "4/4" in err
    assert "note" in err
