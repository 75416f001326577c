"""Runs over HTTP: put into the queue, looked at, paused, resumed, cancelled."""

from typing import Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from sqlite_utils import Database

from pipelines.loop import Limits
from pipelines.recipe import Recipe
from pipelines.recipe_file import parsed
from pipelines.store import runs
from pipelines.store.connection import transaction
from pipelines.store.runs import Run
from service import runs as shown
from service.auth import needs
from service.problems import Conflict, NotFound
from service.routes.answer import Answer
from service.routes.store import InHome, Store
from teachers.errors import ConfigError

routes = APIRouter(prefix="/runs", tags=["runs"], route_class=Answer)
MAY_RUN = [Depends(needs("run"))]

EXAMPLE: Any = {
    "recipes": [
        {
            "name": "sums",
            "supply": {"generators": [{"generator": "chain_sum", "train": 300, "held_out": 300}]},
        }
    ],
    "limits": {"patience": 3},
    "schedule": "0 2 * * *",
}


class NewRun(BaseModel):
    """A run to be put into the queue: recipes as in their files, and when it has done enough."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    recipes: list[dict[str, Any]] = Field(min_length=1, max_length=100)
    """They take turns. Paths in them count from the service's folder, and are best absolute."""
    limits: Limits = Limits()
    schedule: str | None = Field(default=None, max_length=100)
    """When rounds may begin: a line of cron, in the service's own time."""
    priority: int = Field(default=0, ge=-1000, le=1000)
    """Runs with a higher one have their turns first."""


class RunState(BaseModel):
    """A run, and how far it is."""

    id: str
    recipes: list[str]
    state: str
    wish: str | None
    """What whoever works on it has been asked to do: `pause` or `cancel`."""
    priority: int
    rounds: int
    """That are done."""
    promoted: int
    tokens: int
    limits: dict[str, int]
    schedule: str | None
    due_at: float | None
    """When its next round may begin, if it waits for that; seconds since 1970."""
    stage: str | None
    """Of the round that it is at."""
    note: str | None
    """Why it stands still, or has ended."""


class Wish(BaseModel):
    """What is to become of a run."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"wish": "pause"}]})

    wish: Literal["pause", "resume", "cancel"]


@routes.get("", operation_id="list_runs")
def list_runs(db: Store) -> list[RunState]:
    """All runs: what runs or waits first, then what ended last."""
    return [RunState.model_validate(one) for one in shown.read(db)]


@routes.post("", status_code=201, operation_id="create_run", dependencies=MAY_RUN)
def create(asked: NewRun, db: Store, home: InHome) -> RunState:
    """Put a run into the queue; the same recipes go on with the run that they have."""
    recipes = [parsed(one, f"recipes[{place}]") for place, one in enumerate(asked.recipes)]
    for recipe in recipes:
        _refuse_reach(recipe)
    request = shown.requested(home, recipes, asked.limits, asked.schedule)
    with transaction(db):
        shown.add(db, request, asked.priority)
    return _state(db, request.id)


@routes.get("/{id}", operation_id="get_run")
def get(id: str, db: Store) -> RunState:
    """One run."""
    return _state(db, _found(db, id).id)


@routes.post("/{id}/wishes", operation_id="steer_run", dependencies=MAY_RUN)
def steer(id: str, asked: Wish, db: Store) -> RunState:
    """Pause, resume or cancel a run; what is at work on it obeys within seconds."""
    with transaction(db):
        found = _found(db, id)
        try:
            if asked.wish == "resume":
                runs.again(db, found)
            else:
                runs.ask(db, found, asked.wish)
        except ConfigError as ended:
            raise Conflict(ended.message, hint=ended.hint) from ended
    return _state(db, found.id)


def _refuse_reach(recipe: Recipe) -> None:
    """Whoever may queue runs may not start programs, nor send this machine's secrets somewhere."""
    places = (recipe.teacher, *recipe.judges)
    verifiers = [
        *(one.verifier for one in (*recipe.rewards, *recipe.watched)),
        *(file.verifier for file in recipe.supply.files),
    ]
    for reaches, what in (
        (bool(recipe.engine.command), "engine.command starts a program"),
        (any(place.api_key_env for place in places), "api_key_env sends a key of the service's"),
        (any(":" in name for name in verifiers), "a verifier `module:function` is a program"),
    ):
        if reaches:
            raise ConfigError(
                f"{what}, which a recipe over HTTP may not.",
                hint="preceptor loop RECIPE --queue, on the service's machine, may.",
            )


def _found(db: Database, id: str) -> Run:
    try:
        return runs.run(db, id)
    except ConfigError as unknown:
        raise NotFound(unknown.message, hint=unknown.hint) from unknown


def _state(db: Database, id: str) -> RunState:
    return RunState.model_validate(shown.described(db, runs.run(db, id)))
