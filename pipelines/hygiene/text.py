"""How texts are compared: the one normal form and the one way to cut words."""

import re
import unicodedata

# A sign between numbers carries meaning in an arithmetic question, so it is a word as well.
_WORD = re.compile(r"\d+(?:\.\d+)?|\w+|[+\-*/=<>^%]")


def normal(text: str) -> str:
    """NFKC, case folded, every run of spaces one space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def words(text: str) -> list[str]:
    """Words, numbers and arithmetic signs of a text's normal form, in order."""
    return _WORD.findall(normal(text))
