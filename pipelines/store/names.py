"""What a student may be called in a request: an alias, a round, an id."""

import re
from typing import NamedTuple

from sqlite_utils import Database

from pipelines.store import checkpoints
from pipelines.store.checkpoints import CHAMPION
from teachers.errors import ConfigError

BASE = "base"
CANDIDATE = "candidate"
_ROUND = re.compile(r"round-(\d{1,9})")
# A reward model answers nobody: its merged copy is its adapter.
_ANSWER = "adapter_path <> merged_path"
_BY_ROUND = f"""
    select number, checkpoints.id, checkpoints.created_at from checkpoints
    join training_runs on training_runs.id = training_run_id
    join rounds on rounds.id = round_id
    where {_ANSWER} and coalesce(json_extract(job, '$.objective'), 'sft') <> 'judge'"""


class Name(NamedTuple):
    """A name, and what it stands for."""

    name: str
    checkpoint_id: str | None
    """None: the base."""
    since: float


def named(db: Database, name: str) -> str | None:
    """The checkpoint that a name stands for; None for the base.

    Raises:
        ConfigError: nothing is called that, or more than one is, or it is no model that answers.
    """
    known = next((one for one in names(db) if one.name == name), None)
    if known is not None:
        return known.checkpoint_id
    if (asked := _ROUND.fullmatch(name)) is not None:
        raise ConfigError(
            f"No round {asked[1]} has trained a student.",
            hint="preceptor query 'select number, name, state from rounds' lists the rounds.",
        )
    found = checkpoints.checkpoint(db, name)
    if not found.answers:
        raise ConfigError(f"{found.id[:16]} is a reward model: it answers nobody.")
    return found.id


def names(db: Database) -> list[Name]:
    """The aliases that were set, the newest student, the base, and each round's student; the
    champion first."""
    set_ = [
        Name(one["name"], one["checkpoint_id"], one["moved_at"]) for one in checkpoints.aliases(db)
    ]
    found = {one.name: one for one in sorted(set_, key=lambda one: one.name != CHAMPION)}
    rows = db.execute(f"{_BY_ROUND} order by checkpoints.created_at desc, step desc").fetchall()
    for number, checkpoint_id, at in rows:
        found.setdefault(CANDIDATE, Name(CANDIDATE, checkpoint_id, at))
        found.setdefault(f"round-{number}", Name(f"round-{number}", checkpoint_id, at))
    if checkpoints.last_base(db) is not None:
        found.setdefault(BASE, Name(BASE, None, 0.0))
    return list(found.values())
