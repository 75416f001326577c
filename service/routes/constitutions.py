"""Constitutions over HTTP: what is in force, versions, what differs, and a new one put in force."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlite_utils import Database

from judges.constitution import Constitution, Principle
from judges.constitution_diff import Kind
from judges.constitution_diff import diff as changes_between
from judges.constitution_file import dump, parse
from judges.constitution_lint import lint
from judges.marked_yaml import MOST_BYTES
from pipelines.store import constitutions
from pipelines.store.connection import transaction
from service.auth import Person, needs
from service.problems import Conflict, NotFound
from service.routes.answer import Answer
from service.routes.rows import MOST
from service.routes.store import Store
from teachers.errors import ConfigError

routes = APIRouter(prefix="/constitutions", tags=["constitutions"], route_class=Answer)
MAY_RUN = [Depends(needs("run"))]

Ref = Annotated[
    str,
    Path(
        pattern=r"^[a-z0-9-]{1,80}$",
        description="A name, which means the version in force, or a version's id or its beginning.",
        examples=["concise-assistant"],
    ),
]
Id = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Yaml = Annotated[str, Field(max_length=MOST_BYTES)]
"""The text of a constitution's file."""

TEXT = """\
name: mine
description: Short answers.
principles:
  - id: short
    text: The answer is short.
    cases:
      - prompt: What is the capital of France?
        better: Paris.
        worse: That is a good question! The capital of France is the city of Paris.
"""
EXAMPLE: Any = {"yaml": TEXT, "message": "answers are short", "parent": None}


class Name(BaseModel):
    """A constitution's name, and what it stands for."""

    name: str
    in_force: str | None
    """The version's id; null: nothing was committed, and the file that comes with Preceptor
    counts."""
    commits: int
    committed_at: float | None


class Names(BaseModel):
    """Some names, in order."""

    items: list[Name]
    next: str | None
    """`after` of the next page; null on the last."""


class ConstitutionVersion(BaseModel):
    """A version of a constitution."""

    id: str
    name: str
    in_force: bool
    """Whether its name stands for it."""
    description: str
    principles: list[Principle]
    yaml: str
    """The same as a file, to be edited."""


class Change(BaseModel):
    """One thing that is not what it was."""

    model_config = ConfigDict(from_attributes=True)

    kind: Kind
    principle: str
    """Its id; empty where the constitution itself changed."""
    old: str
    new: str
    asks_again: bool
    """Whether judges have to be asked again: only a new text makes other verdicts."""


class NewVersion(BaseModel):
    """A constitution that is to be in force under the name that it gives itself."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})

    yaml: Yaml
    """The text of its file."""
    message: str = Field(min_length=1, max_length=500)
    """Why it is as it is now."""
    author: str | None = Field(default=None, min_length=1, max_length=100)
    """Who says so; whoever asks, if not given."""
    parent: Id | None = None
    """The version that was edited: refused if another one is in force by now."""


class Commit(BaseModel):
    """The version in force after a commit."""

    id: str
    name: str
    parent: str | None
    """What was in force before; null for the first."""
    author: str
    message: str
    committed_at: float
    new: bool
    """False where it was in force already, and nothing was stored."""
    weaknesses: list[str]
    """What is allowed and had better be otherwise."""


@routes.get("", operation_id="list_constitutions")
def list_constitutions(
    db: Store,
    limit: Annotated[int, Query(ge=1, le=MOST, description="Most names.")] = 50,
    after: Annotated[str, Query(max_length=80, description="`next` of the page before.")] = "",
) -> Names:
    """Their names, in order, and which version each stands for."""
    found = [one for one in constitutions.listed(db) if one.name > after]
    items = [Name.model_validate(one._asdict()) for one in found[:limit]]
    return Names(items=items, next=items[-1].name if len(found) > limit else None)


@routes.get("/{ref}", operation_id="get_constitution")
def get(ref: Ref, db: Store) -> ConstitutionVersion:
    """One version."""
    found = named(ref, db)
    return ConstitutionVersion(
        id=found.id,
        name=found.name,
        in_force=_in_force(found.name, db) == found.id,
        description=found.description,
        principles=list(found.principles),
        yaml=dump(found),
    )


@routes.get("/{ref}/diff/{other}", operation_id="diff_constitutions")
def diff(ref: Ref, other: Ref, db: Store) -> list[Change]:
    """What the second one changes of the first, by principle."""
    changes = changes_between(named(ref, db), named(other, db))
    return [Change.model_validate(one) for one in changes]


@routes.post(
    "",
    status_code=201,
    operation_id="commit_constitution",
    dependencies=MAY_RUN,
    responses={200: {"model": Commit, "description": "It was in force already"}},
)
def commit(asked: NewVersion, db: Store, person: Person, response: Response) -> Commit:
    """Put a constitution in force; one that is in force already stays as it is."""
    constitution = parse(asked.yaml, "yaml")
    if not asked.message.strip():
        raise ConfigError("The message is empty.", hint="Say why it is as it is now.")
    with transaction(db):
        version, new = constitutions.commit(db, constitution, asked.author or person, asked.message)
        if new and asked.parent and version.parent != asked.parent:
            raise Conflict(
                f"{version.name} was edited meanwhile: {version.parent or 'nothing'} is in force.",
                hint="Get it, make the edit again, and commit that with its id as parent.",
            )
    if not new:
        response.status_code = 200
    weaknesses = [str(one) for one in lint(constitution)]
    return Commit(**version._asdict(), new=new, weaknesses=weaknesses)


def named(ref: str, db: Database) -> Constitution:
    """A constitution by its name or its version's id; never by a path.

    Raises:
        NotFound: there is none.
    """
    try:
        return constitutions.named(ref, db)
    except ConfigError as unknown:
        raise NotFound(unknown.message, hint=unknown.hint) from unknown


def _in_force(name: str, db: Database) -> str | None:
    try:
        return constitutions.named(name, db).id
    except ConfigError:  # a round went by it, and nothing was ever committed under its name
        return None
