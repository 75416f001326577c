"""The form of a text: thinking closed, sections in order, one line with the final answer."""

import re
from typing import Any

from pydantic import BaseModel

from judges.records import Verification

_TAG = re.compile(r"</?think(?:ing)?>")


class Entry(BaseModel):
    """What a prompt asks for; what is not asked for is not looked at."""

    thinking: bool = False
    """The text begins with one block of thinking that is closed, and goes on after it."""
    sections: list[str] = []
    """Beginnings of lines, each of which has to occur, in this order."""
    answer_line: str | None = None
    """How the last line begins, and no other: `Answer:`. Something has to follow it."""


def check(text: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Verified if the text has every form that is asked for."""
    asked = Entry.model_validate(entry)
    if not (asked.thinking or asked.sections or asked.answer_line):
        return Verification(state="not_applicable", reason="the entry asks for no form")
    faults = []
    if asked.thinking:
        faults += _thinking(text)
    faults += _sections(text, asked.sections)
    if asked.answer_line:
        faults += _answer_line(text, asked.answer_line)
    if faults:
        return Verification(state="refuted", reason="; ".join(faults)[:300])
    return Verification(state="verified", reason="of the form that was asked for")


def _thinking(text: str) -> list[str]:
    tags = list(_TAG.finditer(text))
    names = [tag[0] for tag in tags]
    if names not in (["<think>", "</think>"], ["<thinking>", "</thinking>"]):
        return ["thinking is not opened and closed once"]
    first, last = tags
    if text[: first.start()].strip():
        return ["text before the thinking"]
    return [] if text[last.end() :].strip() else ["nothing after the thinking"]


def _sections(text: str, sections: list[str]) -> list[str]:
    lines = iter(text.splitlines())
    for section in sections:
        # One iterator for all of them: each has to come after the one before.
        if not any(line.lstrip().startswith(section) for line in lines):
            return [f"the section {section[:40]!r} is missing or not in its place"]
    return []


def _answer_line(text: str, begins: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if sum(line.startswith(begins) for line in lines) != 1:
        return [f"not one line begins with {begins[:40]!r}"]
    if not lines[-1].startswith(begins):
        return [f"the line {begins[:40]!r} is not the last one"]
    return [] if lines[-1].removeprefix(begins).strip() else [f"nothing after {begins[:40]!r}"]
