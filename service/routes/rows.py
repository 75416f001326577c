"""What is stored, to be listed, searched and looked up: a class a table, whose fields are columns.

Each becomes two routes: `GET /NAME`, with a parameter for each filter, and `GET /NAME/{id}`.
"""

import inspect
import json
from typing import Annotated, Any, ClassVar, Generic, TypeVar

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator

from pipelines.store import pages
from service.problems import NotFound
from service.routes.answer import Answer
from service.routes.store import Store

MOST = 500

Parsed = Annotated[
    dict[str, Any] | list[Any] | None,
    BeforeValidator(lambda text: json.loads(text) if isinstance(text, str) else text),
]
"""A column that holds JSON."""


class Row(BaseModel):
    """A row of a table."""

    table: ClassVar[str]
    filters: ClassVar[tuple[str, ...]] = ()
    """Columns that a list can be asked for by their values."""
    searched: ClassVar[bool] = False
    """Whether its text can be searched."""
    listed_only: ClassVar[bool] = False
    """Whether its rows have no id."""

    @classmethod
    def columns(cls) -> list[str]:
        """Of its table."""
        return list(cls.model_fields)

    @classmethod
    def path(cls) -> str:
        """Where its rows are in the API."""
        return cls.table.replace("_", "-")


Kind = TypeVar("Kind", bound=Row)


class Page(BaseModel, Generic[Kind]):
    """Some rows, the newest first."""

    items: list[Kind]
    next: str | None
    """`after` of the next page; null on the last."""


class Round(Row):
    """A round: one recipe, from prompts to a decision."""

    table = "rounds"
    filters = ("name", "state")
    id: str
    name: str
    number: int
    state: str
    note: str | None
    recipe: Parsed
    started_at: float
    ended_at: float | None


class Stage(Row):
    """A stage of a round, and what it reported."""

    table = "stages"
    filters = ("round_id", "name", "state")
    listed_only = True
    round_id: str
    name: str
    state: str
    started_at: float
    ended_at: float | None
    report: Parsed


class Prompt(Row):
    """A question, and the side of the split that it is on for ever."""

    table = "prompts"
    filters = ("task", "split", "verifier")
    searched = True
    id: str
    task: str
    question: str
    reference: str | None
    verifier: str
    source: str
    split: str
    created_at: float


class Sample(Row):
    """A model's answer."""

    table = "samples"
    filters = ("prompt_id", "call_id", "finish_reason")
    searched = True
    id: str
    call_id: str
    prompt_id: str
    position: int
    text: str
    thinking: str | None
    finish_reason: str
    tokens: int | None
    created_at: float


class Verdict(Row):
    """What a verifier said of an answer."""

    table = "verdicts"
    filters = ("sample_id", "state", "verifier")
    id: str
    sample_id: str
    verifier: str
    parser: str
    state: str
    answer: str | None
    reason: str
    created_at: float


class Pair(Row):
    """A better and a worse answer, and who says so."""

    table = "pairs"
    filters = ("round_id", "source", "chosen_sample", "rejected_sample")
    id: str
    round_id: str
    comparison_id: str
    chosen_sample: str
    rejected_sample: str
    source: str
    p: float
    created_at: float


class Dataset(Row):
    """A frozen dataset."""

    table = "datasets"
    filters = ("round_id", "kind")
    id: str
    round_id: str
    kind: str
    rows: int
    sha256: str
    created_at: float


class TrainingRun(Row):
    """A training run, and what its process was told."""

    table = "training_runs"
    filters = ("round_id", "dataset_id", "state")
    id: str
    round_id: str
    dataset_id: str
    state: str
    job: Parsed
    peak_bytes: int | None
    error: str | None
    started_at: float
    ended_at: float | None


class Checkpoint(Row):
    """What a training run made."""

    table = "checkpoints"
    filters = ("training_run_id",)
    id: str
    training_run_id: str
    step: int
    adapter_sha256: str
    weights: str
    created_at: float


class Eval(Row):
    """What held-out prompts say of a model, by the strict and the lenient parser."""

    table = "evals"
    filters = ("round_id", "checkpoint_id", "prompting")
    id: str
    round_id: str
    weights: str
    checkpoint_id: str | None
    prompting: str
    items: int
    strict: float | None
    lenient: float | None
    created_at: float


class Promotion(Row):
    """What a gate decided, and why."""

    table = "promotions"
    filters = ("round_id", "checkpoint_id", "decision")
    id: str
    round_id: str
    checkpoint_id: str
    incumbent: str | None
    decision: str
    reason: str
    report: Parsed
    created_at: float


class Comparison(Row):
    """Two answers to one request that judges and people were asked about."""

    table = "comparisons"
    filters = ("prompt_id", "source", "first_sample", "second_sample")
    id: str
    prompt_id: str | None
    conversation: Parsed
    first: str
    second: str
    first_sample: str | None
    second_sample: str | None
    source: str
    created_at: float


class Label(Row):
    """What a person said of a comparison."""

    table = "labels"
    filters = ("comparison_id", "annotator", "choice")
    id: str
    comparison_id: str
    annotator: str
    principle_id: str | None
    choice: str
    shown: str
    seconds: float
    note: str
    created_at: float


class ConstitutionCommit(Row):
    """When a version of a constitution was put in force, by whom and why."""

    table = "constitution_commits"
    filters = ("name", "constitution_id", "author")
    listed_only = True
    constitution_id: str
    name: str
    parent: str | None
    """The version that was in force before."""
    author: str
    message: str
    committed_at: float


KINDS: tuple[type[Row], ...] = (
    *(Round, Stage, Prompt, Sample, Verdict, Pair, Dataset, TrainingRun, Checkpoint, Eval),
    *(Promotion, Comparison, Label, ConstitutionCommit),
)


def router() -> APIRouter:
    """The routes of all kinds."""
    routes = APIRouter(tags=["store"], route_class=Answer)
    for kind in KINDS:
        about = inspect.cleandoc(kind.__doc__ or "")
        routes.add_api_route(
            f"/{kind.path()}",
            _lister(kind),
            response_model=Page[kind],  # type: ignore[valid-type]
            operation_id=f"list_{kind.table}",
            description=f"{about} The newest first.",
        )
        if not kind.listed_only:
            routes.add_api_route(
                f"/{kind.path()}/{{id}}",
                _getter(kind),
                response_model=kind,
                operation_id=f"get_{kind.table}",
                description=about,
            )
    return routes


def _lister(kind: type[Row]) -> Any:
    def rows(db: Store, limit: int, after: str, q: str = "", **where: str | None) -> Any:
        asked = {column: value for column, value in where.items() if value is not None}
        found = pages.page(db, kind.table, kind.columns(), asked, words=q, after=after, limit=limit)
        items = [kind.model_validate(row) for row in found.rows]
        return {"items": items, "next": found.after}

    parameters = [
        _parameter("db", Store),
        _parameter("limit", Annotated[int, Query(ge=1, le=MOST, description="Most rows.")], 50),
        _parameter("after", _Cursor, ""),
        *(_parameter(name, _Filter, None) for name in kind.filters),
    ]
    if kind.searched:
        words = Annotated[str, Query(description="Only rows that have all of these words.")]
        parameters.append(_parameter("q", words, ""))
    # FastAPI reads which parameters there are from this.
    rows.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return rows


_Cursor = Annotated[str, Query(pattern=r"^[0-9]{0,18}$", description="`next` of the page before.")]
_Filter = Annotated[str | None, Query(description="Only rows that have this value.")]


def _parameter(name: str, kind: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _getter(kind: type[Row]) -> Any:
    def row(id: str, db: Store) -> Any:
        found = pages.one(db, kind.table, kind.columns(), id)
        if found is None:
            raise NotFound(f"There is no row {id!r} in {kind.table}.")
        return kind.model_validate(found)

    return row
