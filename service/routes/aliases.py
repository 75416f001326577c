"""Which checkpoint a name stands for, and the change to another."""

from typing import Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from sqlite_utils import Database

from pipelines.store import checkpoints
from pipelines.store.connection import transaction
from service.auth import needs
from service.problems import Conflict, NotFound
from service.routes.answer import Answer
from service.routes.store import Store
from teachers.errors import ConfigError

routes = APIRouter(prefix="/aliases", tags=["aliases"], route_class=Answer)

MAY_PROMOTE = [Depends(needs("admin"))]


class Alias(BaseModel):
    """A name, and the checkpoint that it stands for."""

    name: str
    checkpoint_id: str | None
    """Null: the base."""
    why: str
    moved_at: float


class Move(BaseModel):
    """Where an alias is to point."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"checkpoint": "3f2a9c1b7d5e"}]}
    )

    checkpoint: str = Field(min_length=1, max_length=64)
    """Its id, or an unambiguous beginning of it."""
    why: str = Field(default="promoted by hand", max_length=500)


@routes.get("", operation_id="list_aliases")
def list_aliases(db: Store) -> list[Alias]:
    """All of them."""
    return [Alias.model_validate(one) for one in checkpoints.aliases(db)]


@routes.put("/champion", operation_id="promote", dependencies=MAY_PROMOTE)
def promote(asked: Move, db: Store) -> Alias:
    """Make a checkpoint the champion, whatever the gate said of it."""
    with transaction(db):
        try:
            found = checkpoints.checkpoint(db, asked.checkpoint)
        except ConfigError as unknown:
            raise NotFound(unknown.message, hint=unknown.hint) from unknown
        checkpoints.promote(db, found, asked.why)
    return _champion(db)


@routes.post("/champion/rollback", operation_id="roll_back", dependencies=MAY_PROMOTE)
def roll_back(db: Store) -> Alias:
    """Make the champion what it was before the last promotion."""
    with transaction(db):
        try:
            checkpoints.roll_back(db)
        except ConfigError as nothing:
            raise Conflict(nothing.message) from nothing
    return _champion(db)


def _champion(db: Database) -> Alias:
    every: list[dict[str, Any]] = checkpoints.aliases(db)
    [found] = [one for one in every if one["name"] == checkpoints.CHAMPION]
    return Alias.model_validate(found)
