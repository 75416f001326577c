"""The unit at the end of a quantity, by sympy's table of units."""

import re
from functools import lru_cache
from typing import Any, NamedTuple

# `5 cm`, `5\text{ cm}`, `5\,\mathrm{cm}`: letters after a number, at the end.
_UNIT = re.compile(
    r"[\d}]\s*(?:\\[,;: ]\s*|~)*(?:\\(?:text|mathrm)\{\s*([a-zA-Z]+)\s*\}|\s([a-zA-Z]+))[\s.$]*\Z"
)


class Unit(NamedTuple):
    """A unit as a word and, if sympy knows it, what it measures and how much of it."""

    word: str
    dimension: Any = None
    scale: Any = None

    @property
    def known(self) -> bool:
        return self.dimension is not None


def unit_of(text: str) -> Unit | None:
    """The unit that a text ends in, or None."""
    found = _UNIT.search(text)
    return _named(found[1] or found[2]) if found else None


@lru_cache(256)
def _named(word: str) -> Unit:
    from sympy.physics import units

    for spelling in (word, word.lower(), word.lower().removesuffix("s")):
        found = getattr(units, spelling, None)
        if isinstance(found, units.Quantity):
            return Unit(str(found.name), found.dimension, found.scale_factor)
    return Unit(word.lower().removesuffix("s"))
