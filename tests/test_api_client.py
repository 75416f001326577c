"""The API's Python client against a serving process."""

from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from pipelines.loop import Limits
from pipelines.store import calls, judgements
from pipelines.store.connection import connect, transaction
from service.client import Client, Refused
from service.routes.constitutions import TEXT
from service.routes.rows import Checkpoint, ConstitutionCommit, Label, Prompt
from teachers.records import Prompt as Made
from tests.served import Gateway, serving_process
from tests.test_labels import SIX

SUMS = {"name": "sums", "supply": {"generators": [{"generator": "chain_sum", "held_out": 100}]}}
PROMPTS = 450


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving_process(tmp_path_factory.mktemp("client"), token="secret") as gateway:
        prompts = [Made(task="made", question=f"Question {n}?") for n in range(PROMPTS)]
        with closing(connect(gateway.home.store)) as db, transaction(db):
            calls.add_prompts(db, "round", [(one, "train", "made") for one in prompts])
            judgements.add_comparisons(db, SIX)
        yield gateway


@pytest.fixture
def client(served: Gateway) -> Iterator[Client]:
    with Client(served.url, "secret") as client:
        yield client


def test_rows_come_page_by_page(client: Client) -> None:
    found = [one.question for one in client.rows(Prompt)]
    assert found == [f"Question {n}?" for n in reversed(range(PROMPTS))]
    assert [one.question for one in client.rows(Prompt, q="question 17", task="made")] == [
        "Question 17?"
    ]
    one = next(client.rows(Prompt))
    assert client.row(Prompt, one.id) == one
    assert {row.id for row in client.rows(Checkpoint)} == {"one", "two"}
    rows = client.query("select count(*) from prompts where task = :task", task="made")
    assert rows.rows == [[PROMPTS]]


def test_runs_are_queued_steered_and_followed(client: Client) -> None:
    seen = list(client.events(after=0, once=True))[-1].seq
    run = client.queue([SUMS], Limits(rounds=2), priority=3)
    assert (run.state, run.priority, run.limits) == ("queued", 3, {"rounds": 2})
    assert client.run("sums") == run
    assert client.steer(run.id, "pause").state == "paused"
    assert client.steer(run.id, "cancel").state == "cancelled"
    assert [one.state for one in client.runs()] == ["cancelled"]
    told = [(one.kind, one.subject, one.what) for one in client.events(after=seen, once=True)]
    assert told == [("run", run.id, state) for state in ("queued", "paused", "cancelled")]


def test_constitutions_are_edited(client: Client) -> None:
    first = client.commit(TEXT, "short", author="Ada")
    assert (first.new, first.author, first.parent) == (True, "Ada", None)
    yaml = client.constitution("mine").yaml.replace("short.", "long.")
    second = client.commit(yaml, "long", parent=first.id)
    assert not client.commit(yaml, "once more").new
    with pytest.raises(Refused, match="edited meanwhile"):
        client.commit(TEXT, "late", parent=first.id)
    [change] = client.diff(first.id, "mine")
    assert (change.kind, change.old, change.asks_again) == (
        *("reworded", "The answer is short."),
        True,
    )
    assert [one.in_force for one in client.constitutions() if one.name == "mine"] == [second.id]
    assert [one.message for one in client.rows(ConstitutionCommit, name="mine")] == [
        "long",
        "short",
    ]
    with pytest.raises(Refused, match="yaml, line 5"):
        client.commit(TEXT.replace("text:", "txt:"), "wrong")
    with pytest.raises(Refused, match="No round has been judged"):
        client.preview(TEXT)
    assert client.measured("mine").judges == []


def test_people_label(client: Client) -> None:
    found = client.next_to_label(annotator="ann", limit=2)
    assert (len(found.items), found.left) == (2, len(SIX))
    made = client.label(found.items[0].comparison, "second", 3.0, annotator="ann", note="why")
    assert (made.choice, made.shown, made.note) == ("second", found.items[0].shown, "why")
    assert client.next_to_label(annotator="ann").left == len(SIX) - 1
    assert list(client.rows(Label, annotator="ann")) == [made]


def test_the_champion_is_moved(client: Client) -> None:
    assert client.promote("two", "a trial").checkpoint_id == "two"
    assert client.roll_back().checkpoint_id == "one"


def test_what_is_refused_says_why(client: Client, served: Gateway) -> None:
    with pytest.raises(Refused, match="No run is called 'nope'") as unknown:
        client.run("nope")
    assert unknown.value.status == 404
    with pytest.raises(Refused, match="not a valid recipe") as wrong:
        client.queue([{"name": "a"}])
    assert (wrong.value.status, wrong.value.hint) == (400, "preceptor recipe fields")
    with Client(served.url, "wrong") as stranger:
        for asks in (stranger.runs, lambda: list(stranger.events(once=True))):
            with pytest.raises(Refused, match="A good token is needed"):
                asks()


def test_a_request_whose_answer_is_lost_is_done_once(served: Gateway) -> None:
    """The connection breaks after the service has done it; the client asks again by itself."""

    class Breaks(httpx.HTTPTransport):
        broken = 0

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            answer = super().handle_request(request)
            if request.method == "POST" and not self.broken:
                self.broken = 1
                answer.read()
                raise httpx.ReadError("gone", request=request)
            return answer

    breaks = Breaks()
    with Client(served.url, "secret") as client:
        client.promote("two")
        client.promote("one")
    with Client(served.url, "secret", transport=breaks) as client:
        assert client.roll_back().checkpoint_id == "two"
        assert breaks.broken
        [alias] = client.query("select checkpoint_id from aliases").rows
    assert alias == ["two"]
