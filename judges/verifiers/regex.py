"""A regular expression that the text has to hold.

A pattern can take for ever on a text made for it; the pool's time limit is the only cure.
"""

import re
from typing import Any

from pydantic import BaseModel

from judges.records import Verification


class Entry(BaseModel):
    """What a prompt may say."""

    pattern: str | None = None
    """Python's syntax, searched for anywhere: anchor it with \\A and \\Z. Else the reference is."""


def check(text: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Verified if the pattern occurs in the text.

    Raises:
        re.error: the pattern is none.
    """
    pattern = Entry.model_validate(entry).pattern or reference
    if pattern is None:
        return Verification(state="not_applicable", reason="there is no pattern")
    found = re.search(pattern, text)
    if found is None:
        return Verification(state="refuted", reason=f"{pattern[:80]!r} does not occur")
    return Verification(state="verified", reason=f"{pattern[:80]!r} occurs at {found.start()}")
