"""Training rows that give away a held-out item: found by word n-grams.

Two published rules (Tulu 3: more than half of an item's 8-grams; GPT-3 and lm-eval: any 13-gram)
and equality for what is too short for them. One thing is added, because tasks made by a generator
share their wording: an n-gram that many held-out items have in common is boilerplate, and says
nothing about any of them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pipelines.hygiene.text import words

SHORT, COVERAGE = 8, 0.5
LONG = 13
# Held-out items that may share an n-gram before it counts as boilerplate.
MAX_SHARED = 3

Gram = tuple[str, ...]


class Hit(NamedTuple):
    """A held-out item found in a text."""

    item_id: str
    rule: str
    """`equal`, `8-gram` or `13-gram`."""


class HeldOut:
    """The held-out items, indexed by their n-grams.

    Args:
        items: (id, text) of every question and every worked answer. A bare number is no text to
            look for: give questions, and answers that are long enough to have an identity.
    """

    def __init__(self, items: Iterable[tuple[str, str]]) -> None:
        tokens = [(item_id, words(text)) for item_id, text in items]
        self._equal: dict[Gram, str] = {tuple(item): item_id for item_id, item in tokens if item}
        long_enough = [(item_id, item) for item_id, item in tokens if len(item) >= SHORT]
        self._short, self._counts = _index(long_enough, SHORT)
        self._long, _ = _index(long_enough, LONG)

    def find(self, *texts: str) -> Hit | None:
        """The first held-out item that any of `texts` gives away, or None."""
        for text in texts:
            tokens = words(text)
            if item_id := self._equal.get(tuple(tokens)):
                return Hit(item_id, "equal")
            if hit := self._by_grams(tokens):
                return hit
        return None

    def _by_grams(self, tokens: list[str]) -> Hit | None:
        for gram in _grams(tokens, LONG):
            if gram in self._long:
                return Hit(self._long[gram][0], "13-gram")
        covered = Counter(
            item_id for gram in _grams(tokens, SHORT) for item_id in self._short.get(gram, ())
        )
        for item_id, count in covered.items():
            if count > COVERAGE * self._counts[item_id]:
                return Hit(item_id, "8-gram")
        return None


def _index(
    items: list[tuple[str, list[str]]], size: int
) -> tuple[dict[Gram, list[str]], Mapping[str, int]]:
    """Which items an n-gram that is not boilerplate stands in, and how many each item has."""
    holders: dict[Gram, list[str]] = {}
    for item_id, tokens in items:
        for gram in _grams(tokens, size):
            holders.setdefault(gram, []).append(item_id)
    telling = {gram: ids for gram, ids in holders.items() if len(ids) <= MAX_SHARED}
    return telling, Counter(item_id for ids in telling.values() for item_id in ids)


def _grams(tokens: list[str], size: int) -> set[Gram]:
    return {tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)}
