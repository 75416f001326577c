"""Answers that were served, side by side, and what people say of them; a preference of two is a
label."""

import json
from collections.abc import Sequence

from pydantic import ValidationError
from sqlite_utils import Database

from judges.labels import Label
from judges.records import Comparison
from pipelines.store import exchanges, judgements, labels
from pipelines.store.calls import chunks
from pipelines.store.exchanges import Exchange, Thumb
from pipelines.store.judgements import Compared
from teachers.errors import ConfigError
from teachers.records import Message


def record(
    db: Database,
    exchange_id: str,
    who: str,
    *,
    key: str = "",
    thumb: Thumb | None = None,
    over: str | None = None,
    comment: str = "",
) -> Label | None:
    """Keep what somebody says of an answer; what the same one says later takes its place.

    Args:
        who: as labels name people.
        key: tells people of one name apart.
        over: the answer that is worse, to the same request.

    Returns:
        The label that it became, if it prefers one answer and the texts of both were kept.

    Raises:
        ConfigError: there is no such answer, or the two are not answers to the same request.
    """
    better = exchanges.exchange(db, exchange_id)
    worse = exchanges.exchange(db, over) if over is not None else None
    exchanges.add_feedback(db, better.id, key or who, thumb, worse.id if worse else None, comment)
    if worse is None:
        return None
    if better.request != worse.request:
        raise ConfigError("The two are not answers to the same request.")
    comparison = _compared(better, worse)
    if comparison is None:
        return None
    judgements.add_comparisons(db, [Compared(comparison, "traffic")])
    label = Label(
        comparison_id=comparison.id,
        annotator=who,
        choice="first",
        shown="forward",
        seconds=0.0,
        note=comment,
    )
    labels.add_label(db, label)
    return label


def compare(db: Database, exchange_ids: Sequence[str]) -> None:
    """Make comparisons, to be labelled, of those of these exchanges that were made side by side."""
    made = [
        Compared(comparison, "traffic")
        for some in chunks(exchange_ids)
        for first, second in exchanges.beside_each_other(db, some)
        if (comparison := _compared(first, second)) is not None
    ]
    judgements.add_comparisons(db, made)


def _compared(first: Exchange, second: Exchange) -> Comparison | None:
    """Two answers to one chat, if it is plain text and all texts were kept."""
    turns = json.loads(first.request or "{}").get("messages", [])
    plain = all(
        set(one) == {"role", "content"} and isinstance(one["content"], str) for one in turns
    )
    if not turns or not plain or first.answer is None or second.answer is None:
        return None
    try:
        conversation = tuple(Message(**one) for one in turns)
    except ValidationError:  # a role of the API's own
        return None
    return Comparison(conversation=conversation, first=first.answer, second=second.answer)
