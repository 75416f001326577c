"""What is blotted out of texts before they are kept: addresses, numbers of people, secrets.

By patterns, so it is a help and no promise: names and what is written out in words stay. Texts
are strangers', so no pattern may search long: each begins once in a run of characters, and gives
nothing back of what it took.
"""

import re
from typing import Any

MOST = 64 * 1024
"""Characters of a text that are kept."""
_CARD = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?!\w|\.\d)")
PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "secret",
        re.compile(
            r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|$)"
            r"|\b(?:sk|pk|rk|ghp|gho|ghs|glpat|xox[abprs]|hf|preceptor)[-_][\w-]{16,}"
            r"|\bAKIA[0-9A-Z]{16}\b"
            r"|(?<![\w-])eyJ[\w-]{10,}+\.[\w-]{10,}+\.[\w-]{5,}+"
            r"|(?<=Bearer )[\w.~+/-]{16,}=*",
            re.DOTALL,
        ),
    ),
    ("email", re.compile(r"(?<![\w.+-])[\w.+-]++@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")),
    ("iban", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")),
    ("address", re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")),
    ("phone", re.compile(r"(?<![\w+])(?:\+|00)\d(?:[ /.()-]{0,2}+\d){6,16}+(?!\w)")),
)


def redacted(text: str) -> str:
    """The text with `[email]`, `[card]` and the like in the places of such things; of a long one
    the beginning, and `[cut]`."""
    if len(text) > MOST:
        # The last word may be half of something.
        text = text[:MOST].rsplit(None, 1)[0] + " [cut]"
    for name, pattern in PATTERNS:
        text = pattern.sub(f"[{name}]", text)
    return _CARD.sub(lambda found: "[card]" if _is_card(found[0]) else found[0], text)


def blotted(value: Any) -> Any:
    """The same of every text in a structure as JSON has it."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, list):
        return [blotted(one) for one in value]
    if isinstance(value, dict):
        return {key: blotted(one) for key, one in value.items()}
    return value


def _is_card(number: str) -> bool:
    """Whether its last digit is right (Luhn, ISO/IEC 7812-1): of other numbers, one in ten is."""
    digits = [int(one) for one in number if one.isdigit()]
    doubled = [sum(divmod(2 * one, 10)) for one in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
