"""What people said of comparisons, and what is worth asking them next."""

from collections.abc import Iterable, Iterator, Sequence

from sqlite_utils import Database

from judges.labels import Choice, Label, Labelled
from pipelines.store.calls import chunks, marks
from pipelines.store.connection import now
from pipelines.store.judgements import COMPARED, Compared, Origin, as_compared

# For callers that have not moved on yet.
from pipelines.store.judgements import grades as grades
from pipelines.store.judgements import principle_text as principle_text
from pipelines.store.judgements import verdicts as verdicts
from teachers.records import content_id

# Orders for a judge are not to be labelled, nor two answers that are the same.
_FIT = "not injected and first != second"

# Of one origin, not labelled by :annotator. An overall label is one without a principle.
_UNLABELLED = f"""
    from comparisons where source = :origin and {_FIT} and id not in (
        select comparison_id from labels
        where annotator = :annotator and principle_id is :principle_id)"""

# How sure the least sure comparing judge is, from 0 to 0.5: 0 where its two orders disagree.
_SURE = """
    select min(sure) from (
        select case when (min(p) > 0.5) != (max(p) > 0.5) then 0.0 else abs(avg(p) - 0.5) end
            as sure
        from (
            select judge_id, principle_id,
                case "order" when 'forward' then value else 1.0 - value end as p
            from judgements where comparison_id = comparisons.id and state = 'read'
                and coalesce(principle_id = :principle_id, true))
        group by judge_id, principle_id)"""

_LABELS = """
    select count(*) from labels where comparison_id = comparisons.id
        and principle_id is :principle_id and choice != 'skip'"""


def add_label(db: Database, label: Label) -> None:
    """Store a label; a later one of the same person takes the place of an earlier one."""
    db.execute(
        "insert or replace into labels values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (label.id, label.comparison_id, label.annotator, label.principle_id, label.choice)
        + (label.shown, label.seconds, label.note, label.ranking_id, now()),
    )


def labelled_samples(db: Database, origin: Origin) -> set[frozenset[str]]:
    """The pairs of samples that somebody has labelled as a whole."""
    rows = db.execute(
        "select distinct first_sample, second_sample from comparisons"
        " join labels on comparison_id = comparisons.id"
        " where source = ? and principle_id is null and choice != 'skip'"
        " and first_sample is not null and second_sample is not null",
        (origin,),
    )
    return {frozenset(both) for both in rows}


def digest(db: Database, origin: Origin) -> str:
    """One name for all that people have said of comparisons of an origin; empty if nothing."""
    rows = db.execute(
        "select labels.id, choice from labels join comparisons on comparisons.id = comparison_id"
        " where source = ? order by 1",
        (origin,),
    ).fetchall()
    return content_id("labels", rows) if rows else ""


def unlabelled(
    db: Database, annotator: str, principle_id: str | None, origin: Origin
) -> Iterator[Compared]:
    """What somebody has not labelled yet, the most useful first.

    Those that fewest have labelled, then those that AI judges are least sure of, then by id.
    """
    rows = db.execute(
        f"select {COMPARED} {_UNLABELLED} order by ({_LABELS}), coalesce(({_SURE}), 1.0), id",
        {"annotator": annotator, "principle_id": principle_id, "origin": origin},
    )
    return (one for one in map(as_compared, rows) if not one.comparison.identical)


def count_unlabelled(db: Database, annotator: str, principle_id: str | None, origin: Origin) -> int:
    """How many comparisons somebody has not labelled yet."""
    row = db.execute(
        f"select count(*) {_UNLABELLED}",
        {"annotator": annotator, "principle_id": principle_id, "origin": origin},
    ).fetchone()
    return int(row[0])


def fit(db: Database, comparison_id: str) -> Compared | None:
    """A stored comparison that people may label; None if it is none, or not there."""
    row = db.execute(
        f"select {COMPARED} from comparisons where id = ? and {_FIT}", (comparison_id,)
    ).fetchone()
    found = as_compared(row) if row else None
    return None if found is None or found.comparison.identical else found


def compared(db: Database, comparison_ids: Iterable[str]) -> dict[str, Compared]:
    """Stored comparisons by their ids."""
    found = {}
    for some in chunks(list(comparison_ids)):
        rows = db.execute(f"select {COMPARED} from comparisons where id in ({marks(some)})", some)
        found.update({one.comparison.id: one for one in map(as_compared, rows)})
    return found


def labelled(db: Database) -> list[Labelled]:
    """Every label with the lengths of the answers, oldest first."""
    rows = db.execute(
        "select comparison_id, annotator, principle_id, choice, shown, seconds, note, ranking_id,"
        " length(first), length(second) from labels join comparisons"
        " on comparisons.id = comparison_id order by labels.created_at, labels.id"
    )
    names = list(Label.model_fields)
    return [
        Labelled(Label(**dict(zip(names, row[:-2], strict=True))), row[-2], row[-1]) for row in rows
    ]


def asked(db: Database) -> dict[str | None, list[str]]:
    """The labelled comparisons by what people were asked: a principle's text, or None."""
    found: dict[str | None, list[str]] = {}
    for principle_id, comparison_id in db.execute(
        "select distinct principle_id, comparison_id from labels order by 1, 2"
    ):
        found.setdefault(principle_id, []).append(comparison_id)
    return found


def choices(
    db: Database, comparison_ids: Sequence[str], principle_id: str | None
) -> dict[str, list[Choice]]:
    """What everybody chose, by comparison."""
    found: dict[str, list[Choice]] = {}
    for some in chunks(comparison_ids):
        for comparison_id, choice in db.execute(
            "select comparison_id, choice from labels where principle_id is ?"
            f" and comparison_id in ({marks(some)})",
            (principle_id, *some),
        ):
            found.setdefault(comparison_id, []).append(choice)
    return found
