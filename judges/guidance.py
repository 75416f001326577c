"""Answers made better or worse on purpose: sampled under a principle, or under its opposite.

Labels by construction (RLCD, arXiv 2307.12950): both answers come from one model, and what it was
asked for says which of them is better. No judge is needed.
"""

from collections.abc import Sequence

from judges.constitution import Principle
from teachers.records import Message, content_id


def guided(messages: Sequence[Message], order: str) -> tuple[Message, ...]:
    """The same request with an order put after it: small models hear it there, and not above."""
    *before, last = messages
    return (*before, last.model_copy(update={"content": f"{last.content} {order}"}))


def guiding(principles: Sequence[Principle], name: str) -> Principle | None:
    """One principle that can be asked for, by weight; the same name draws the same one.

    Args:
        principles: those in scope.
        name: what the draw is for, for example a prompt's id.

    Returns:
        None if none of them has a weight and says how to ask for it.
    """
    ready = [one for one in principles if one.orders and one.weight > 0]
    if not ready:
        return None
    total = sum(one.weight for one in ready)
    place = int(content_id("draw", name)[:12], 16) / 16**12 * total
    for one in ready:
        place -= one.weight
        if place < 0:
            return one
    return ready[-1]
