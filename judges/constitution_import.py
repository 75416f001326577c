"""Constitutions that others wrote: Hugging Face's layout and Anthropic's, read as they are.

They ask for a critique and a rewrite, or for a choice between two answers; ours state what is true
of a good answer. Their requests are kept, and the statement is derived from them by a few plain
rules: somebody should read it over. No principle of theirs comes with cases, and the worked
conversations of Hugging Face's layout (`system_chat`) have no place in ours.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from judges.constitution import Constitution, Principle
from judges.marked_yaml import read_text
from teachers.errors import ConfigError

_SHAPES = (
    'Known are {"constitutions": [{"critic": ..., "revision": ...}]}, {"a-name": {"prompt": ...,'
    ' "edit_request": ...}} and a list of "Choose the response that ..." strings.'
)
_LISTS = ("constitutions", "constitution", "principles")
_CRITIQUES = ("critic", "critique", "prompt")
_REVISIONS = ("revision", "edit_request", "revision_request")

_CHOICE = re.compile(
    r"\b(?:choose|select|pick|prefer) (?:the |an? )?(?:\w+ )?"
    r"(?:response|answer|reply) (?:that|which) ",
    re.IGNORECASE,
)
# Where a request for a rewrite comes to what it is for: `... the response, with humour, to ...`.
_AIM = re.compile(
    r"\b(?:response|answer|reply|revision|version)\b[^.:]*? (?=(?:so as )?to |so that |that )",
    re.IGNORECASE,
)
# How an aim reads as a statement. The first that fits is taken.
_STATEMENTS = (
    (
        r"(?:so as )?to (?:remove|eliminate) (?:any and all |all |any )?",
        "The response should be free of ",
    ),
    (r"(?:so as )?to make it ", "The response should be "),
    (r"so that it(?:'s| is) ", "The response should be "),
    (r"(?:so as )?to ", "The response should "),
    (r"(?:so )?that (?:it )?", "The response "),
)


def read(path: Path) -> Constitution:
    """Read a constitution of a foreign layout; it is named after the file.

    Raises:
        ConfigError: the file cannot be read, or holds none of the layouts.
    """
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as wrong:
        raise ConfigError(f"{path}, line {wrong.lineno}: no JSON: {wrong.msg}") from wrong
    except RecursionError as wrong:
        raise ConfigError(f"{path} is nested too deeply.", hint=_SHAPES) from wrong
    principles: dict[str, Principle] = {}
    for number, (name, item) in enumerate(_items(content), start=1):
        id = _slug(name) or f"principle-{number}"
        if id in principles:
            id = f"{id}-{number}"
        try:
            principles[id] = _principle(id, item)
        except (TypeError, ValidationError) as wrong:
            raise ConfigError(
                f"{path}: principle {number} cannot be read.", hint=_SHAPES
            ) from wrong
    if not principles:
        raise ConfigError(f"{path} holds no constitution that is known here.", hint=_SHAPES)
    return Constitution(
        name=_slug(path.stem) or "imported",
        description=f"Imported from {path.name}.",
        principles=tuple(principles.values()),
    )


def _items(content: Any) -> Iterator[tuple[str, Any]]:
    """(name, principle as it is written there); no names in a list."""
    if isinstance(content, Mapping):
        content = next((content[key] for key in _LISTS if key in content), content)
    if isinstance(content, list):
        yield from (("", item) for item in content)
    elif isinstance(content, Mapping):
        yield from content.items()


def _principle(id: str, item: Any) -> Principle:
    if isinstance(item, str):
        return Principle(id=id, text=_of_choice(item))
    critique, revision = (_text(item, keys) for keys in (_CRITIQUES, _REVISIONS))
    return Principle(id=id, text=_of_revision(revision), critique=critique, revision=revision)


def _text(item: Any, keys: tuple[str, ...]) -> str:
    """The first of these fields that is there: a text, or several that are one."""
    value = next((item[key] for key in keys if key in item), "")
    return " ".join(value) if isinstance(value, list) else value


def _of_choice(request: str) -> str:
    """`Choose the response that ...` -> `The better response is the one that ...`."""
    found = _CHOICE.search(request)
    return f"The better response is the one that {request[found.end() :]}" if found else request


def _of_revision(request: str) -> str:
    """`Rewrite the response to remove all threats.` -> `The response should be free of threats.`"""
    if aim := _AIM.search(request):
        for pattern, statement in _STATEMENTS:
            text, fits = re.subn(rf"^{pattern}", statement, request[aim.end() :])
            if fits:
                return text.replace(", and to ", ", and ")
    return f"The response leaves nothing to do for this request: {request}" if request else ""


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:80].strip("-")
