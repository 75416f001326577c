"""Text equality, up to case, width of characters and spaces."""

import unicodedata
from typing import Any

from judges.records import Verification


def check(answer: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Verified if both texts are the same after NFKC, case folding and collapsing spaces."""
    if reference is None:
        return Verification(state="not_applicable", reason="there is no reference answer")
    if normal(answer) == normal(reference):
        return Verification(state="verified", reason="same text")
    return Verification(state="refuted", reason=f"expected {reference[:80]!r}")


def normal(text: str) -> str:
    """A text as it is compared: NFKC, case folded, every run of spaces one space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
