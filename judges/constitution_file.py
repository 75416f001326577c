"""Constitutions as YAML files: every mistake is told with its line."""

import difflib
from pathlib import Path
from typing import NoReturn

import yaml
from pydantic import BaseModel, ValidationError

from judges import marked_yaml
from judges.constitution import Case, Constitution, Construction, Principle, Scope
from judges.marked_yaml import Document, Place, read
from teachers.errors import ConfigError
from teachers.records import Message

SHIPPED = Path(__file__).resolve().parent.parent / "constitutions"
"""The folder of the constitutions that come with Preceptor."""

_SECTIONS: dict[str, type[BaseModel]] = {
    "principles": Principle,
    "scope": Scope,
    "construction": Construction,
    "cases": Case,
    "conversation": Message,
}
# What pydantic says of these, in the words of somebody who writes YAML.
_SAID = {
    "string_type": "has to be text: it is empty, or YAML reads something else (then use quotes)",
    "string_too_short": "is empty",
    "string_pattern_mismatch": "may have lower-case letters, digits and hyphens between them only",
    "tuple_type": "has to be a list",
    "model_type": "has to be a table of keys and values",
}


def load(path: Path) -> Constitution:
    """Read a constitution.

    Raises:
        ConfigError: it is not there or says something it may not: one mistake, with its line.
    """
    return _understood(read(path))


def parse(text: str, name: str) -> Constitution:
    """A constitution from the text of such a file.

    Args:
        name: what the text is called in errors.

    Raises:
        ConfigError: as from `load`.
    """
    return _understood(marked_yaml.parse(text, name))


def _understood(document: Document) -> Constitution:
    if not isinstance(document.content, dict):
        raise ConfigError(
            f"{document.name} holds no constitution.",
            hint=f"{SHIPPED.name}/ has some to start from.",
        )
    _refuse_twins(document)
    try:
        return Constitution.model_validate(document.content)
    except ValidationError as wrong:
        _explain(document, wrong)


def dump(constitution: Constitution) -> str:
    """A constitution as the YAML file that `load` reads as the same constitution."""
    content = constitution.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)


def _refuse_twins(document: Document) -> None:
    """Two principles of one id: told here, where the second one's line is known."""
    principles = document.content.get("principles")
    seen: set[str] = set()
    for position, principle in enumerate(principles if isinstance(principles, list) else []):
        id = principle.get("id") if isinstance(principle, dict) else None
        if not isinstance(id, str):
            continue
        if id in seen:
            document.refuse(("principles", position, "id"), f"there is a principle {id!r} already")
        seen.add(id)


def _explain(document: Document, wrong: ValidationError) -> NoReturn:
    """Tell the first mistake; an unknown key before the one that is missing because of it."""
    errors = wrong.errors(include_url=False, include_context=False, include_input=False)
    error = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    kind, place = error["type"], error["loc"]
    inside, (key,) = place[:-1], place[-1:] or ("",)
    if kind == "extra_forbidden":
        said = f"{_where(document, inside)}unknown key {key!r}{_nearest(inside, str(key))}"
    elif kind == "missing":
        said = f"{_where(document, inside)}{key!r} is missing"
    else:
        message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
        said = _where(document, place) + _SAID.get(kind, message[:1].lower() + message[1:])
    document.refuse(place, said)


def _where(document: Document, place: Place) -> str:
    """`principle 'no-padding': case 3: better: `."""
    words: list[str] = []
    content = document.content
    for part in place:
        content = content[part] if content is not None else None
        if isinstance(part, str):
            words.append(part)
        else:
            id = content.get("id") if isinstance(content, dict) else None
            words[-1] = f"{words[-1].removesuffix('s')} {repr(id) if id else part + 1}"
    return "".join(f"{word}: " for word in words)


def _nearest(place: Place, key: str) -> str:
    """What somebody may have meant by an unknown key of a section."""
    names = [part for part in place if isinstance(part, str)]
    section = _SECTIONS[names[-1]] if names else Constitution
    near = difflib.get_close_matches(key[:40], section.model_fields, n=1)
    return f", did you mean {near[0]!r}?" if near else f"; known: {', '.join(section.model_fields)}"
