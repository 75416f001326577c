"""A revision as a text: its wrapping taken off, how much of it is new, whether it helps at all."""

import re
from difflib import SequenceMatcher

# A revision that changes less than this is none: the answer is as good as the reviser can make it.
UNCHANGED = 0.05
# With fewer words than this besides the refusal, nothing of use has been said.
HELP_WORDS = 10

_REWRITTEN = (
    r"(?:re-?vised|revision|rewritten|rewrite|re-?worded|improved|updated|corrected|edited"
    r"|new (?:answer|response|reply|version))"
)
_OPENER = re.compile(
    r"[\s*#]*(?:(?:sure|certainly|of course|absolutely|okay|ok)\b[\s,.!]*)?"
    r"(?:(?:here(?:['\u2019]s| is)|this is|below is)\b"
    rf"[^\n:]{{0,120}}?\b{_REWRITTEN}\b[^\n:]{{0,120}}"
    rf"|(?:the |my |a )?{_REWRITTEN}(?: (?:answer|response|reply|version|text))?[\s*]*)"
    r":[\s*]*",
    re.IGNORECASE,
)
_QUOTES = ('""', "“”", "„“", "«»", "''", "\u2018\u2019")

_CLAUSE = re.compile(r"(?<=[.!?])\s+|\n+|;|,?\s+(?:but|however)\b")
_DECLINES = re.compile(
    r"\b(?:sorry|apologi[sz]e|unable to|not able to|not comfortable|inappropriate"
    r"|not appropriate|my guidelines)\b"
    r"|\bI (?:\w+ )?(?:cannot|can not|can't|won't|will not|must not|decline|refuse)\b"
    r"|\bas an? (?:AI|artificial|language model|assistant)\b"
    r"|\b(?:I'm|I am) (?:just |only )?an? (?:AI|artificial|language model)\b",
    re.IGNORECASE,
)
# What is said around a refusal and helps nobody either.
_PADDING = re.compile(
    r"\b(?:anything else|other questions?|something else|feel free to|happy to help|glad to help"
    r"|here to help|how (?:can|may) I help|thank you for)\b",
    re.IGNORECASE,
)


def cleaned(text: str) -> str:
    """A revision without its wrapping: `Sure, here is a revised version:`, tags, quotes around."""
    if opener := _OPENER.match(text):
        text = text[opener.end() :]
    text = text.strip().removeprefix("<answer>").removesuffix("</answer>").strip()
    if len(text) > 1 and text[0] + text[-1] in _QUOTES:
        inside = text[1:-1]
        # Two quotations of which one begins and one ends the answer are not quotes around it.
        if text[0] not in inside and text[-1] not in inside:
            return inside.strip()
    return text


def edit_share(before: str, after: str) -> float:
    """How much was changed: the share of both texts' words that is not common to both, 0 to 1.

    Words in common are counted in order, by difflib's longest matching blocks.
    """
    words = before.split(), after.split()
    if words[0] == words[1]:
        return 0.0
    return 1.0 - SequenceMatcher(None, *words, autojunk=False).ratio()


def evasive(text: str) -> bool:
    """Whether a text declines and gives no help.

    That is: one of its clauses says sorry, cannot or will not, and with all such clauses and the
    polite phrases around them taken away, fewer than `HELP_WORDS` words are left. A text that
    declines one thing and helps with another is not evasive.
    """
    clauses = [one for one in _CLAUSE.split(text.replace("\u2019", "'")) if one.strip()]
    declining = [one for one in clauses if _DECLINES.search(one)]
    if not declining:
        return False
    rest = [one for one in clauses if not (_DECLINES.search(one) or _PADDING.search(one))]
    return sum(len(one.split()) for one in rest) < HELP_WORDS
