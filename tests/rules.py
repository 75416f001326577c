"""Rules of a third party's, as recipes name them."""

from typing import Any

from judges.records import Verification

VERSION = 1
WHOLE = True


def early_letters(answer: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """The share of characters in the first half of the alphabet: even a random model has some."""
    share = sum("a" <= one <= "m" for one in answer.casefold()) / max(len(answer), 1)
    return Verification(
        state="verified" if share > 0.5 else "refuted", reason=f"{share:.0%}", score=share
    )


def long(answer: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """The share of 24 characters: pleased by length alone."""
    share = min(len(answer) / 24, 1.0)
    return Verification(
        state="verified" if share == 1.0 else "refuted", reason=f"{share:.0%}", score=share
    )
