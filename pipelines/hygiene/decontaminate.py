"""Training rows that give away a held-out item: found by word n-grams.

Two published rules (Tulu 3: more than half of an item's 8-grams; GPT-3 and lm-eval: any 13-gram)
and equality for what is too short for them. One thing is added, because tasks made by a generator
share their wording: a word that very many held-out items have is boilerplate and is left out of
both sides, or else every sum would look like every other. Numbers and signs always count.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pipelines.hygiene.text import words

SHORT, COVERAGE = 8, 0.5
LONG = 13
# A word in more than this share of the items, and in more than so many of them, is boilerplate.
BOILERPLATE_SHARE, BOILERPLATE_ITEMS = 0.05, 10

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
        whole = [(item_id, words(text)) for item_id, text in items]
        self._boilerplate = _boilerplate([item for _, item in whole])
        telling = [(item_id, self._telling(item)) for item_id, item in whole]
        self._equal: dict[Gram, str] = {item: item_id for item_id, item in telling if item}
        self._short: dict[Gram, list[str]] = _index(telling, SHORT)
        self._long: dict[Gram, list[str]] = _index(telling, LONG)
        self._counts: Mapping[str, int] = Counter(
            item_id for holders in self._short.values() for item_id in holders
        )

    def find(self, *texts: str) -> Hit | None:
        """The first held-out item that any of `texts` gives away, or None."""
        for text in texts:
            tokens = self._telling(words(text))
            if item_id := self._equal.get(tokens):
                return Hit(item_id, "equal")
            if hit := self._by_grams(tokens):
                return hit
        return None

    def _telling(self, tokens: list[str]) -> Gram:
        # A text of nothing but boilerplate is compared as it is.
        return tuple(t for t in tokens if t not in self._boilerplate) or tuple(tokens)

    def _by_grams(self, tokens: Gram) -> Hit | None:
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


def _boilerplate(items: list[list[str]]) -> frozenset[str]:
    """Words (not numbers, not signs) that too many items have to tell one from another."""
    holders = Counter(token for item in items for token in set(item) if token.isalpha())
    most = max(BOILERPLATE_ITEMS, BOILERPLATE_SHARE * len(items))
    return frozenset(token for token, count in holders.items() if count > most)


def _index(items: list[tuple[str, Gram]], size: int) -> dict[Gram, list[str]]:
    """Which items each n-gram stands in."""
    holders: dict[Gram, list[str]] = {}
    for item_id, tokens in items:
        for gram in _grams(tokens, size):
            holders.setdefault(gram, []).append(item_id)
    return holders


def _grams(tokens: Gram, size: int) -> set[Gram]:
    return {tokens[start : start + size] for start in range(len(tokens) - size + 1)}
