"""The store asked in SQL, over HTTP: one SELECT, read-only and bounded."""

import math
import threading
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from pipelines.store.query import query
from service.routes.answer import Answer
from service.routes.store import InHome
from teachers.errors import Busy

routes = APIRouter(prefix="/query", tags=["store"], route_class=Answer)

# The other routes' threads are not to wait for them.
_AT_ONCE = threading.BoundedSemaphore(4)
EXAMPLE: Any = {"sql": "select state, count(*) from verdicts group by state"}


class Question(BaseModel):
    """A question in SQL."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    sql: str = Field(max_length=100_000)
    """One SELECT."""
    parameters: dict[str, str | int | float | None] = Field(default={}, max_length=100)
    """Values of `:name` in it."""
    limit: int = Field(default=1000, ge=1, le=10_000)
    """Most rows."""
    seconds: float = Field(default=5.0, gt=0, le=30, allow_inf_nan=False)
    """Longest it may take."""


class Rows(BaseModel):
    """The answer to a query."""

    columns: list[str]
    rows: list[list[Any]]
    truncated: bool
    """Whether there was more than the limits let through."""


@routes.post("", operation_id="query")
def ask(asked: Question, place: InHome) -> Rows:
    """Ask the store."""
    if not _AT_ONCE.acquire(timeout=asked.seconds):
        raise Busy("Other queries are being answered.", hint="Ask again in a moment.")
    try:
        found = query(
            place.store, asked.sql, asked.parameters, rows=asked.limit, seconds=asked.seconds
        )
    finally:
        _AT_ONCE.release()
    rows = [[_plain(value) for value in row] for row in found.rows]
    return Rows(columns=found.columns, rows=rows, truncated=found.truncated)


def _plain(value: Any) -> Any:
    """JSON has no bytes and no infinity."""
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
