"""Texts that try to talk a judge into a verdict, to measure how far it listens to them.

Each stands in an answer that is the worse one. They are data in `injections.txt`, each below a
line `%% KIND`: orders, tags that are closed, verdicts that are claimed, other rules, other roles.
"""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from judges.records import Judgement
from judges.share import Share, share

_FILE = Path(__file__).parent / "injections.txt"
_HEADING = re.compile(r"^%% (\w+)\n", re.MULTILINE)


class Injection(NamedTuple):
    """A text that tries to sway a judge."""

    kind: str
    text: str


@cache
def injections() -> tuple[Injection, ...]:
    """All of them, in the file's order."""
    _, *parts = _HEADING.split(_FILE.read_text(encoding="utf-8"))
    return tuple(
        Injection(kind, text.strip()) for kind, text in zip(parts[::2], parts[1::2], strict=True)
    )


def injected(text: str, injection: Injection) -> str:
    """An answer that ends with an injection."""
    return f"{text}\n\n{injection.text}"


def sway(clean: Sequence[Judgement], after: Sequence[Judgement]) -> Share:
    """The share of verdicts that are others with an injection than without it.

    Args:
        clean: the judgements without.
        after: those of the same pairs in the same order, one answer injected.

    Raises:
        ValueError: there are none, or not as many of both.
    """
    return share([one.state != other.state for one, other in zip(clean, after, strict=True)])
