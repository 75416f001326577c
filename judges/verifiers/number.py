"""Numbers and other mathematics, by math-verify: fractions, percentages, LaTeX, sets.

Its own time limits are alarms and work in a main thread only, so they are off: whoever calls this
runs it in a process that can be killed (`judges.verifiers.pool`).
"""

from typing import Any

from judges.records import Verification


def check(answer: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Verified if the answer is mathematically equal to the reference."""
    from math_verify import parse, verify

    if reference is None:
        return Verification(state="not_applicable", reason="there is no reference answer")
    wanted = parse(_as_math(reference), parsing_timeout=None)
    if not wanted:
        reason = f"the reference {reference[:80]!r} is no number"
        return Verification(state="not_applicable", reason=reason)
    given = parse(_as_math(answer), parsing_timeout=None)
    if not given:
        return Verification(state="unparsed", reason=f"{answer[:80]!r} is no number")
    if verify(wanted, given, timeout_seconds=None):
        return Verification(state="verified", reason="equal")
    return Verification(state="refuted", reason=f"expected {reference[:80]}")


def _as_math(text: str) -> str:
    """math-verify reads LaTeX between dollar signs only."""
    return f"${text}$" if "\\" in text and "$" not in text else text
