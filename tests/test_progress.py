"""What a person sees of long work, in a log and in a terminal."""

import io
import time

import pytest
from rich.console import Console

from service import progress
from service.progress import Shown


def shown(terminal: bool = False) -> tuple[Shown, io.StringIO]:
    out = io.StringIO()
    return Shown(Console(file=out, force_terminal=terminal, width=120)), out


def test_a_finished_step_says_what_how_many_and_how_long() -> None:
    work, out = shown()
    work.begin("answers", 300)
    work.update(300)
    work.end()
    assert out.getvalue().startswith("  answers: 300 done in 0.")


def test_a_silent_step_is_still_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.05)
    work, out = shown()
    work.begin("convert")
    time.sleep(0.3)
    work.end()
    assert out.getvalue().count("convert: 0 s") >= 2


def test_what_was_done_before_says_nothing_about_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", iter([0.0, 10.0]).__next__)
    step = progress._Step("answers", 1000)
    step.moved(901, "")
    step.moved(950, "")
    # 50 of them took 10 s, and 50 are left.
    assert step.how_far() == "950/1000, about 10 s left"


def test_nothing_is_guessed_from_the_first_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", iter([0.0, 30.0]).__next__)
    step = progress._Step("answers", 1000)
    step.moved(1, "4 tokens/s")
    assert step.how_far() == "1/1000, 4 tokens/s"


def test_text_with_brackets_is_printed_as_it_is() -> None:
    work, out = shown()
    work.say("left out: file.jsonl:3: no 'question' in [1, 2]")
    assert "[1, 2]" in out.getvalue()


def test_a_terminal_gets_a_line_that_goes_away() -> None:
    work, out = shown(terminal=True)
    work.begin("answers", 10)
    work.update(5, "fast")
    work.end()
    assert "answers" in out.getvalue()
    assert "10 done in" in out.getvalue()
