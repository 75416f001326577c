"""What may be spent, and what was: by runs on teachers and students, and by keys on students."""

from fastapi import APIRouter
from pydantic import BaseModel
from sqlite_utils import Database

from pipelines.store import exchanges, tokens
from pipelines.store.connection import now
from service import runs
from service.limits import midnight
from service.routes.answer import Answer
from service.routes.store import Store

routes = APIRouter(prefix="/budgets", tags=["budgets"], route_class=Answer)


class Budget(BaseModel):
    """Tokens, read and written by models."""

    of: str
    """`run` or `key`."""
    id: str
    name: str
    most: int | None
    """Null: as many as it likes."""
    spent: int
    """By a run in all; by a key since midnight (UTC)."""


@routes.get("", operation_id="list_budgets")
def list_budgets(db: Store) -> list[Budget]:
    """Of every run and of every good key."""
    return [*_of_runs(db), *_of_keys(db)]


def _of_runs(db: Database) -> list[Budget]:
    return [
        Budget(
            of="run",
            id=one["id"],
            name=", ".join(one["recipes"]),
            most=one["limits"].get("tokens"),
            spent=one["tokens"],
        )
        for one in runs.read(db)
    ]


def _of_keys(db: Database) -> list[Budget]:
    since = midnight(now())
    return [
        Budget(
            of="key",
            id=one.id,
            name=one.name,
            most=one.tokens_per_day,
            spent=exchanges.spent(db, one.id, since),
        )
        for one in tokens.listed(db)
        if one.revoked_at is None
    ]
