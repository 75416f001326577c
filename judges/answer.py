"""Where a text's final answer is.

Two parsers, because one alone can be fooled: the strict one also rewards keeping to the agreed
form, the lenient one takes an answer wherever a person would find it, so a student that has only
learned the form gains nothing by it.
"""

import re

from judges.records import Parser

_FORM = re.compile(r"Answer:[ \t]*(\S.*?)[ \t]*\Z")
# The last explicit mark wins; each pattern's first group is the answer.
_MARKS = (
    re.compile(r"\\boxed\{([^{}]*)\}"),
    re.compile(r"####\s*([^\n]+)"),
    re.compile(r"answer\b[^\n:=]{0,40}?(?::|=|\bis\b)[ \t*$`:]*([^\n]+)", re.IGNORECASE),
)
_AFTER_EQUALS = re.compile(r"=[ \t*$`]*(-?\$?\d[\d,]*(?:\.\d+)?)(?![\d.,]*\d)")
_NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+|/\d+)?")


def find(text: str, parser: Parser) -> str | None:
    """The final answer in `text`, or None.

    `strict`: the last line that is not empty must read `Answer: X`.
    `lenient`: the last of any explicit mark ("the answer is X", "Answer: X", a box, `#### X`);
    without one the number after the last equals sign, without that the last number.
    """
    return strict(text) if parser == "strict" else lenient(text)


def strict(text: str) -> str | None:
    """X of a last line `Answer: X`."""
    lines = text.strip().splitlines()
    form = _FORM.match(lines[-1].strip()) if lines else None
    return form[1] if form else None


def lenient(text: str) -> str | None:
    """The answer as a kind reader would find it."""
    marked = [(mark.start(), mark[1]) for kind in _MARKS for mark in kind.finditer(text)]
    if marked and (answer := _clean(max(marked)[1])):
        return answer
    for kind in (_AFTER_EQUALS, _NUMBER):
        if found := kind.findall(text):
            return _clean(found[-1]) or None
    return None


def _clean(answer: str) -> str:
    """Without the emphasis, quotes and punctuation that stand around an answer."""
    bare = (
        answer.replace("**", "")
        .strip()
        .strip("*`$\"'“”")
        .rstrip(".!,;: ")
        .strip("*`$\"'“”")
        .strip()
    )
    # "19 apples", "19, because …": where a number leads, it is the answer.
    if leading := re.match(r"-?\$?\d[\d,]*(?:\.\d+)?(?=[\s,;]|\Z)", bare):
        return leading[0].lstrip("$").rstrip(",")
    # "12 + 7 = 19": the right-hand side is.
    return bare.rpartition("=")[2].strip() if "=" in bare else bare
