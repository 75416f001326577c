"""What is wrong with a rule's parameters, in words: the field, what it takes, what is there."""

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_LONGEST = 40
# What pydantic calls these, in the words of somebody who writes JSON or YAML.
_WANTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table of keys and values",
    "model_type": "a table of keys and values",
    "literal_error": "{expected}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
}


class Nothing(BaseModel):
    """The parameters of a rule that takes none."""


def in_one_line(wrong: ValidationError) -> str:
    """The first mistake in an entry, and how many more there are."""
    errors = wrong.errors(include_url=False)
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"in the entry, {_said(errors[0])}{more}"[:300]


def names(kind: type[BaseModel]) -> list[str]:
    """What the parameters are called."""
    return [field.alias or name for name, field in kind.model_fields.items()]


def faults(rule: str, kind: type[BaseModel], entry: dict[str, Any]) -> str:
    """What is wrong with parameters of which there may be more elsewhere; empty if nothing is."""
    known = names(kind)
    for name in entry:
        if name not in known:
            return f"{rule} has no parameter {name!r}{_nearest(name, known)}"
    try:
        kind.model_validate(entry)
    except ValidationError as wrong:
        given = [one for one in wrong.errors(include_url=False) if one["type"] != "missing"]
        return f"{rule}: {_said(given[0])}" if given else ""
    return ""


def _said(error: ErrorDetails) -> str:
    where = ".".join(map(str, error["loc"])) or "it"
    if error["type"] == "missing":
        return f"{where} is missing"
    wanted = _WANTED.get(error["type"])
    expected = (
        f"has to be {wanted.format(**error.get('ctx', {}))}"
        if wanted
        else error["msg"].removeprefix("Value error, ")
    )
    found = repr(error["input"])
    shown = found if len(found) <= _LONGEST else f"{found[:_LONGEST]}…"
    return f"{where} {expected}, and is {shown}"


def _nearest(name: str, known: list[str]) -> str:
    if near := difflib.get_close_matches(name, known, n=1):
        return f"; did you mean {near[0]!r}?"
    return f"; it has {', '.join(known)}" if known else ": it takes none"
