"""Runs as people see them: what is asked of them, how far they are, and why one stands still."""

import json
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from sqlite_utils import Database

from pipelines.home import Home
from pipelines.loop import Limits, Request
from pipelines.recipe import Recipe
from pipelines.recipe_file import load
from pipelines.store import runs
from pipelines.store.connection import connect, now, transaction
from pipelines.store.runs import Run
from service.recipes import refuse_hopeless
from service.tables import table
from teachers.errors import ConfigError

SAID = 100
"""Characters of a note in the list; `--json` has all of it."""


def enqueue(
    home: Home,
    recipes: Sequence[Path],
    limits: Limits,
    priority: int,
    schedule: str | None = None,
) -> Request:
    """Put a run into the queue; the same recipes go on with the run that they have.

    Raises:
        ConfigError: a recipe or the schedule is wrong, or two recipes have one name.
    """
    request = requested(home, [load(path) for path in recipes], limits, schedule)
    with closing(connect(home.store)) as db, transaction(db):
        add(db, request, priority)
    return request


def requested(
    home: Home, recipes: Sequence[Recipe], limits: Limits, schedule: str | None = None
) -> Request:
    """What a run is to do.

    Args:
        home: where it is to run.

    Raises:
        ConfigError: a recipe could only stop half-way, two of them have one name, or the schedule
            is none.
    """
    for recipe in recipes:
        refuse_hopeless(recipe, home)
    try:
        request = Request(recipes=tuple(recipes), limits=limits, schedule=schedule)
    except ValidationError as wrong:
        raise ConfigError(wrong.errors()[0]["msg"].removeprefix("Value error, ")) from wrong
    request.due_after(now())
    return request


def add(db: Database, request: Request, priority: int) -> None:
    """Put a run into the queue."""
    due_at = request.due_after(now())
    runs.add(db, request.id, request.name, request.model_dump_json(), priority, due_at)


def read(db: Database) -> list[dict[str, Any]]:
    """All runs, with their rounds counted."""
    return [described(db, one) for one in runs.listed(db)]


def described(db: Database, one: Run) -> dict[str, Any]:
    """One of them."""
    # Not as a `Request`: what an earlier release has taken, this one need not take any more.
    asked = json.loads(one.request)
    turns = runs.turns(db, one.id)
    done = [turn for turn in turns if turn.promoted is not None]
    return {
        "id": one.id,
        "recipes": [recipe["name"] for recipe in asked["recipes"]],
        "state": one.state,
        "wish": one.wish,
        "priority": one.priority,
        "rounds": len(done),
        "promoted": sum(bool(turn.promoted) for turn in done),
        "tokens": runs.tokens(db, one.id),
        "limits": {name: most for name, most in asked["limits"].items() if most is not None},
        "schedule": asked.get("schedule"),
        "due_at": one.due_at if one.state == "queued" and one.due_at > now() else None,
        "stage": runs.stage_of(db, one.id) if len(turns) > len(done) else None,
        "note": one.note,
    }


def _waits(one: dict[str, Any]) -> str:
    """For what time, if it does."""
    return f"its next round begins at {local(one['due_at'])}" if one["due_at"] else ""


def local(at: float) -> str:
    """A time as people here read it."""
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M")


_WISHED = {"pause": "being paused", "cancel": "being cancelled"}


def show(console: Console, found: list[dict[str, Any]]) -> None:
    """A line each."""
    rows = []
    for one in found:
        most = one["limits"].get("rounds")
        note = (_waits(one) or one["note"] or "").splitlines()
        rows.append(
            (
                one["id"][:12],
                ", ".join(one["recipes"]),
                _WISHED.get(one["wish"], one["state"]),
                f"{one['rounds']} of {most}" if most else str(one["rounds"]),
                str(one["promoted"]),
                one["stage"] or "",
                f"{one['tokens']:,}",
                note[0][:SAID] if note else "",
            )
        )
    heads = ["run", "recipes", "state", "rounds", "promoted", "stage", "tokens", "note"]
    console.print(table(heads, rows))
