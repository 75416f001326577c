"""Thinking and answer: how a model's text is taken apart."""

import re
from typing import NamedTuple

_CLOSED = re.compile(r"\s*<(think|thinking)>(.*?)</\1>\s*", re.DOTALL)
_OPEN = re.compile(r"\s*<(?:think|thinking)>(.*)\Z", re.DOTALL)
# Some chat templates write the opening tag into the prompt, so only the end is in the answer.
_ONLY_END = re.compile(r"\A(.*?)</(?:think|thinking)>\s*", re.DOTALL)


class Thought(NamedTuple):
    """A model's text, taken apart."""

    thinking: str | None
    """What stood between the tags; None if there were none."""
    answer: str
    """The rest; empty when the thinking was never closed."""
    closed: bool
    """False when the text ended inside the thinking: such an answer was cut short."""


def split_thinking(text: str) -> Thought:
    """Separate `<think>…</think>` (or `<thinking>`) at the start of `text` from the answer."""
    if closed := _CLOSED.match(text):
        return Thought(closed[2].strip(), text[closed.end() :], True)
    if opened := _OPEN.match(text):
        return Thought(opened[1].strip(), "", False)
    if ended := _ONLY_END.match(text):
        return Thought(ended[1].strip(), text[ended.end() :], True)
    return Thought(None, text, True)
