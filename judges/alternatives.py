"""Whether an answer leaves open which of several values it means: `3 or 4`.

One value may be stated twice (`3 or 3.0`, `50% or 1/2`, `2/3 or 0.67`, `3 or three`).
"""

import re
from fractions import Fraction
from itertools import pairwise

_NUMERALS = "zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
_WORDS = {word: str(value) for value, word in enumerate(_NUMERALS.split("|"))}
_VALUE = r"-?\$?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+|/\d+)?%?"
_STATED = rf"(?:{_VALUE}|\b(?:{_NUMERALS})\b)"
_NAMED = r"(?:[a-z]\w? ?= ?)?"  # the `x =` of `x = 3 or x = -3`
_UNIT = r"(?: ?(?!(?:or|and|to)\b)[a-z\N{DEGREE SIGN}]{1,20}){0,2}"
_DOUBT = r"(?:or|maybe|perhaps|possibly|alternatively|otherwise|vs|versus)"
_OR = re.compile(
    rf"({_STATED}){_UNIT}[ ,;:.?!()\[-]{{0,4}}\b{_DOUBT}\b[ ,:.(]{{0,3}}"
    rf"(?:[a-z]{{1,20}} ){{0,3}}{_NAMED}(?={_STATED})",
    re.IGNORECASE,
)
_AFTER = re.compile(_STATED, re.IGNORECASE)
# A list is one only if nothing else stands there: "19, 5 more than 14" says 19.
_LIST = re.compile(
    rf"(?:either |between |from )?{_NAMED}{_STATED}{_UNIT}"
    rf"(?:(?:[,;|&\N{{EN DASH}} ] ?)?(?:\b(?:and|or|to)\b ?|[,;|&\N{{EN DASH}}] ?)"
    rf"{_STATED}{_UNIT}){{1,20}}[ .?!]*",
    re.IGNORECASE,
)
_FRACTION = re.compile(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_TEXT = re.compile(r"\\(?:text|mathrm)\{([^{}]*)\}")
_NOTATION = re.compile(r"[$*`~]|\\[()\[\]]")
_SPACING = re.compile(r"\\(?:q?quad\b|[,;:! ])")
_LONGEST = 500  # characters; a hedge stands close to the answer


def left_open(answer: str) -> tuple[str, str] | None:
    """Two different values between which `answer` does not decide; None if it does.

    Of an answer that begins with a value only what is put beside that value counts, not what is
    said in its explanation.
    """
    plain = _plain(answer)
    if _LIST.fullmatch(plain):
        stated = _AFTER.findall(plain)
        return next((pair for pair in pairwise(stated) if not _same(*pair)), None)
    begins = _AFTER.match(plain)
    doubts = [_OR.match(plain)] if begins else _OR.finditer(plain)
    for doubt in filter(None, doubts):
        other = _AFTER.match(plain, doubt.end())
        if other and not _same(doubt[1], other[0]):
            return doubt[1], other[0]
    return None


def _plain(answer: str) -> str:
    """Without LaTeX and emphasis, on one line with single spaces."""
    text = answer[:_LONGEST].replace("\N{MINUS SIGN}", "-")
    text = _NOTATION.sub("", _TEXT.sub(r" \1 ", _FRACTION.sub(r"\1/\2", text)))
    text = re.sub(r"\\(?:lor|vee)\b", " or ", _SPACING.sub(" ", text))
    return " ".join(text.split())


def _same(one: str, other: str) -> bool:
    first, second = _meant(one), _meant(other)
    return bool(first & second) or _rounded(one, other) or _rounded(other, one)


def _meant(stated: str) -> set[Fraction]:
    """What a value can mean: 50 % is 0.5, and people write 50 for it."""
    bare = _WORDS.get(stated.lower(), stated).replace("$", "").replace(",", "")
    try:
        value = Fraction(bare.removesuffix("%"))
    except (ValueError, ZeroDivisionError):
        return set()
    return {value, value / 100} if bare.endswith("%") else {value}


def _rounded(decimal: str, fraction: str) -> bool:
    """Whether a decimal is what a fraction is rounded to."""
    if "/" not in fraction or "." not in decimal:
        return False
    digits = len(decimal.removesuffix("%").partition(".")[2])
    return any(
        abs(exact - shown) * 10**digits <= 1
        for exact in _meant(fraction)
        for shown in _meant(decimal)
    )
