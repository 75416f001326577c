"""A candidate on trial: the share of the champion's traffic that it gets, and how it does."""

from typing import Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from sqlite_utils import Database

from pipelines.store import names, traffic
from pipelines.store.connection import transaction
from pipelines.store.traffic import Trial
from service.auth import needs
from service.problems import Conflict, NotFound
from service.routes.answer import Answer
from service.routes.store import Store
from service.trials import described
from teachers.errors import ConfigError

routes = APIRouter(prefix="/trials", tags=["trials"], route_class=Answer)
MAY_TRY = [Depends(needs("admin"))]
EXAMPLE: Any = {"checkpoint": "candidate", "kind": "canary", "share": 0.1}


class NewTrial(BaseModel):
    """A candidate to be tried."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    checkpoint: str = Field(default=names.CANDIDATE, min_length=1, max_length=64)
    """An alias, `round-3`, an id or its beginning."""
    kind: Literal["canary", "shadow", "compare"] = "canary"
    share: float = Field(default=0.1, gt=0, le=1)
    """Of the champion's requests."""


class Side(BaseModel):
    """How one of the two has answered since the trial began."""

    answers: int
    failed: int
    first_token_s: float | None
    """Median seconds to the first of an answer."""


class TrialState(BaseModel):
    """A trial, and how candidate and champion do."""

    seq: int
    checkpoint_id: str
    kind: str
    share: float
    started_at: float
    ended_at: float | None
    why: str | None
    """Why it ended."""
    candidate: Side
    champion: Side


@routes.get("", operation_id="list_trials")
def list_trials(db: Store) -> list[TrialState]:
    """The last hundred trials, the newest first; the one that runs has not ended."""
    return [_state(db, one) for one in traffic.listed(db)]


@routes.post("", status_code=201, operation_id="start_trial", dependencies=MAY_TRY)
def start(asked: NewTrial, db: Store) -> TrialState:
    """Give a candidate its share; a trial that runs ends."""
    with transaction(db):
        try:
            checkpoint_id = names.named(db, asked.checkpoint)
        except ConfigError as unknown:
            raise NotFound(unknown.message, hint=unknown.hint) from unknown
        try:
            started = traffic.begin(db, checkpoint_id, asked.kind, asked.share)
        except ConfigError as wrong:
            raise Conflict(wrong.message, hint=wrong.hint) from wrong
    return _state(db, started)


@routes.delete("/current", operation_id="end_trial", dependencies=MAY_TRY)
def end(db: Store) -> TrialState:
    """End the trial that runs: the champion answers everybody."""
    with transaction(db):
        running = traffic.current(db)
        if running is None:
            raise NotFound("No candidate is on trial.")
        traffic.end(db, "it was ended by hand")
    return _state(db, traffic.listed(db)[0])


def _state(db: Database, trial: Trial) -> TrialState:
    return TrialState.model_validate(described(db, trial))
