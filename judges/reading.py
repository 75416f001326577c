"""From a judge's reply to a reading: the verdict's words, weighed by their probabilities.

Raw replies are kept, so all of this can be done again without asking (`preceptor judge reparse`).
"""

import json
import math
import re
from collections.abc import Sequence

from judges.judge import Judge
from judges.records import Judgement, Reading
from teachers.records import Sample

_REFUSAL = re.compile(
    r"\b(?:I|we)(?:'m| am| are|'re)? (?:sorry|unable|not able|cannot|can't|can not|won't)\b"
    r"|\bas an AI\b",
    re.IGNORECASE,
)
_LONGEST_REPLY = 4000

# A reply whose mass lies on other tokens is no verdict, whatever the rest of it says.
MOST_OUTSIDE = 0.2


def weigh(judge: Judge, reply: Sample) -> tuple[Reading, tuple[float, ...]]:
    """How probable each of the judge's words is, and what that reading is worth.

    Returns:
        A reading without its value, and the words' probabilities, which sum to 1; none if the
        reply cannot be read.
    """
    if judge.rung == "logprobs" and reply.first_token:
        return _from_logprobs(judge.words, reply.first_token)
    text = reply.text[:_LONGEST_REPLY].replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    word = _named(judge, text)
    if word is None:
        refused = bool(_REFUSAL.search(text))
        return Reading(state="refused" if refused else "unparsed"), ()
    return Reading(state="read"), tuple(float(one == word) for one in judge.words)


def undecided(one: Reading, other: Reading, most_outside: float) -> Judgement | None:
    """What two readings come to if either of them is none, or has too much mass elsewhere."""
    for state in ("error", "refused", "unparsed"):
        if state in (one.state, other.state):
            return Judgement(state=state)
    if max(one.outside or 0.0, other.outside or 0.0) > most_outside:
        return Judgement(state="abstain")
    return None


def _from_logprobs(
    words: Sequence[str], first_token: Sequence[tuple[str, float]]
) -> tuple[Reading, tuple[float, ...]]:
    # A word may come with a space before it or in capitals: that is the same verdict.
    masses = [
        sum(math.exp(min(logprob, 0.0)) for token, logprob in first_token if _same(token, word))
        for word in words
    ]
    inside = sum(masses)
    if inside <= 0.0:
        return Reading(state="unparsed", outside=1.0), ()
    outside = min(1.0, max(0.0, 1.0 - inside))
    return Reading(state="read", outside=outside), tuple(mass / inside for mass in masses)


def _same(token: str, word: str) -> bool:
    return token.strip().casefold() == word.casefold()


def _named(judge: Judge, text: str) -> str | None:
    """The verdict word that a reply names, if it names exactly one."""
    if judge.rung == "json_schema":
        try:
            text = str(json.loads(text)["verdict"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
    either = "|".join(map(re.escape, judge.words))
    # "A", "**B**", "Yes, it does", "No. It breaks it"; but not the beginning of a list, "1. First".
    alone = re.match(rf"\W*({either})(?:\W*\Z|[,:!\n]|(?<!\d)\.)", text, re.IGNORECASE)
    if alone:
        return _as_written(judge, alone[1])
    # "Answer: A", "Answer A"; but not the article in "the better answer: a short one".
    forms = {form for word in judge.words for form in (word, word.capitalize(), word.upper())}
    before = r"\b(?i:answer|verdict|score|better)\W+(?:(?i:is)\W+)?"
    stated = re.findall(rf"{before}({'|'.join(map(re.escape, forms))})\b", text)
    named = {_as_written(judge, word) for word in stated}
    return named.pop() if len(named) == 1 else None


def _as_written(judge: Judge, word: str) -> str:
    return next(one for one in judge.words if one.casefold() == word.casefold())
