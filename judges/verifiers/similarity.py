"""Similarity to a reference: ROUGE-L, the F1 of the longest common subsequence of words.

Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries" (beta = 1). The subsequence by
bits, a row of the table at a time: Hyyro 2004, "Bit-Parallel LCS-length Computation Revisited".
"""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from judges.records import Verification
from judges.verifiers.exact import normal


class Entry(BaseModel):
    """What a prompt or a recipe asks for."""

    at_least: float = Field(default=0.5, ge=0.0, le=1.0)
    """Smallest F1 that counts as similar."""


def check(text: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Verified if the text is similar enough to the reference. The score is F1."""
    wanted = re.findall(r"\w+", normal(reference or ""))
    if not wanted:
        return Verification(state="not_applicable", reason="there are no words of reference")
    score = rouge_l(re.findall(r"\w+", normal(text)), wanted)
    enough = score >= Entry.model_validate(entry).at_least
    return Verification(
        state="verified" if enough else "refuted", reason=f"ROUGE-L {score:.2f}", score=score
    )


def rouge_l(given: Sequence[str], wanted: Sequence[str]) -> float:
    """F1 of two lists of words: twice the common subsequence over both lengths, 0 to 1."""
    return 2 * common(given, wanted) / (len(given) + len(wanted)) if given or wanted else 0.0


def common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    places: dict[str, int] = {}
    for at, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << at
    every = (1 << len(first)) - 1
    row = every
    for word in second:
        step = row & places.get(word, 0)
        row = (row + step | row - step) & every
    return (every & ~row).bit_count()
