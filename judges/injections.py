"""Texts that try to talk a judge into a verdict, to measure how far it listens to them.

Each stands in an answer that is the worse one: orders, closed tags, claimed verdicts, other rules,
other roles. They are data in `injections.txt`, with `%%` on a line between them.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from judges.records import Judgement
from judges.share import Share, share

_FILE = Path(__file__).parent / "injections.txt"


@cache
def injections() -> tuple[str, ...]:
    """All of them, in the file's order."""
    return tuple(text.strip() for text in _FILE.read_text(encoding="utf-8").split("\n%%\n"))


def injected(text: str, injection: str) -> str:
    """An answer that ends with an injection."""
    return f"{text}\n\n{injection}"


def sway(clean: Sequence[Judgement], after: Sequence[Judgement]) -> Share:
    """The share of verdicts that are others with an injection than without it.

    Args:
        clean: the judgements without.
        after: those of the same pairs in the same order, one answer injected.

    Raises:
        ValueError: there are none, or not as many of both.
    """
    return share([one.state != other.state for one, other in zip(clean, after, strict=True)])
