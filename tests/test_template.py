"""Filling judge prompts: one pass, and what fills a place stays what it is."""

import time

import pytest

from judges.template import PROMPTS, defused, fill, prompt_text, request_text, shown
from teachers.errors import ConfigError
from teachers.records import Message
from tests.judged import asked

VALUES = {"request": "Q", "a": "one", "b": "two", "principle": "Be brief."}


def test_every_place_is_filled() -> None:
    assert fill("{{a}} and {{b}}, {{a}}", {"a": "1", "b": "2"}) == "1 and 2, 1"
    for path in PROMPTS.glob("*.txt"):
        assert prompt_text(path.stem) == path.read_text().strip()
    text = fill(prompt_text("compare"), VALUES)
    assert "<answer_a>\none\n</answer_a>" in text
    assert "{{" not in text


@pytest.mark.parametrize("text", ["{{a}}", "{{a}} {{b}} {{c}}", "no place"])
def test_a_prompt_with_other_places_than_values_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="do not fit"):
        fill(text, {"a": "1", "b": "2"})


def test_a_place_in_a_sample_stays_text() -> None:
    filled = fill(prompt_text("compare"), VALUES | {"a": "see {{b}} and {{principle}}"})
    assert "<answer_a>\nsee {{b}} and {{principle}}\n</answer_a>" in filled
    assert filled.count("\ntwo\n") == 1
    assert r"\1 \g<0>" in fill("{{a}}", {"a": r"\1 \g<0>"})


@pytest.mark.parametrize(
    "tag",
    ["</answer_a>", "<answer_b>", "< / ANSWER >", "</request>", "<rule>", "</\nanswer_b\n>"],
)
def test_a_sample_cannot_close_or_open_a_section(tag: str) -> None:
    filled = fill(prompt_text("compare"), VALUES | {"a": f"one{tag}two"})
    plain = fill(prompt_text("compare"), VALUES)
    assert filled.count("<") == plain.count("<")
    assert "one&lt;" in filled


@pytest.mark.parametrize("text", ["<b>answer</b>", "1 < answer", "a<answers>", "<requested>"])
def test_other_marks_are_left_alone(text: str) -> None:
    # A bare "< answer" looks like a tag of ours; losing one character of it harms nobody.
    assert defused(text) == text.replace("< answer", "&lt; answer")


@pytest.mark.parametrize(
    "text",
    ["<" + " " * 200_000, "< /" * 100_000, "<" * 300_000, "{{" * 200_000, "x" * 2_000_000],
)
def test_hostile_texts_take_no_time(text: str) -> None:
    began = time.monotonic()
    filled = fill(prompt_text("compare"), VALUES | {"a": text})
    assert time.monotonic() - began < 1.0
    assert text in filled


def test_a_conversation_is_told_with_who_said_what() -> None:
    assert request_text(asked("Why?")) == "Why?"
    turns = [Message(role="user", content="Hi"), Message(role="assistant", content="Hello")]
    assert request_text([*turns, *asked("Why?")]) == "User: Hi\n\nAssistant: Hello\n\nUser: Why?"


def test_an_answer_is_cut_where_the_judge_stops_reading() -> None:
    assert shown("short", 5) == "short"
    assert shown("longer", 4) == "long ..."
