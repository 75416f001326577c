"""A new champion that fails is rolled back; one that does not, stays."""

import time
from contextlib import closing
from pathlib import Path

import pytest

from pipelines.home import Home
from pipelines.store import checkpoints, exchanges
from pipelines.store.checkpoints import CHAMPION
from pipelines.store.connection import connect, transaction
from pipelines.store.exchanges import Exchange
from service.options import Options
from service.probation import LASTS_S, Probation
from teachers.progress import Silent
from tests.served import Gateway, made, make_home, serving_process, wait_for


class Told(Silent):
    """What was said about rollbacks."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


class Promoted:
    """A home whose champion was `one` and is `two`, since a while."""

    def __init__(self, root: Path, since_s: float = 60.0) -> None:
        self.home, self.told = make_home(root), Told()
        self.since = time.time() - since_s
        with closing(connect(self.home.store)) as opened, transaction(opened) as db:
            checkpoints.move_alias(db, CHAMPION, "two", "the gate")
            db.execute("update alias_moves set moved_at = ? where seq = 1", (self.since - 3600,))
            db.execute("update alias_moves set moved_at = ? where seq = 2", (self.since,))

    def answered(self, who: str, status: int, count: int) -> None:
        """Answers while it was the champion."""
        at = self.since + (1 if who == "two" else -60)
        store(
            self.home,
            [made(f"{who} {status} {n}", "direct", who, status, at) for n in range(count)],
        )

    def looked_at(self) -> str | None:
        """The champion after a look."""
        Probation(self.home, self.told).look()
        with closing(connect(self.home.store)) as db:
            return checkpoints.champion_id(db)


def store(home: Home, rows: list[Exchange]) -> None:
    with closing(connect(home.store)) as opened, transaction(opened) as db:
        exchanges.add(db, rows)


@pytest.fixture
def promoted(tmp_path: Path) -> Promoted:
    found = Promoted(tmp_path)
    found.answered("one", 200, 100)
    return found


def test_one_that_fails_more_than_the_one_before_is_rolled_back(promoted: Promoted) -> None:
    promoted.answered("two", 200, 15)
    promoted.answered("two", 502, 5)
    assert promoted.looked_at() == "one"
    [said] = promoted.told.said
    assert "two was rolled back: 5 of its 20 answers failed, and 0 of the champion's 100" in said
    with closing(connect(promoted.home.store)) as db:
        assert db.execute("select who, what from audit").fetchall() == [("probation", said)]
    assert promoted.looked_at() == "one", "a rollback is not rolled back"


@pytest.mark.parametrize(("status", "count"), [(200, 50), (502, 19), (429, 50), (499, 50)])
def test_one_that_does_not_fail_stays(promoted: Promoted, status: int, count: int) -> None:
    promoted.answered("two", status, count)
    assert promoted.looked_at() == "two"


def test_one_that_fails_as_the_one_before_did_stays(promoted: Promoted) -> None:
    promoted.answered("one", 502, 30)
    promoted.answered("two", 200, 15)
    promoted.answered("two", 502, 5)
    assert promoted.looked_at() == "two"


def test_what_the_one_before_failed_at_meanwhile_is_not_the_new_ones_fault(
    promoted: Promoted,
) -> None:
    late = [made(f"late {n}", "direct", "one", 502, promoted.since + 1) for n in range(30)]
    store(promoted.home, late)
    promoted.answered("two", 200, 30)
    assert promoted.looked_at() == "two"


def test_after_an_hour_it_is_past(tmp_path: Path) -> None:
    promoted = Promoted(tmp_path, LASTS_S + 60)
    promoted.answered("one", 200, 100)
    promoted.answered("two", 502, 30)
    assert promoted.looked_at() == "two"


def test_the_first_champion_has_nobody_to_go_back_to(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    store(home, [made(str(n), "direct", "one", 502) for n in range(30)])
    Probation(home, Told()).look()
    with closing(connect(home.store)) as db:
        assert checkpoints.champion_id(db) == "one"


def fail(gateway: Gateway) -> None:
    """Have the new champion's answers fail."""
    rows = [made(f"before {n}", "direct", "one", 200) for n in range(30)]
    gateway.point_at("two")
    wait_for(lambda: gateway.answers_from("two"))
    rows += [made(f"after {n}", "direct", "two", 502) for n in range(30)]
    store(gateway.home, rows)


def test_a_service_rolls_back_by_itself(tmp_path: Path) -> None:
    with serving_process(tmp_path) as gateway:
        fail(gateway)
        wait_for(lambda: gateway.answers_from("one"))
    assert "two was rolled back" in (tmp_path / "serve.log").read_text()


def test_a_service_that_was_told_not_to_does_not(tmp_path: Path) -> None:
    with serving_process(tmp_path, options=Options(rolls_back=False)) as gateway:
        fail(gateway)
        time.sleep(3)
        assert gateway.answers_from("two")
