"""JSON of a given schema, alone or in one fenced block that is the whole text."""

import json
import re
from typing import Any, NoReturn

from pydantic import BaseModel, Field

from judges.records import Verification

_FENCE = re.compile(r"\s*```(?:json)?[ \t]*\n(.*)\n[ \t]*```\s*\Z", re.DOTALL)


class Entry(BaseModel):
    """What a prompt has to say."""

    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    """The schema; references to other documents are not followed."""


def check(text: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Verified if the text is JSON and valid by the schema.

    Raises:
        jsonschema.SchemaError: the schema is none.
    """
    from jsonschema.exceptions import best_match
    from jsonschema.validators import validator_for
    from referencing.jsonschema import EMPTY_REGISTRY

    schema = Entry.model_validate(entry).json_schema
    if schema is None:
        return Verification(state="not_applicable", reason="the entry has no schema")
    kind = validator_for(schema)
    kind.check_schema(schema)
    fenced = _FENCE.match(text)
    try:
        value = json.loads(fenced[1] if fenced else text, parse_constant=_no_json)
    except (ValueError, RecursionError) as wrong:
        return Verification(state="refuted", reason=f"no JSON: {wrong}"[:200])
    # An empty registry: the default one would fetch a remote reference.
    worst = best_match(kind(schema, registry=EMPTY_REGISTRY).iter_errors(value))
    if worst is not None:
        return Verification(state="refuted", reason=f"{worst.json_path}: {worst.message}"[:200])
    return Verification(state="verified", reason="valid by the schema")


def load() -> None:
    """Import jsonschema."""
    check("1", None, {"schema": {}})


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not in JSON")
