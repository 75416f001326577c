"""Training runs, the checkpoints they made, what evals say of them, and which one is served."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sqlite_utils import Database

from pipelines.store.connection import now
from pipelines.training.journal import Metric
from teachers.errors import ConfigError

CHAMPION = "champion"
ROLLBACK = "rollback"
"""Why an alias was moved, if it was moved back."""


class Checkpoint(NamedTuple):
    """A trained student on disk."""

    id: str
    training_run_id: str
    step: int
    adapter: Path
    adapter_sha256: str
    merged: Path
    weights: str
    """Fingerprint of the merged copy; a reward model has none, and both are its adapter's."""

    @property
    def answers(self) -> bool:
        """Whether it is a model that answers, not a reward model."""
        return self.merged != self.adapter


def open_training(
    db: Database, run_id: str, round_id: str, dataset_id: str, job: str, folder: Path
) -> None:
    """Record a training run that starts or is taken up again."""
    db.execute(
        "insert into training_runs (id, round_id, dataset_id, job, folder, state, started_at)"
        " values (?, ?, ?, ?, ?, 'running', ?)"
        " on conflict (id) do update set state = 'running', error = null",
        (run_id, round_id, dataset_id, job, str(folder), now()),
    )


def close_training(
    db: Database,
    run_id: str,
    state: Literal["done", "failed"],
    *,
    peak_bytes: int | None = None,
    error: str | None = None,
) -> None:
    """Say how a training run ended, and the most memory it held."""
    db.execute(
        "update training_runs set state = ?, ended_at = ?, peak_bytes = ?, error = ? where id = ?",
        (state, now(), peak_bytes, error, run_id),
    )


def add_metrics(db: Database, run_id: str, metrics: Iterable[Metric]) -> None:
    """Store metrics; a step that was trained again after a kill replaces its first values."""
    db.conn.executemany(
        "insert or replace into metrics values (?, ?, ?, ?)",
        [(run_id, *metric) for metric in metrics],
    )


def metrics_of(db: Database, run_id: str, name: str) -> list[tuple[int, float]]:
    """(step, value) of one metric, in order."""
    return [
        (int(step), float(value))
        for step, value in db.execute(
            "select step, value from metrics where training_run_id = ? and name = ? order by step",
            (run_id, name),
        )
    ]


def add_checkpoint(db: Database, checkpoint: Checkpoint) -> None:
    db.execute(
        "insert or ignore into checkpoints values (?, ?, ?, ?, ?, ?, ?, ?)",
        (checkpoint.id, checkpoint.training_run_id, checkpoint.step, str(checkpoint.adapter))
        + (checkpoint.adapter_sha256, str(checkpoint.merged), checkpoint.weights, now()),
    )


def checkpoint(db: Database, name: str) -> Checkpoint:
    """A checkpoint by its id, an unambiguous beginning of it, or an alias.

    Raises:
        ConfigError: there is none, or more than one.
    """
    alias = db.execute("select checkpoint_id from aliases where name = ?", (name,)).fetchone()
    wanted = alias[0] if alias and alias[0] else name
    rows = db.execute(
        "select id, training_run_id, step, adapter_path, adapter_sha256, merged_path, weights"
        " from checkpoints where substr(id, 1, length(?)) = ? limit 2",
        (wanted, wanted),
    ).fetchall()
    if len(rows) != 1 or not name:
        raise ConfigError(
            f"{'More than one' if rows else 'No'} checkpoint is called {name!r}.",
            hint="preceptor query 'select id, created_at from checkpoints' lists them.",
        )
    found_id, run, step, adapter, sha256, merged, weights = rows[0]
    return Checkpoint(found_id, run, step, Path(adapter), sha256, Path(merged), weights)


def job_of(db: Database, checkpoint: Checkpoint) -> str:
    """What the training process was told that made it, as JSON."""
    sql = "select job from training_runs where id = ?"
    return str(db.execute(sql, (checkpoint.training_run_id,)).fetchone()[0])


def add_eval(
    db: Database,
    eval_id: str,
    round_id: str,
    weights: str,
    checkpoint_id: str | None,
    prompting: str,
    items: Sequence[tuple[str, str, str, str]],
) -> None:
    """Store an eval with its per-item results.

    Args:
        items: (prompt id, sample id, state by the strict parser, state by the lenient one).
    """
    db.execute(
        "insert or ignore into evals values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (eval_id, round_id, weights, checkpoint_id, prompting, len(items))
        + (_share(items, 2), _share(items, 3), now()),
    )
    db.conn.executemany(
        "insert or ignore into eval_items values (?, ?, ?, ?, ?)",
        [(eval_id, *item) for item in items],
    )


def _share(items: Sequence[tuple[str, str, str, str]], column: int) -> float | None:
    return sum(item[column] == "verified" for item in items) / len(items) if items else None


def add_promotion(
    db: Database,
    promotion_id: str,
    round_id: str,
    checkpoint_id: str,
    decision: Literal["promoted", "kept"],
    reason: str,
    report: Mapping[str, Any],
) -> bool:
    """Store a gate's decision; returns False if it was stored before."""
    incumbent = champion_id(db)
    stored = db.execute(
        "insert or ignore into promotions values (?, ?, ?, ?, ?, ?, ?, ?)",
        (promotion_id, round_id, checkpoint_id, incumbent, decision, reason)
        + (json.dumps(report), now()),
    )
    return stored.rowcount == 1


def champion_id(db: Database) -> str | None:
    """The checkpoint that is served, or None while that is the base."""
    row = db.execute("select checkpoint_id from aliases where name = ?", (CHAMPION,)).fetchone()
    return row[0] if row else None


class Base(NamedTuple):
    """A model that was trained on, and the run that measured it."""

    path: Path
    run_folder: Path


def last_base(db: Database) -> Base | None:
    """The base of a student's newest finished training run: what is served when all was rolled
    back.

    None as long as nothing was ever promoted.
    """
    row = db.execute(
        "select json_extract(job, '$.base'), folder from training_runs"
        " where state = 'done'"
        " and coalesce(json_extract(job, '$.objective'), 'sft') not in ('judge', 'reward')"
        # A later round's base may be a student before it.
        " and json_extract(job, '$.base') not in (select merged_path from checkpoints)"
        " and exists (select 1 from alias_moves where name = ?) order by started_at desc limit 1",
        (CHAMPION,),
    ).fetchone()
    return Base(Path(row[0]), Path(row[1])) if row else None


def move_alias(db: Database, name: str, checkpoint_id: str | None, why: str) -> None:
    """Point an alias at a checkpoint, or at the base (None). Every move is kept."""
    db.execute(
        "insert into alias_moves (name, checkpoint_id, why, moved_at) values (?, ?, ?, ?)",
        (name, checkpoint_id, why, now()),
    )


def promote(db: Database, checkpoint: Checkpoint, why: str) -> None:
    """Make a checkpoint the champion.

    Raises:
        ConfigError: it is no model that answers.
    """
    if not checkpoint.answers:
        raise ConfigError(f"{checkpoint.id[:16]} is a reward model: it answers nobody.")
    move_alias(db, CHAMPION, checkpoint.id, why)


class Move(NamedTuple):
    """An alias was pointed somewhere."""

    seq: int
    checkpoint_id: str | None
    """None: the base."""
    why: str
    at: float
    """Seconds since 1970."""


def last_move(db: Database, name: str, before: int | None = None) -> Move | None:
    """An alias' newest one; None if it was never set.

    Args:
        before: the number of a move that it has to be older than.
    """
    row = db.execute(
        "select seq, checkpoint_id, why, moved_at from alias_moves"
        " where name = ? and seq < coalesce(?, 1e18) order by seq desc limit 1",
        (name, before),
    ).fetchone()
    return Move(*row) if row else None


def aliases(db: Database) -> list[dict[str, Any]]:
    """Every alias: its name, the checkpoint's id or None, why and when it was moved there."""
    columns = ("name", "checkpoint_id", "why", "moved_at")
    rows = db.execute(f"select {', '.join(columns)} from aliases order by name")
    return [dict(zip(columns, row, strict=True)) for row in rows]


def roll_back(db: Database, name: str = CHAMPION) -> tuple[str | None, str | None]:
    """Point an alias back at what it pointed at before; returns (from, to), None being the base.

    Rolling back twice goes two promotions back: a rollback is not itself undone by a rollback.

    Raises:
        ConfigError: there is nothing before.
    """
    stack: list[str | None] = [None]
    for checkpoint_id, why in db.execute(
        "select checkpoint_id, why from alias_moves where name = ? order by seq", (name,)
    ):
        if why == ROLLBACK:
            stack.pop()
        elif checkpoint_id != stack[-1]:
            stack.append(checkpoint_id)
    if len(stack) < 2:
        raise ConfigError(f"The alias {name!r} has nothing to go back to.")
    current, previous = stack[-1], stack[-2]
    move_alias(db, name, previous, ROLLBACK)
    return current, previous
