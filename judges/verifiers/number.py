"""Numbers, by math-verify: fractions, percentages, thousands separators, LaTeX in dollar signs.

It finds the number in a phrase ("19 apples"); `math` is for expressions.
"""

from typing import Any

from judges.records import Verification
from judges.verifiers.math import compared, left_undecided, out_of_reach, parsed


def check(answer: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Verified if the answer is mathematically equal to the reference.

    An answer that leaves open which of several numbers it means is not read, unless the reference
    does so too.
    """
    if reference is None:
        return Verification(state="not_applicable", reason="there is no reference answer")
    if unfit := out_of_reach(answer, reference):
        return unfit
    wanted = parsed(_as_math(reference))
    if not wanted:
        reason = f"the reference {reference[:80]!r} is no number"
        return Verification(state="not_applicable", reason=reason)
    if undecided := left_undecided(answer, reference, wanted):
        return undecided
    given = parsed(_as_math(answer))
    if not given:
        return Verification(state="unparsed", reason=f"{answer[:80]!r} is no number")
    return compared(wanted, given, reference)


def _as_math(text: str) -> str:
    """math-verify reads LaTeX between dollar signs only."""
    return f"${text}$" if "\\" in text and "$" not in text else text
