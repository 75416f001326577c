"""People as judges: what to ask whom next, and what they said. For a terminal and a web page."""

from collections.abc import Sequence
from itertools import islice

from sqlite_utils import Database

from judges.constitution import Principle
from judges.labels import Annotator, Choice, Label, peoples_word
from judges.labels import annotators as figures
from judges.records import ORDERS, Comparison, Judgement, Order
from pipelines.store import judgements, labels
from pipelines.store.connection import transaction
from pipelines.store.judgements import Compared, Origin
from teachers.records import content_id


def text_id(principle: Principle | None) -> str | None:
    """What people are asked by: a principle's text, or None for everything considered."""
    return principle.text_id if principle else None


def next_to_label(
    db: Database, annotator: str, principle: Principle | None, origin: Origin
) -> Compared | None:
    """The comparison whose label by this person is worth most; None if all are labelled."""
    return next(iter(some_to_label(db, annotator, principle, origin, 1)), None)


def some_to_label(
    db: Database, annotator: str, principle: Principle | None, origin: Origin, most: int
) -> list[Compared]:
    """The comparisons whose labels by this person are worth most, in that order."""
    return list(islice(labels.unlabelled(db, annotator, text_id(principle), origin), most))


def left_to_label(db: Database, annotator: str, principle: Principle | None, origin: Origin) -> int:
    """How many comparisons this person has not labelled yet."""
    return labels.count_unlabelled(db, annotator, text_id(principle), origin)


def shown(annotator: str, comparison: Comparison) -> Order:
    """Which answer this person sees as A: by a hash, so it is the same one whenever they look."""
    return ORDERS[int(content_id("shown", [annotator, comparison.id])[0], 16) % 2]


def record(
    db: Database,
    comparison: Comparison,
    annotator: str,
    principle: Principle | None,
    choice: Choice,
    seconds: float,
    note: str = "",
) -> Label:
    """Store what somebody said of a stored comparison; it is safe once this returns."""
    label = Label(
        comparison_id=comparison.id,
        annotator=annotator,
        principle_id=text_id(principle),
        choice=choice,
        shown=shown(annotator, comparison),
        seconds=seconds,
        note=note,
    )
    with transaction(db):
        judgements.add_principles(db, [principle] if principle else [])
        labels.add_label(db, label)
    return label


def annotators(db: Database) -> list[Annotator]:
    """Everybody who has labelled, in figures."""
    return figures(labels.labelled(db))


def human_verdicts(
    db: Database, comparison_ids: Sequence[str], principle: Principle | None = None
) -> dict[str, Judgement]:
    """What most people say, by comparison; those that nobody labelled are not there."""
    return peoples_words(db, comparison_ids, text_id(principle))


def human_verdicts_either_way(
    db: Database, compared: Sequence[Comparison], principle: Principle | None = None
) -> dict[str, Judgement]:
    """`human_verdicts`, those of comparisons that are stored with the answers swapped included."""
    words = human_verdicts(db, [one.id for one in compared], principle)
    swapped = {one.swap().id: one.id for one in compared if one.id not in words}
    for name, word in human_verdicts(db, list(swapped), principle).items():
        words[swapped[name]] = word.turned
    return words


def peoples_words(
    db: Database, comparison_ids: Sequence[str], principle_id: str | None
) -> dict[str, Judgement]:
    """`human_verdicts`, where only the id of the principle's text is at hand."""
    chosen = labels.choices(db, comparison_ids, principle_id)
    words = {comparison_id: peoples_word(said) for comparison_id, said in chosen.items()}
    return {comparison_id: word for comparison_id, word in words.items() if word}
