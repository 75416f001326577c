"""Text equality up to case, punctuation, articles and spaces.

As in SQuAD's evaluation (Rajpurkar et al. 2016, arXiv:1606.05250), but for one thing: a sign, a
point or a comma before a digit stays, so -1.5 is neither 1.5 nor -15.
"""

import re
import unicodedata
from typing import Any

from judges.records import Verification
from judges.verifiers.exact import normal

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PART_OF_A_NUMBER = re.compile(r"[-.,](?=\d)")


def check(answer: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Verified if both say the same words."""
    if reference is None:
        return Verification(state="not_applicable", reason="there is no reference answer")
    wanted = words(reference)
    if not wanted:
        reason = f"the reference {reference[:80]!r} has no words"
        return Verification(state="not_applicable", reason=reason)
    if words(answer) == wanted:
        return Verification(state="verified", reason="same words")
    return Verification(state="refuted", reason=f"expected {reference[:80]!r}")


def words(text: str) -> str:
    """A text without what does not count: case, punctuation, articles, spaces."""
    plain = normal(text)
    kept = (
        letter
        if not unicodedata.category(letter).startswith("P") or _PART_OF_A_NUMBER.match(plain, at)
        else " "
        for at, letter in enumerate(plain)
    )
    return " ".join(_ARTICLES.sub(" ", "".join(kept)).split())
