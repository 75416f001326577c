"""Judges held against people: what a verdict counts as, and which verdicts are whole."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlite_utils import Database

from judges.judge import comparing
from judges.labels import Choice
from judges.records import ORDERS, Order, Reading
from pipelines import labelling, ranking
from pipelines.agreement import with_people
from pipelines.store import judgements
from pipelines.store.connection import connect, transaction
from pipelines.store.judgements import Compared, JudgementRow
from tests.judged import PRINCIPLE, comparison, reading

PAIR = comparison("short", "a longer one")
JUDGE = comparing("some-model")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = connect(tmp_path / "store.db")
    yield db
    db.close()


def told(db: Database, choice: Choice, **orders: Reading) -> None:
    """Store what a judge read in each order, and what a person said."""
    with transaction(db):
        judgements.add_judge(db, JUDGE, "{}")
        judgements.add_principles(db, [PRINCIPLE])
        judgements.add_comparisons(db, [Compared(PAIR, "round")])
        names = (PAIR.id, PRINCIPLE.text_id, JUDGE.id)
        known: dict[str, Order] = dict(zip(ORDERS, ORDERS, strict=True))
        rows = [JudgementRow(name, *names, known[name], one, None) for name, one in orders.items()]
        judgements.add_judgements(db, rows)
    labelling.record(db, PAIR, "ann", PRINCIPLE, choice, 1.0)


def test_a_verdict_of_one_order_alone_is_none(db: Database) -> None:
    told(db, "first", forward=reading(0.9))
    assert with_people(db) == []
    told(db, "first", backward=reading(0.1))
    (row,) = with_people(db)
    assert row.all.share[:2] == (1, 1)


def test_what_could_not_be_read_agrees_with_nobody(db: Database) -> None:
    told(db, "tie", forward=Reading(state="refused"), backward=reading(0.1))
    (row,) = with_people(db)
    assert row.all.share[:2] == (0, 1)
    assert row.decided is None


def test_a_flip_agrees_with_who_sees_no_difference(db: Database) -> None:
    told(db, "tie", forward=reading(0.9), backward=reading(0.9))
    (row,) = with_people(db)
    assert row.all.share[:2] == (1, 1)


def test_people_are_heard_whichever_answer_was_stored_as_the_first(db: Database) -> None:
    told(db, "first")
    labelling.record(db, PAIR, "ann", None, "first", 1.0)
    turned, other = PAIR.swap(), comparison("another", "pair")
    found = labelling.human_verdicts_either_way(db, [turned, other])
    assert {name: (one.state, one.p) for name, one in found.items()} == {turned.id: ("loss", 0.0)}
    assert labelling.human_verdicts_either_way(db, [PAIR])[PAIR.id].state == "win"
    assert labelling.human_verdicts_either_way(db, [turned], PRINCIPLE)[turned.id].state == "loss"


def test_nobody_ranks_more_answers_than_can_be_held_against_each_other(db: Database) -> None:
    texts = [f"answer {number}" for number in range(9)]
    pairs = [comparison(one, other) for one in texts for other in texts if one < other]
    with transaction(db):
        judgements.add_comparisons(db, [Compared(one, "round") for one in pairs])
    found = ranking.next_to_rank(db, "ann", None, "round")
    assert found is not None
    assert len(found.answers) == 6
    assert len(found.compared) == 15
    ranking.record_ranking(db, found, "ann", None, [[one] for one in found.answers], 60.0)
    # The others come in a later one.
    later = ranking.next_to_rank(db, "ann", None, "round")
    assert later is not None
    assert set(later.answers) - set(found.answers)
