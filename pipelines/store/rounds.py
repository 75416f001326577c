"""Rounds and their stages: what is being done, and what is done."""

import json
from typing import Any, Literal, NamedTuple

from sqlite_utils import Database

from pipelines.store.connection import now

RoundState = Literal["running", "done", "stopped", "failed", "interrupted"]


def open_round(db: Database, round_id: str, name: str, number: int, recipe: str) -> None:
    """Start a round, or take it up again."""
    db.execute(
        "insert into rounds (id, name, number, recipe, state, started_at)"
        " values (?, ?, ?, ?, 'running', ?)"
        " on conflict (id) do update set state = 'running', note = null",
        (round_id, name, number, recipe, now()),
    )


def close_round(db: Database, round_id: str, state: RoundState, note: str = "") -> None:
    """Say how a round ended."""
    db.execute(
        "update rounds set state = ?, ended_at = ?, note = ? where id = ?",
        (state, now(), note, round_id),
    )


def begin_stage(db: Database, round_id: str, name: str) -> None:
    """Mark a stage as running."""
    db.execute(
        "insert into stages (round_id, name, state, started_at) values (?, ?, 'running', ?)"
        " on conflict do nothing",
        (round_id, name, now()),
    )


def finish_stage(db: Database, round_id: str, name: str, report: dict[str, Any]) -> None:
    """Mark a stage as done; its report is what later stages and the user read."""
    db.execute(
        "update stages set state = 'done', ended_at = ?, report = ?"
        " where round_id = ? and name = ?",
        (now(), json.dumps(report), round_id, name),
    )


def report_of(db: Database, round_id: str, name: str) -> dict[str, Any] | None:
    """A finished stage's report, or None if the stage is not done."""
    row = db.execute(
        "select report from stages where round_id = ? and name = ? and state = 'done'",
        (round_id, name),
    ).fetchone()
    return None if row is None else dict(json.loads(row[0]))


def appraisal_of(db: Database, checkpoint_id: str) -> dict[str, Any] | None:
    """What the newest appraisal of a reward model reported, or None if there was none."""
    row = db.execute(
        "select report from stages where name = 'appraise' and state = 'done'"
        " and json_extract(report, '$.checkpoint') = ? order by ended_at desc limit 1",
        (checkpoint_id,),
    ).fetchone()
    return None if row is None else dict(json.loads(row[0]))


class Judged(NamedTuple):
    """A round in which a judge has compared answers."""

    recipe: str
    """As JSON."""
    constitution_id: str


def last_judged(db: Database) -> Judged | None:
    """The round whose comparisons were judged last."""
    row = db.execute(
        "select recipe, json_extract(report, '$.constitution') from stages"
        " join rounds on rounds.id = round_id"
        " where stages.name = 'compare' and json_extract(report, '$.judge') is not null"
        " order by stages.ended_at desc limit 1"
    ).fetchone()
    return Judged(*row) if row else None
