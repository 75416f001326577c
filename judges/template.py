"""Judge prompts: text files with places in double braces, filled in one pass.

What fills a place is data. It is never looked at for places of its own, and tags in it that look
like those of the prompt are defused, so no sample can end its own section or open another.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from teachers.errors import ConfigError
from teachers.records import Message

PROMPTS = Path(__file__).parent / "prompts"

_PLACE = re.compile(r"\{\{(\w+)\}\}")
# Two runs of spaces side by side would make a long one in a hostile text take quadratic time.
_TAG = re.compile(r"<(?=\s*(?:/\s*)?(?:request|answer(?:_\w+)?|rule)\b)", re.IGNORECASE)


@cache
def prompt_text(name: str) -> str:
    """One of the shipped prompts, by its file's name without `.txt`."""
    return (PROMPTS / f"{name}.txt").read_text(encoding="utf-8").strip()


def fill(text: str, values: Mapping[str, str]) -> str:
    """Put values into their places, all in one pass.

    Raises:
        ConfigError: the text has a place that no value is for, or lacks one that a value is for.
    """
    places = set(_PLACE.findall(text))
    if places != set(values):
        odd = sorted(places ^ set(values))
        raise ConfigError(
            f"A judge prompt and its values do not fit: {odd[0]!r}.",
            hint="It has to hold each of these once: " + ", ".join(f"{{{{{v}}}}}" for v in values),
        )
    return _PLACE.sub(lambda place: defused(values[place[1]]), text)


def defused(text: str) -> str:
    """The text with each tag that looks like ours made harmless: `</answer>` is `&lt;/answer>`."""
    return _TAG.sub("&lt;", text)


def shown(text: str, characters: int) -> str:
    """An answer as a judge sees it: cut at a limit, with a mark that says so."""
    return text if len(text) <= characters else f"{text[:characters]} ..."


def request_text(conversation: Sequence[Message]) -> str:
    """A conversation as a judge reads it: the bare request, or all turns with who said them."""
    if len(conversation) == 1:
        return conversation[0].content
    return "\n\n".join(f"{turn.role.capitalize()}: {turn.content}" for turn in conversation)
