"""The length of a text, in words or characters."""

from typing import Any, Literal

from pydantic import BaseModel

from judges.records import Verification


class Entry(BaseModel):
    """What a prompt asks for."""

    unit: Literal["words", "characters"] = "words"
    at_least: int | None = None
    at_most: int | None = None


def check(text: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Verified if the text is neither shorter nor longer than asked for; limits are included."""
    asked = Entry.model_validate(entry)
    if asked.at_least is None and asked.at_most is None:
        return Verification(state="not_applicable", reason="the entry has no limit")
    length = len(text.split()) if asked.unit == "words" else len(text.strip())
    reason = f"{length} {asked.unit}"
    if asked.at_least is not None and length < asked.at_least:
        return Verification(state="refuted", reason=f"{reason}, at least {asked.at_least}")
    if asked.at_most is not None and length > asked.at_most:
        return Verification(state="refuted", reason=f"{reason}, at most {asked.at_most}")
    return Verification(state="verified", reason=reason)
