"""How texts are compared: the one normal form and the one way to cut words."""

import re

from judges.verifiers.exact import normal

__all__ = ["normal", "words"]

# A sign between numbers carries meaning in an arithmetic question, so it is a word as well.
_WORD = re.compile(r"\d+(?:\.\d+)?|\w+|[+\-*/=<>^%]")


def words(text: str) -> list[str]:
    """Words, numbers and arithmetic signs of a text's normal form, in order."""
    return _WORD.findall(normal(text))
