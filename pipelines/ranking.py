"""More than two answers to one request, put in order at once: every pair becomes a label."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlite_utils import Database

from judges.constitution import Principle
from judges.labels import Choice, Label, Ranked, pairs_of_ranking
from judges.records import Comparison
from pipelines.labelling import text_id
from pipelines.store import judgements, labels
from pipelines.store.connection import transaction
from pipelines.store.judgements import Compared, Origin
from teachers.records import Message, content_id

# More than these, nobody can hold against each other; the others come in a later ranking.
MOST_ANSWERS = 6

_TURNED: dict[Choice, Choice] = {"first": "second", "second": "first"}


class Ranking(NamedTuple):
    """Answers to one request, in the order in which one person sees them."""

    conversation: tuple[Message, ...]
    answers: tuple[str, ...]
    compared: tuple[Compared, ...]
    """The stored comparisons between them that this person has not labelled."""


def next_to_rank(
    db: Database, annotator: str, principle: Principle | None, origin: Origin
) -> Ranking | None:
    """The request with more than two answers that this person should rank next, if any."""
    requests: dict[tuple[Message, ...], list[Compared]] = {}
    for one in labels.unlabelled(db, annotator, text_id(principle), origin):
        requests.setdefault(one.comparison.conversation, []).append(one)
    rankings = (_ranking(annotator, compared) for compared in requests.values())
    return next((one for one in rankings if len(one.answers) > 2), None)


def record_ranking(
    db: Database,
    ranking: Ranking,
    annotator: str,
    principle: Principle | None,
    groups: Sequence[Sequence[str]],
    seconds: float,
    note: str = "",
) -> list[Label]:
    """Store a ranking as a label for each pair, with its share of the time.

    Args:
        groups: the answers, the best first; those of one group are tied. Empty: a skip.

    Raises:
        ValueError: an answer stands there twice.
    """
    pairs = [_placed(ranking, one) for one in pairs_of_ranking(groups)]
    if not groups:
        pairs = [(one, "skip") for one in ranking.compared]
    words = sorted(ranking.answers)
    turns = [turn.model_dump() for turn in ranking.conversation]
    ranking_id = content_id("ranking", [annotator, text_id(principle), turns, words])
    made = [
        Label(
            comparison_id=compared.comparison.id,
            annotator=annotator,
            principle_id=text_id(principle),
            choice=choice,
            shown="forward" if _in_order(ranking, compared.comparison) else "backward",
            seconds=seconds / len(pairs),
            note=note,
            ranking_id=ranking_id,
        )
        for compared, choice in pairs
    ]
    with transaction(db):
        judgements.add_principles(db, [principle] if principle else [])
        judgements.add_comparisons(db, (compared for compared, _ in pairs))
        for label in made:
            labels.add_label(db, label)
    return made


def _ranking(annotator: str, compared: Sequence[Compared]) -> Ranking:
    conversation = compared[0].comparison.conversation
    texts = {
        text: None for one in compared for text in (one.comparison.first, one.comparison.second)
    }
    some = list(texts)[:MOST_ANSWERS]
    between = [
        one for one in compared if one.comparison.first in some and one.comparison.second in some
    ]
    shuffled = sorted(some, key=lambda text: content_id("shown", [annotator, text]))
    return Ranking(conversation, tuple(shuffled), tuple(between))


def _placed(ranking: Ranking, ranked: Ranked) -> tuple[Compared, Choice]:
    """A ranked pair as a comparison: the stored one, or a new one in the order shown."""
    wanted = Comparison(conversation=ranking.conversation, first=ranked.first, second=ranked.second)
    stored = {one.comparison.id: one for one in ranking.compared}
    if wanted.id in stored:
        return stored[wanted.id], ranked.choice
    turned = wanted.swap()
    if turned.id in stored or not _in_order(ranking, wanted):
        choice = _TURNED.get(ranked.choice, ranked.choice)
        return stored.get(turned.id) or _new(ranking, turned), choice
    return _new(ranking, wanted), ranked.choice


def _new(ranking: Ranking, comparison: Comparison) -> Compared:
    """A comparison between answers of a ranking that were never compared."""
    samples = {
        text: sample
        for one in ranking.compared
        for text, sample in zip(
            (one.comparison.first, one.comparison.second), one.samples, strict=True
        )
    }
    one = ranking.compared[0]
    both = samples.get(comparison.first), samples.get(comparison.second)
    return Compared(comparison, one.origin, one.prompt_id, both)


def _in_order(ranking: Ranking, comparison: Comparison) -> bool:
    return ranking.answers.index(comparison.first) < ranking.answers.index(comparison.second)
