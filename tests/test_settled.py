"""The view `settled_judgements` and the rule of the code say the same of any two verdicts."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from judges.compare import settle
from judges.judge import comparing
from judges.records import ORDERS, Judgement, Reading, ReadingState
from pipelines.store import judgements
from pipelines.store.connection import connect, transaction
from pipelines.store.judgements import Compared, JudgementRow
from pipelines.store.query import query
from tests.judged import PRINCIPLE, comparison

JUDGE = comparing("w")
STATES: tuple[ReadingState, ...] = ("read",) * 9 + ("unparsed", "refused", "error")
VALUES = (0.0, 0.1, 0.3, 0.5, 0.5 + 1e-12, 0.7, 0.95, 1.0)
OUTSIDE = (None, None, None, 0.0, 0.1, 0.2, 0.2 + 1e-12, 0.9)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with closing(connect(tmp_path / "store.db")) as opened:
        with transaction(opened):
            judgements.add_judge(opened, JUDGE, "{}")
            judgements.add_principles(opened, [PRINCIPLE])
        yield opened


def drawn(chance: random.Random) -> Reading:
    state = chance.choice(STATES)
    if state != "read":
        return Reading(state=state)
    value = chance.choice([chance.random(), chance.choice(VALUES)])
    return Reading(state=state, value=value, outside=chance.choice(OUTSIDE))


def stored(db: Database, name: str, *readings: Reading) -> str:
    """A comparison with its verdicts, forward first; returns its id."""
    compared = Compared(comparison(name), "round")
    id_ = compared.comparison.id
    rows = [
        JudgementRow(f"{name} {order}", id_, PRINCIPLE.text_id, JUDGE.id, order, reading, None)
        for order, reading in zip(ORDERS, readings, strict=False)
    ]
    with transaction(db):
        judgements.add_comparisons(db, [compared])
        judgements.add_judgements(db, rows)
    return id_


def viewed(db: Database) -> dict[str, Judgement]:
    rows = db.execute("select comparison_id, state, p from settled_judgements")
    return {id_: Judgement(state=state, p=p) for id_, state, p in rows}


def test_the_view_settles_as_the_code_does(db: Database) -> None:
    chance = random.Random(3)
    both = [(drawn(chance), drawn(chance)) for _ in range(400)]
    expected = {stored(db, str(n), *two): settle(*two) for n, two in enumerate(both)}
    assert viewed(db) == expected
    assert min(Counter(one.state for one in expected.values()).values()) > 3
    assert len({one.state for one in expected.values()}) == 8


def test_a_lost_order_is_an_error_as_in_the_code(db: Database) -> None:
    id_ = stored(db, "half", Reading(state="read", value=0.9))
    assert viewed(db) == {id_: Judgement(state="error")}


def test_the_flip_rate_is_a_plain_query(db: Database, tmp_path: Path) -> None:
    first, second = (Reading(state="read", value=value) for value in (0.9, 0.2))
    stored(db, "firm", first, second)
    stored(db, "always the first", first, first)
    found = query(
        tmp_path / "store.db",
        "select judge_id, text, avg(state = 'flip') as flips, count(*) as comparisons"
        " from settled_judgements join principles on principles.id = principle_id group by 1, 2",
    )
    assert found.rows == [(JUDGE.id, PRINCIPLE.text, 0.5, 2)]
