"""Labels over HTTP: which comparisons somebody should look at next, and what they say of them."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlite_utils import Database

from judges.constitution import Principle
from judges.labels import Choice
from judges.records import Order
from pipelines import labelling
from pipelines.store import labels, pages
from pipelines.store.connection import bounded
from pipelines.store.judgements import Compared, Origin
from service.auth import Person, needs
from service.problems import NotFound
from service.routes import constitutions, rows
from service.routes.answer import Answer
from service.routes.store import Store
from teachers.errors import ConfigError
from teachers.records import Message

routes = APIRouter(prefix="/labels", tags=["labels"], route_class=Answer)

LONGEST_S = 10.0
EXAMPLE: Any = {
    "comparison": "5b1f0c7e9d2a4b6c8e0f1a3d5c7b9e2f4a6c8d0e1b3f5a7c9d2e4f6a8b0c1d3e",
    "choice": "first",
    "seconds": 7.5,
}

Annotator = Annotated[str, Field(min_length=1, max_length=100)]
By = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,80}/[a-z0-9-]{1,80}$")]
"""A principle: its constitution's name or version, a slash, and its id."""


class ToLabel(BaseModel):
    """Two answers to one request, without who gave them."""

    comparison: str
    conversation: list[Message]
    first: str
    second: str
    shown: Order
    """Which answer to show as A: by a hash, so that neither place is favoured. `forward`: the
    first."""


class NextToLabel(BaseModel):
    """What somebody should label next, the most useful first."""

    items: list[ToLabel]
    left: int
    """How many there are in all."""


class NewLabel(BaseModel):
    """What a person says of a comparison; it takes the place of what they said of it before."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    comparison: str = Field(min_length=1, max_length=64)
    """Its id."""
    choice: Choice
    """`first` and `second` are the comparison's, whichever was shown as A."""
    seconds: float = Field(ge=0, le=86_400, allow_inf_nan=False)
    """From seeing the answers to choosing."""
    principle: By | None = None
    """`CONSTITUTION/PRINCIPLE`, if it is by this one alone; else all things are considered."""
    annotator: Annotator | None = None
    """Who says so; whoever asks, if not given."""
    note: str = Field(default="", max_length=2000)


@routes.get("/next", operation_id="next_to_label")
def next_to_label(
    db: Store,
    person: Person,
    annotator: Annotated[
        Annotator | None, Query(description="Who labels; whoever asks, if not given.")
    ] = None,
    principle: Annotated[
        By | None, Query(description="`CONSTITUTION/PRINCIPLE`: label by this one alone.")
    ] = None,
    origin: Annotated[Origin, Query(description="Where they come from.")] = "round",
    limit: Annotated[int, Query(ge=1, le=100, description="Most comparisons.")] = 10,
) -> NextToLabel:
    """What fewest people have labelled, then what AI judges are least sure of."""
    who = annotator or person, _by(principle, db), origin
    with bounded(db, LONGEST_S):
        found = labelling.some_to_label(db, *who, limit)
        left = labelling.left_to_label(db, *who)
    return NextToLabel(items=[_to_label(who[0], one) for one in found], left=left)


@routes.post("", status_code=201, operation_id="label", dependencies=[Depends(needs("label"))])
def label(asked: NewLabel, db: Store, person: Person) -> rows.Label:
    """Say which of two answers is better; it is kept once this is answered."""
    found = labels.fit(db, asked.comparison)
    if found is None:
        raise NotFound(
            f"There is no comparison {asked.comparison!r} to be labelled.",
            hint="GET /labels/next has some.",
        )
    made = labelling.record(
        db,
        found.comparison,
        asked.annotator or person,
        _by(asked.principle, db),
        asked.choice,
        asked.seconds,
        asked.note,
    )
    row = pages.one(db, rows.Label.table, rows.Label.columns(), made.id)
    return rows.Label.model_validate(row)


def _by(principle: str | None, db: Database) -> Principle | None:
    if principle is None:
        return None
    ref, _, name = principle.partition("/")
    try:
        return constitutions.named(ref, db).principle(name)
    except ConfigError as unknown:
        raise NotFound(unknown.message, hint=unknown.hint) from unknown


def _to_label(annotator: str, one: Compared) -> ToLabel:
    comparison = one.comparison
    return ToLabel(
        comparison=comparison.id,
        conversation=list(comparison.conversation),
        first=comparison.first,
        second=comparison.second,
        shown=labelling.shown(annotator, comparison),
    )
