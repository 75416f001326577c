"""The API from Python: the same models that the service answers with, over pages and events.

from service.client import Client
from service.routes.rows import Sample

with Client(token="...") as preceptor:
    for sample in preceptor.rows(Sample, q="hedgehog"):
        print(sample.text)
"""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx

from judges.labels import Choice
from pipelines.loop import Limits
from pipelines.store.events import Event
from pipelines.store.judgements import Origin
from service.looking import Foreseen, Measured
from service.routes.aliases import Alias
from service.routes.constitutions import Change, Commit, ConstitutionVersion, Name
from service.routes.labels import NextToLabel
from service.routes.query import Rows
from service.routes.rows import Label, Row
from service.routes.runs import RunState
from teachers.errors import PreceptorError

HERE = "http://127.0.0.1:8000"
_PAGE = 200

Kind = TypeVar("Kind", bound=Row)


class Refused(PreceptorError):
    """The service did not do what it was asked.

    Args:
        status: of HTTP.
        message: what happened.
        hint: what to do about it.
    """

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class Client:
    """A service of Preceptor's. Use it as a context manager, or close it.

    Args:
        url: where it is served.
        token: as `preceptor token create` has printed it; none is needed on loopback.
        transport: how requests get there; for tests.

    Every method raises `Refused` if the service does not do it, and httpx's errors if it cannot be
    reached.
    """

    def __init__(
        self,
        url: str = HERE,
        token: str | None = None,
        *,
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(
            base_url=f"{url.rstrip('/')}/api/v1",
            headers=headers,
            timeout=timeout_s,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of its connections."""
        self._http.close()

    # --- Runs -----------------------------------------------------------------------------------

    def runs(self) -> list[RunState]:
        """All of them: what runs or waits first, then what ended last."""
        return [RunState.model_validate(one) for one in self._asked("GET", "/runs")]

    def run(self, name: str) -> RunState:
        """One of them, by its id, its beginning, or its recipes' names."""
        return RunState.model_validate(self._asked("GET", f"/runs/{name}"))

    def queue(
        self,
        recipes: Sequence[Mapping[str, Any]],
        limits: Limits | None = None,
        *,
        schedule: str | None = None,
        priority: int = 0,
    ) -> RunState:
        """Put a run into the queue. Sent again after a failure, it is still one run.

        Args:
            recipes: as in their files; they take turns.
            limits: when it has done enough; without, it goes on for ever.
            schedule: when rounds may begin, as a line of cron; without, at any time.
        """
        body = {
            "recipes": [dict(recipe) for recipe in recipes],
            "limits": (limits or Limits()).model_dump(exclude_none=True),
            "schedule": schedule,
            "priority": priority,
        }
        return RunState.model_validate(self._asked("POST", "/runs", json=body))

    def steer(self, name: str, wish: Literal["pause", "resume", "cancel"]) -> RunState:
        """Pause, resume or cancel a run."""
        body = {"wish": wish}
        return RunState.model_validate(self._asked("POST", f"/runs/{name}/wishes", json=body))

    # --- What is stored -------------------------------------------------------------------------

    def rows(self, kind: type[Kind], *, q: str = "", **filters: str) -> Iterator[Kind]:
        """Rows of a kind, the newest first, page by page as they are asked for.

        Args:
            q: only rows that have all of these words, of kinds whose text is searched.
            filters: values that columns have to have.
        """
        asked = {**filters, **({"q": q} if q else {})}
        yield from map(kind.model_validate, self._pages(f"/{kind.path()}", asked))

    def row(self, kind: type[Kind], id: str) -> Kind:
        """One of them."""
        return kind.model_validate(self._asked("GET", f"/{kind.path()}/{id}"))

    def query(self, sql: str, **parameters: str | float | None) -> Rows:
        """One SELECT."""
        body = {"sql": sql, "parameters": parameters}
        return Rows.model_validate(self._asked("POST", "/query", json=body))

    # --- What good means ------------------------------------------------------------------------

    def constitutions(self) -> list[Name]:
        """Their names, in order, and which version each stands for."""
        return [Name.model_validate(one) for one in self._pages("/constitutions", {})]

    def constitution(self, ref: str) -> ConstitutionVersion:
        """One of them, by its name, or by a version's id or its beginning."""
        return ConstitutionVersion.model_validate(self._asked("GET", f"/constitutions/{ref}"))

    def commit(
        self, yaml: str, message: str, *, author: str | None = None, parent: str | None = None
    ) -> Commit:
        """Put a constitution in force.

        Args:
            yaml: the text of its file.
            message: why it is as it is now.
            author: who says so; the token's name, if not given.
            parent: the version that was edited; refused if another one is in force by now.
        """
        body = {"yaml": yaml, "message": message, "author": author, "parent": parent}
        return Commit.model_validate(self._asked("POST", "/constitutions", json=body))

    def diff(self, old: str, new: str) -> list[Change]:
        """What one constitution changes of another, by principle."""
        found = self._asked("GET", f"/constitutions/{old}/diff/{new}")
        return [Change.model_validate(one) for one in found]

    def preview(self, yaml: str, *, against: str | None = None, shown: int = 10) -> Foreseen:
        """What an edit would change in the pairs so far, from what is stored: no judge is asked.

        Args:
            yaml: the text of the edited file.
            against: what was edited; what is in force, if not given.
            shown: so many changed pairs are shown in full.
        """
        body = {"yaml": yaml, "against": against, "shown": shown}
        return Foreseen.model_validate(self._asked("POST", "/constitutions/preview", json=body))

    def measured(self, ref: str) -> Measured:
        """How judges do on a constitution's cases, from what is stored: no judge is asked."""
        return Measured.model_validate(self._asked("GET", f"/constitutions/{ref}/test"))

    # --- What people say ------------------------------------------------------------------------

    def next_to_label(
        self,
        *,
        annotator: str | None = None,
        principle: str | None = None,
        origin: Origin = "round",
        limit: int = 10,
    ) -> NextToLabel:
        """The comparisons that somebody should label next, the most useful first.

        Args:
            annotator: who; the token's name, if not given.
            principle: `CONSTITUTION/PRINCIPLE`, to label by this one alone.
        """
        asked = {"annotator": annotator, "principle": principle, "origin": origin, "limit": limit}
        given = {name: value for name, value in asked.items() if value is not None}
        return NextToLabel.model_validate(self._asked("GET", "/labels/next", params=given))

    def label(
        self,
        comparison: str,
        choice: Choice,
        seconds: float,
        *,
        principle: str | None = None,
        annotator: str | None = None,
        note: str = "",
    ) -> Label:
        """Say which of a comparison's answers is better.

        Args:
            choice: `first` and `second` are the comparison's, whichever was shown as A.
            seconds: from seeing the answers to choosing.
            principle: `CONSTITUTION/PRINCIPLE`, if it is by this one alone.
            annotator: who says so; the token's name, if not given.
        """
        body = {"comparison": comparison, "choice": choice, "seconds": seconds, "note": note}
        body |= {"principle": principle, "annotator": annotator}
        return Label.model_validate(self._asked("POST", "/labels", json=body))

    # --- Which checkpoint is served -------------------------------------------------------------

    def promote(self, checkpoint: str, why: str = "promoted by hand") -> Alias:
        """Make a checkpoint the champion, whatever the gate said of it."""
        body = {"checkpoint": checkpoint, "why": why}
        return Alias.model_validate(self._asked("PUT", "/aliases/champion", json=body))

    def roll_back(self) -> Alias:
        """Make the champion what it was before the last promotion."""
        return Alias.model_validate(self._asked("POST", "/aliases/champion/rollback"))

    # --- What happens ---------------------------------------------------------------------------

    def events(self, after: int | None = None, *, once: bool = False) -> Iterator[Event]:
        """Changes, as they happen; for ever, unless only those until now are asked for.

        Args:
            after: the number of the last one that was seen; without, from now on.
            once: end after what has happened by now.
        """
        asked = {"once": once, **({} if after is None else {"after": after})}
        with self._http.stream("GET", "/events", params=asked, timeout=None) as answer:
            if answer.is_error:
                answer.read()
                raise _refused(answer)
            told: dict[str, str] = {}
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if line:
                    told[name] = value
                elif "id" in told:
                    yield Event(int(told["id"]), told["event"], **json.loads(told["data"]))
                    told = {}

    def _pages(self, path: str, asked: Mapping[str, Any]) -> Iterator[Any]:
        """The items of a list, page by page."""
        after: dict[str, str] = {}
        while True:
            page = self._asked("GET", path, params={**asked, "limit": _PAGE, **after})
            yield from page["items"]
            if page["next"] is None:
                return
            after = {"after": page["next"]}

    def _asked(self, method: str, path: str, **how: Any) -> Any:
        headers = {} if method == "GET" else {"Idempotency-Key": str(uuid.uuid4())}
        request = self._http.build_request(method, path, headers=headers, **how)
        try:
            answer = self._http.send(request)
        except httpx.TransportError:
            answer = self._http.send(request)  # by its key it is done once
        if answer.is_error:
            raise _refused(answer)
        return answer.json()


def _refused(answer: httpx.Response) -> Refused:
    try:
        told = answer.json()
        return Refused(answer.status_code, str(told["detail"]), str(told.get("hint", "")))
    except (ValueError, KeyError, TypeError):
        return Refused(answer.status_code, answer.text[:300] or answer.reason_phrase)
