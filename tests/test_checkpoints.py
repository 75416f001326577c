"""Checkpoints, metrics, evals and the aliases that say which one is served."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlite_utils import Database

from pipelines.store.checkpoints import (
    CHAMPION,
    Checkpoint,
    add_checkpoint,
    add_metrics,
    add_promotion,
    champion_id,
    checkpoint,
    close_training,
    last_base,
    metrics_of,
    move_alias,
    open_training,
    roll_back,
)
from pipelines.store.connection import connect
from pipelines.store.datasets import StoredDataset, add_dataset, dataset
from pipelines.store.rounds import open_round
from pipelines.training.journal import Metric
from teachers.errors import ConfigError


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    """A store with a training run and the checkpoints `a1`, `a2` and `b1`."""
    db = connect(tmp_path / "store.db")
    open_round(db, "r", "demo", 1, "{}")
    add_dataset(db, "r", StoredDataset("d", 0, tmp_path / "d.jsonl", "0" * 64), [])
    open_training(db, "t", "r", "d", "{}", tmp_path)
    for name in ("a1", "a2", "b1"):
        add_checkpoint(db, make_checkpoint(name))
    yield db
    db.close()


def make_checkpoint(name: str) -> Checkpoint:
    return Checkpoint(name, "t", 10, Path("adapter"), "1" * 64, Path("merged"), f"weights {name}")


def promote(db: Database, *names: str) -> None:
    for name in names:
        move_alias(db, CHAMPION, name, "promoted")


def test_a_checkpoint_is_found_by_id_beginning_or_alias(db: Database) -> None:
    promote(db, "a2")
    assert checkpoint(db, "a1") == make_checkpoint("a1")
    assert checkpoint(db, "b") == make_checkpoint("b1")
    assert checkpoint(db, CHAMPION) == make_checkpoint("a2")


@pytest.mark.parametrize(
    ("name", "words"), [("a", "More than one"), ("x", "No checkpoint"), ("%", "No"), ("", "More")]
)
def test_a_name_that_does_not_say_which_is_refused(db: Database, name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        checkpoint(db, name)


def test_the_base_is_served_until_something_is_promoted(db: Database) -> None:
    assert champion_id(db) is None
    promote(db, "a1")
    assert champion_id(db) == "a1"


def test_a_judge_is_never_what_is_served(db: Database, tmp_path: Path) -> None:
    for run, objective in (("s", "dpo"), ("j", "judge")):
        job = json.dumps({"base": f"base of {run}", "objective": objective})
        open_training(db, run, "r", "d", job, tmp_path / run)
        close_training(db, run, "done")
    move_alias(db, "own-judge", "a1", "certified")
    assert last_base(db) is None
    promote(db, "a2")
    assert last_base(db) == (Path("base of s"), tmp_path / "s")
    # A round that went on from a student has that as its base, and it is no base to go back to.
    open_training(db, "later", "r", "d", json.dumps({"base": "merged"}), tmp_path / "later")
    close_training(db, "later", "done")
    assert last_base(db) == (Path("base of s"), tmp_path / "s")


def test_a_rollback_goes_to_what_was_served_before(db: Database) -> None:
    promote(db, "a1", "a2")
    assert roll_back(db) == ("a2", "a1")
    assert champion_id(db) == "a1"


def test_rolling_back_twice_goes_back_two_promotions(db: Database) -> None:
    promote(db, "a1", "a2", "b1")
    assert [roll_back(db), roll_back(db), roll_back(db)] == [
        ("b1", "a2"),
        ("a2", "a1"),
        ("a1", None),
    ]
    with pytest.raises(ConfigError, match="nothing to go back to"):
        roll_back(db)
    assert champion_id(db) is None


def test_a_promotion_after_a_rollback_goes_back_to_where_it_started(db: Database) -> None:
    promote(db, "a1", "a2")
    roll_back(db)
    promote(db, "b1")
    assert roll_back(db) == ("b1", "a1")


def test_promoting_what_is_served_already_is_no_step(db: Database) -> None:
    promote(db, "a1", "a1")
    assert roll_back(db) == ("a1", None)


def test_nothing_to_roll_back_moves_nothing(db: Database) -> None:
    with pytest.raises(ConfigError):
        roll_back(db)
    assert db.execute("select count(*) from alias_moves").fetchone() == (0,)


def test_aliases_do_not_mix(db: Database) -> None:
    promote(db, "a1")
    move_alias(db, "candidate", "b1", "trained")
    assert champion_id(db) == "a1"
    assert roll_back(db, "candidate") == ("b1", None)
    assert champion_id(db) == "a1"


def test_a_promotion_is_decided_once_and_knows_the_incumbent(db: Database) -> None:
    promote(db, "a1")
    assert add_promotion(db, "p", "r", "a2", "promoted", "better", {"p": 0.01})
    assert not add_promotion(db, "p", "r", "a2", "kept", "worse", {})
    rows = db.execute("select incumbent, decision, report from promotions").fetchall()
    assert rows == [("a1", "promoted", '{"p": 0.01}')]


def test_metrics_of_a_step_trained_again_replace_the_first(db: Database) -> None:
    add_metrics(db, "t", [Metric(1, "loss", 3.0), Metric(2, "loss", 2.0), Metric(2, "lr", 0.1)])
    add_metrics(db, "t", [Metric(2, "loss", 1.5), Metric(3, "loss", 1.0)])
    assert metrics_of(db, "t", "loss") == [(1, 3.0), (2, 1.5), (3, 1.0)]


def test_a_training_run_taken_up_again_forgets_its_error(db: Database, tmp_path: Path) -> None:
    close_training(db, "t", "failed", error="out of memory")
    open_training(db, "t", "r", "d", "{}", tmp_path)
    close_training(db, "t", "done", peak_bytes=5)
    rows = db.execute("select state, error, peak_bytes from training_runs").fetchall()
    assert rows == [("done", None, 5)]


def test_a_dataset_comes_back_as_it_was(db: Database, tmp_path: Path) -> None:
    assert dataset(db, "d") == StoredDataset("d", 0, tmp_path / "d.jsonl", "0" * 64)
