"""Multiple choice: the letter of an option, or its text."""

import re
from string import ascii_uppercase
from typing import Any

from pydantic import BaseModel

from judges.records import Verification
from judges.verifiers.exact import normal

# `B`, `(B)`, `B)`, `B. Paris`, `B: Paris`
_LETTER = re.compile(r"\s*\(?([A-Za-z])(?:\s*[).:]+\s*(.*)|\s*)\Z", re.DOTALL)
_UNNAMED = "ABCDE"


class Entry(BaseModel):
    """What a prompt says of its options."""

    options: list[str] | dict[str, str] = []
    """The options in order, or by letter; A to E without texts if not given."""


def check(answer: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Verified if the answer names the option that the reference names.

    An answer that names a letter beside another option's text names none.
    """
    if reference is None:
        return Verification(state="not_applicable", reason="there is no reference answer")
    options = _lettered(Entry.model_validate(entry).options)
    wanted = chosen(reference, options)
    if wanted is None:
        reason = f"the reference {reference[:80]!r} names no option"
        return Verification(state="not_applicable", reason=reason)
    given = chosen(answer, options)
    if given is None:
        return Verification(state="unparsed", reason=f"{answer[:80]!r} names no option")
    if given == wanted:
        return Verification(state="verified", reason=f"option {given}")
    return Verification(state="refuted", reason=f"option {given}, expected {wanted}")


def chosen(text: str, options: dict[str, str]) -> str | None:
    """The letter of the one option that a text names, or None."""
    same = [letter for letter, option in options.items() if option and option == normal(text)]
    if same:
        return same[0] if len(same) == 1 else None
    named = _LETTER.match(text)
    if not named or named[1].upper() not in options:
        return None
    letter, said = named[1].upper(), normal(named[2] or "")
    return letter if not said or options[letter] in ("", said) else None


def _lettered(options: list[str] | dict[str, str]) -> dict[str, str]:
    if not options:
        return dict.fromkeys(_UNNAMED, "")
    if isinstance(options, list):
        options = dict(zip(ascii_uppercase, options, strict=False))
    return {letter.upper(): normal(option) for letter, option in options.items()}
