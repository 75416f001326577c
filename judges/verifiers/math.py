"""Mathematics, by math-verify: LaTeX, fractions, sets, intervals, equations, equivalence, units.

Its own time limits are alarms and work in a main thread only, so they are off: whoever calls this
runs it in a process that can be killed (`judges.verifiers.pool`).
"""

import re
from functools import lru_cache
from typing import Any

from judges.alternatives import left_open
from judges.records import Verification
from judges.verifiers.powers import too_large
from judges.verifiers.units import unit_of

# Without a digit, an operator or a command, several letters are a word and no product.
_MATHEMATICS = re.compile(r"[\d\\^_+*/=<>()\[\]{}|-]|^\s*\$*\s*\w{1,3}\s*\$*\s*$")
_DELIMITERS = re.compile(r"(?<!\\)\\[()\[\]]")
# What people write and LaTeX reads as something else: 2**3, 2^(3), 3 1/2, 1e3.
_BRACKETED_POWER = re.compile(r"\^\(([^()]*)\)")
_MIXED = re.compile(r"(?<![\d.])(\d+)\s+(\d+)/(\d+)(?![\d.])")
_FLOAT = re.compile(r"(-?\d+(?:\.\d+)?)[eE]([+-]?\d+)\Z")
_INTEGER = re.compile(r"(\$?)(-?(?:0|[1-9]\d{0,17}))\1", re.ASCII)
# A group of answers shares its reference, and right answers often look like it.
_REMEMBERED = 256


def check(answer: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Verified if both are mathematically equal; where both name a unit, as quantities.

    A unit that only one of the two names is overlooked. Different words that are not both known
    units leave it open.
    """
    if reference is None:
        return Verification(state="not_applicable", reason="there is no reference answer")
    if unfit := out_of_reach(answer, reference):
        return unfit
    wanted, given = _read(reference), _read(answer)
    if not wanted:
        reason = f"the reference {reference[:80]!r} is no mathematics"
        return Verification(state="not_applicable", reason=reason)
    if undecided := left_undecided(answer, reference, wanted):
        return undecided
    if not given:
        return Verification(state="unparsed", reason=f"{answer[:80]!r} is no mathematics")
    asked, named = unit_of(reference), unit_of(answer)
    if asked and named and asked != named:
        if not asked.known or not named.known:
            reason = f"the units {asked.word!r} and {named.word!r} cannot be compared"
            return Verification(state="unparsed", reason=reason)
        if asked.dimension != named.dimension:
            return Verification(state="refuted", reason=f"expected {reference[:80]}")
        wanted = [wanted[0] * asked.scale]
        given = [given[0] * named.scale]
    return compared(wanted, given, reference)


def left_undecided(answer: str, reference: str, wanted: list[Any]) -> Verification | None:
    """What is found of an answer that names several numbers where one is wanted: a set of
    solutions may be told as `3 or -3`."""
    open_ = left_open(answer)
    if open_ is None or left_open(reference) or not getattr(wanted[0], "is_number", True):
        return None
    reason = f"it leaves open whether it is {open_[0]} or {open_[1]}"
    return Verification(state="unparsed", reason=reason)


def out_of_reach(answer: str, reference: str) -> Verification | None:
    """What is found of powers that are too large to be worked out, told by their form."""
    if too_large(reference):
        reason = f"the reference {reference[:80]!r} has a power that is too large to work out"
        return Verification(state="not_applicable", reason=reason)
    if too_large(answer):
        reason = f"{answer[:80]!r} has a power that is too large to work out"
        return Verification(state="unparsed", reason=reason)
    return None


def compared(wanted: list[Any], given: list[Any], reference: str) -> Verification:
    """Verified if what was parsed is equal."""
    from math_verify import verify

    if verify(wanted, given, timeout_seconds=None):
        return Verification(state="verified", reason="equal")
    return Verification(state="refuted", reason=f"expected {reference[:80]}")


@lru_cache(_REMEMBERED)
def parsed(text: str) -> list[Any]:
    """What math-verify reads in a text: expressions and how they stand there; empty if nothing."""
    from math_verify import parse
    from sympy import Integer

    if whole := _INTEGER.fullmatch(text):
        return [Integer(int(whole[2])), whole[2]]  # the same, without two parsers at work
    return list(parse(text, parsing_timeout=None))


def load() -> None:
    """Import sympy and build its parsers: seconds."""
    compared(parsed(r"$\frac{1}{2}$"), parsed("0.5"), "")


def _read(text: str) -> list[Any]:
    """math-verify reads LaTeX between dollar signs only."""
    bare = _DELIMITERS.sub("", text).strip("$* \t")
    return parsed(f"${_as_latex(bare)}$") if _MATHEMATICS.search(bare) else []


def _as_latex(text: str) -> str:
    text = _FLOAT.sub(r"\1\\cdot10^{\2}", text.replace("**", "^"))
    text = _MIXED.sub(r"\1\\frac{\2}{\3}", text)
    while (braced := _BRACKETED_POWER.sub(r"^{\1}", text)) != text:
        text = braced  # from the innermost outwards
    return text
