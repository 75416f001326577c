"""How much a text repeats itself: the share of n-grams that were there before.

That is 1 - distinct / all, seq-rep-n of Welleck et al. 2019 (arXiv:1908.04319).
"""

import re
from typing import Any

from pydantic import BaseModel, Field

from judges.records import Verification

# A word, or of a longer run (`aaaa...`, scripts without spaces) each letter for itself.
_TOKEN = re.compile(r"\b\w{1,30}+(?!\w)|\w|[^\w\s]")


class Entry(BaseModel):
    """What a prompt or a recipe asks for."""

    n: int = Field(default=4, ge=1, le=100)
    """Words an n-gram."""
    at_most: float = Field(default=0.2, ge=0.0, le=1.0)
    """Largest share of repeated n-grams; ordinary prose is below 0.05."""


def check(text: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Verified if few n-grams are repeated. The score is the share of those that are not."""
    asked = Entry.model_validate(entry)
    share = repeated(_TOKEN.findall(text.casefold()), asked.n)
    return Verification(
        state="verified" if share <= asked.at_most else "refuted",
        reason=f"{share:.0%} of the {asked.n}-grams are repeated",
        score=1.0 - share,
    )


def repeated(tokens: list[str], n: int) -> float:
    """The share of n-grams that occurred before; 0 for a text that is too short to have one."""
    grams = list(zip(*(tokens[start:] for start in range(n)), strict=False))
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0
