"""Where a text's final answer is.

Two parsers, because one alone can be fooled: the strict one also rewards keeping to the agreed
form, the lenient one takes an answer wherever a person would find it, so a student that has only
learned the form gains nothing by it.
"""

import re
from collections import deque

from judges.alternatives import left_open
from judges.records import Parser

_FORM = re.compile(r"Answer:\s*(\S.*)")
# Groups are atomic and lookups short throughout: a hostile text must not make a pattern backtrack.
_NUMBER = r"(?>-?\$?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+|/\d+)?)"
_SUM_GOES_ON = r"\s*[-+*/^\u00d7\u00b7\u00f7=]\s*[\d(]"
# Marks that an answer follows, up to the end of the line. The last mark wins.
_BOX = re.compile(r"\\boxed\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_MARKS = (
    _BOX,
    re.compile(r"####\s*(?=\S)"),
    re.compile(r"answer\b[^\n:=]{0,40}?(?::|=|\bis\b)[\s*$`:]*+(?=.)", re.IGNORECASE),
)
_AFTER_EQUALS = re.compile(rf"=[ \t*$`]*+({_NUMBER})(?!{_SUM_GOES_ON})")
_ANY_NUMBER = re.compile(rf"(?<![\w.]){_NUMBER}")
_LEADING_NUMBER = re.compile(rf"({_NUMBER})(?![\w%(]|:\d|\s+\d|{_SUM_GOES_ON})")
_SENTENCE_END = re.compile(r"[.!?](?:\s|\Z)")
_LONGEST_CLOSING = 200
_CLOSING = re.compile(r"(?:\$([^$\n]+)\$|\\\(([^\n]+?)\\\))\.?\Z")
_WRAPPING = re.compile(r"\*\*|\\[()\[\]]|\\text\{([^{}]*)\}")


def readings(text: str, parser: Parser) -> list[str]:
    """How the final answer in `text` can be read, the most literal way first; none if it has none.

    `strict`: the last line that is not empty must read `Answer: X`; X is the one reading.
    `lenient`: that too, so it is never the harsher one. Then the last of any explicit mark ("the
    answer is X", "Answer: X", a box, `#### X`), as it stands and cut down to its number; where no
    mark leads to a number, the one after the last equals sign, or else the last one. Without any
    mark, mathematics that ends the text (`$X$`) is one. An answer that leaves open which of
    several values it means ("3 or 4") is never cut down to one of them.
    """
    if parser == "strict":
        return _strict(text)
    text = text.replace("\N{MINUS SIGN}", "-")
    found = [*_strict(text), *_marked(text)] or _closing(text)
    if not any(character.isdigit() for character in "".join(found[-1:])):
        found += _last_number(text)
    return list(dict.fromkeys(filter(None, found)))


def _strict(text: str) -> list[str]:
    lines = text.strip().splitlines()
    form = _FORM.fullmatch(lines[-1].strip()) if lines else None
    return [form[1]] if form else []


def _marked(text: str) -> list[str]:
    marks = [mark for kind in _MARKS for mark in deque(kind.finditer(text), maxlen=1)]
    if not marks:
        return []
    last = max(marks, key=lambda mark: mark.start())
    answer = last[1] if last.re is _BOX else text[last.end() :].splitlines()[0]
    bare = _bare(answer)
    return [bare] if left_open(bare) else [bare, _core(bare)]


def _closing(text: str) -> list[str]:
    """What stands between dollar signs, or as LaTeX else, at the very end."""
    last = _CLOSING.search(text.rstrip()[-_LONGEST_CLOSING:])
    if not last:
        return []
    closing = _bare(last[1] or last[2])
    return [_with_alternative(closing, text.rstrip(), len(text.rstrip()) - 1)]


def _last_number(text: str) -> list[str]:
    for kind in (_AFTER_EQUALS, _ANY_NUMBER):
        if found := deque(kind.finditer(text), maxlen=1):
            at = found[0].start(kind.groups)
            return [_with_alternative(_plain(found[0][kind.groups]), text, at)]
    return []


def _with_alternative(number: str, text: str, at: int) -> str:
    """A number of an unmarked text, or the two values between which its line does not decide."""
    line = text[text.rfind("\n", 0, at) + 1 :].partition("\n")[0]
    for sentence in _SENTENCE_END.split(line[-_LONGEST_CLOSING:]):
        open_ = left_open(sentence)
        if open_ and number in map(_plain, open_):
            return " or ".join(open_)
    return number


def _bare(answer: str) -> str:
    """Without the emphasis, quotes and punctuation that stand around an answer."""
    unwrapped = _WRAPPING.sub(lambda found: found[1] or "", answer)
    return unwrapped.strip("*`$\"'“” \t").rstrip(".!,;: ").strip("*`$\"'“” \t")


def _core(bare: str) -> str:
    """What is left of an answer once its explanation is taken away."""
    sentence = _SENTENCE_END.split(bare, maxsplit=1)[0]
    right = sentence.rpartition("=")[2].strip()  # of "12 + 7 = 19", or all of it
    for part in (right, sentence):
        if leading := _LEADING_NUMBER.match(part):  # "19 apples", "19, because …"
            return _plain(leading[1])
    prose = "\\" not in right and re.search(r"[^\W\d_]{2}", right)
    if prose and (numbers := _ANY_NUMBER.findall(right)):  # "therefore 19"
        return _plain(numbers[-1])
    return _bare(right)


def _plain(number: str) -> str:
    """Without currency and thousands separators."""
    return number.replace("$", "").replace(",", "")
