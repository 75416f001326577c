"""What a constitution comes to, by what is stored: what an edit would change, and how judges do."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from judges.constitution_file import parse
from service.aside import answered
from service.looking import Asked, Cases, Foreseen, Measured
from service.routes.answer import Answer
from service.routes.constitutions import TEXT, Ref, Yaml, named
from service.routes.store import InHome, Store

routes = APIRouter(prefix="/constitutions", tags=["constitutions"], route_class=Answer)

EXAMPLE: Any = {"yaml": TEXT.replace("short.", "brief."), "shown": 3}


class Edited(BaseModel):
    """A constitution that was edited and is not committed yet."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    yaml: Yaml
    """The text of its file."""
    against: str | None = Field(default=None, pattern=r"^[a-z0-9-]{1,80}$")
    """What was edited: a name, or a version's id or its beginning; what is in force, if not
    given."""
    most: int = Field(default=1000, ge=1, le=10_000)
    """Most comparisons to look at."""
    shown: int = Field(default=10, ge=0, le=100)
    """So many changed pairs are shown in full."""


@routes.post("/preview", operation_id="preview_constitution")
def preview(asked: Edited, place: InHome) -> Foreseen:
    """What an edit would change in the pairs of the rounds so far. Only judges' stored verdicts
    count, nobody is asked: where an edit is of a text, what was judged by that text before."""
    edited = parse(asked.yaml, "yaml")
    question = Asked(edited=edited, against=asked.against, most=asked.most, shown=asked.shown)
    return answered(place, "preview", question, Foreseen)


@routes.get("/{ref}/test", operation_id="test_constitution")
def test(ref: Ref, place: InHome, db: Store) -> Measured:
    """How the judges do on its cases, from the verdicts that are stored: nobody is asked."""
    return answered(place, "measure", Cases(constitution=named(ref, db)), Measured)
