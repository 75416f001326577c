"""How fast a judge answers: from its newest unbroken run of calls, and from nothing else."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from pipelines.store.calls import pace
from pipelines.store.connection import connect


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with closing(connect(tmp_path / "store.db")) as opened:
        yield opened


def called(
    db: Database,
    *times: tuple[float, float],
    purpose: str = "judge",
    state: str = "done",
    weights: str = "w",
) -> None:
    """Calls that were sent and had ended at these times."""
    (before,) = db.execute("select count(*) from calls").fetchone()
    db.conn.executemany(
        "insert into calls (id, attempt, round_id, prompt_id, purpose, weights, request, state,"
        " owner, sent_at, ended_at) values (?, 1, '', '', ?, ?, '', ?, '', ?, ?)",
        [(str(before + at), purpose, weights, state, *time) for at, time in enumerate(times)],
    )


def steady(began: float, count: int) -> Sequence[tuple[float, float]]:
    """Two calls a second, each of which takes half of one."""
    return [(began + at / 2, began + (at + 1) / 2) for at in range(count)]


def test_calls_in_flight_together_are_one_run(db: Database) -> None:
    called(db, (1000.0, 1100.0), (1001.0, 1002.0), (1099.0, 1104.0), (1100.0, 1104.0))
    assert pace(db, "w") == pytest.approx(4 / 104)


def test_a_pause_begins_another_run(db: Database) -> None:
    called(db, *steady(1000.0, 10), *steady(5000.0, 40))
    assert pace(db, "w") == pytest.approx(2.0)
    called(db, (5020.0 + 59.0, 5020.0 + 80.0))
    assert pace(db, "w") == pytest.approx(41 / 100)


def test_other_work_does_not_count(db: Database) -> None:
    called(db, *steady(1000.0, 20))
    called(db, (1010.0, 1500.0), purpose="teach")
    called(db, (1010.0, 1500.0), state="failed")
    called(db, (1010.0, 1500.0), weights="other")
    assert pace(db, "w") == pytest.approx(2.0)


def test_one_call_says_nothing(db: Database) -> None:
    assert pace(db, "w") is None
    called(db, *steady(1000.0, 5), (9000.0, 9001.0))
    assert pace(db, "w") is None
