"""Students asked by name, candidates on trial, feedback and limits: over real HTTP, with the
scripted server in the place of each model server."""

import asyncio
import json
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from starlette.exceptions import HTTPException

from pipelines.home import Home
from pipelines.store import exchanges, labels, names, tokens, traffic
from pipelines.store.connection import connect, transaction
from pipelines.store.exchanges import Exchange, Figures
from service import fleet, output
from service.champion import Champion
from service.limits import Limits
from service.options import Options
from service.redaction import MOST, PATTERNS, redacted
from service.traffic import LOOK_EVERY_S, worse
from teachers.errors import ConfigError
from teachers.progress import Silent
from tests.commands import Cli
from tests.served import HELLO, Gateway, made, make_home, serving_process, wait_for


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    root = tmp_path_factory.mktemp("students")
    with serving_process(root, "--delay-ms", "50", options=Options(keep_texts=True)) as gateway:
        yield gateway
    assert "Traceback" not in (root / "serve.log").read_text()


@pytest.fixture
def gateway(shared: Gateway) -> Iterator[Gateway]:
    """The shared one, without a trial."""
    yield shared
    with closing(connect(shared.home.store)) as db, transaction(db):
        ended = traffic.end(db, "the test is over")
    if ended:
        time.sleep(LOOK_EVERY_S + 0.2)  # until the service has seen it


def who(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return response.headers["x-preceptor-checkpoint"]


def kept(gateway: Gateway, response: httpx.Response) -> Exchange:
    """The exchange as it is stored, about a second later."""
    name = response.headers["x-preceptor-exchange"]

    def found() -> Exchange | None:
        with closing(connect(gateway.home.store)) as db:
            try:
                return exchanges.exchange(db, name)
            except ConfigError:
                return None

    wait_for(found, limit_s=5)
    stored = found()
    assert stored is not None
    return stored


# --- By name ------------------------------------------------------------------------------------


def test_every_name_is_listed(gateway: Gateway) -> None:
    found = httpx.get(f"{gateway.url}/v1/models").json()["data"]
    assert {one["id"]: one["root"] for one in found} == {
        "champion": "one",
        "candidate": "two",
        "round-1": "two",
        "base": "base",
    }
    assert found[0]["id"] == "champion"


@pytest.mark.parametrize(
    ("name", "checkpoint"),
    [("candidate", "two"), ("round-1", "two"), ("tw", "two"), ("one", "one"), ("base", "base")],
)
def test_who_is_asked_by_name_answers(gateway: Gateway, name: str, checkpoint: str) -> None:
    assert who(gateway.chat(model=name)) == checkpoint
    folder = Path(gateway.events("answered")[-1]["weights"])
    assert {"base": "base"}.get(checkpoint, checkpoint) in (folder.name, folder.parent.name)


def test_more_students_than_there_is_room_for_are_refused_while_the_others_are_busy(
    tmp_path: Path,
) -> None:
    with serving_process(tmp_path, "--delay-ms", "4000") as gateway:
        body = {**HELLO, "model": "two", "stream": True}
        url = f"{gateway.url}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, timeout=30) as busy:
            pieces = busy.iter_bytes()
            next(pieces)
            refused = gateway.chat(model="base")
        assert refused.status_code == 503
        assert "at most 1 beside the champion" in refused.json()["error"]["message"]
        assert int(refused.headers["retry-after"]) > 0


def test_a_server_that_the_memory_has_no_room_for_is_refused_with_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path)
    monkeypatch.setattr(fleet, "free_bytes", lambda: 3 * fleet.GIB)
    champion = Champion(home, Silent())
    others = fleet.Fleet(home, champion, Silent())

    async def ask() -> None:
        monkeypatch.setattr(Champion, "identity", "one")
        await others.seat("two")

    with pytest.raises(fleet.NoRoom, match=r"needs about 4\.4 GiB .* and 3\.0 GiB are free"):
        asyncio.run(ask())


def test_a_reward_model_answers_nobody(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    with closing(connect(home.store)) as opened, transaction(opened) as db:
        db.execute("update checkpoints set merged_path = adapter_path where id = 'two'")
        with pytest.raises(ConfigError, match="is a reward model"):
            names.named(db, "two")
        assert names.named(db, "candidate") == "one"


# --- What may be asked --------------------------------------------------------------------------


def test_the_clients_of_others_work_unchanged(gateway: Gateway) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
        assert next(iter(client.models.list())).id == "champion"
        asked: Any = HELLO
        whole = client.chat.completions.create(**asked)
        said = whole.choices[0].message.content
        pieces = client.chat.completions.create(
            **asked, stream=True, stream_options={"include_usage": True}
        )
        streamed, usage = "", None
        for piece in pieces:
            usage = piece.usage or usage
            for choice in piece.choices:
                streamed += choice.delta.content or ""
        assert streamed == said
        assert usage is not None
        assert whole.usage == usage
        assert client.completions.create(model="champion", prompt="Once").object
        with pytest.raises(openai.BadRequestError, match="none of them makes embeddings"):
            client.embeddings.create(model="champion", input="x")
        with pytest.raises(openai.NotFoundError, match="There is no model 'gpt-4'"):
            client.chat.completions.create(**{**asked, "model": "gpt-4"})


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl_gets_a_stream_piece_by_piece(gateway: Gateway) -> None:
    body = json.dumps({**HELLO, "stream": True})
    url = f"{gateway.url}/v1/chat/completions"
    command = ["curl", "-sN", url, "-H", "content-type: application/json", "-d", body]
    said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    lines = [line for line in said.splitlines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    assert len(lines) > 5
    assert '"usage"' not in said, "nobody has asked for it"


def test_tools_parts_and_forms_are_passed_on(gateway: Gateway) -> None:
    form = {"type": "object", "properties": {"pattern": {"type": "string", "maxLength": 9}}}
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    response = gateway.chat(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is 1 + 1?"}]},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "2"},
            *HELLO["messages"],
        ],
        tools=[{"type": "function", "function": {"name": "add", "parameters": form}}],
        tool_choice={"type": "function", "function": {"name": "add"}},
        response_format={"type": "json_schema", "json_schema": {"name": "f", "schema": form}},
        logprobs=True,
        top_logprobs=2,
    )
    assert response.status_code == 200, response.text
    request = json.loads(kept(gateway, response).request or "")
    assert request["response_format"]["json_schema"]["schema"] == form
    assert request["tools"][0]["function"]["parameters"] == form
    assert request["messages"][2]["tool_calls"] == [call]


# --- What is kept -------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_an_exchange_is_kept_with_its_times_its_tokens_and_its_texts_blotted(
    gateway: Gateway, stream: bool
) -> None:
    turn = {"role": "user", "content": "I am ann@example.org. What is 12 + 7?"}
    response = gateway.chat(messages=[turn], stream=stream)
    one = kept(gateway, response)
    assert (one.name, one.checkpoint_id, one.arm, one.status) == ("champion", "one", "direct", 200)
    assert one.prompt_tokens == 8
    assert one.completion_tokens > 3
    assert (one.first_s is not None) == stream
    assert 0 < (one.first_s or one.seconds) <= one.seconds < 10
    assert "I am [email]. What is 12 + 7?" in (one.request or "")
    assert "= 19" in (one.answer or "") or "= " in (one.answer or "")
    assert "data:" not in (one.answer or "")


@pytest.mark.parametrize(("fault", "last"), [("break-off", "broke off"), ("fail-inside", "[DONE]")])
def test_a_stream_that_fails_in_its_middle_is_kept_as_broken(
    gateway: Gateway, fault: str, last: str
) -> None:
    turn = {"role": "user", "content": f"fault:{fault}"}
    response = gateway.chat(messages=[turn], stream=True)
    assert response.status_code == 200
    assert last in response.text.strip().splitlines()[-1]
    assert kept(gateway, response).status == 502


def test_of_a_stream_that_nobody_heard_to_its_end_what_came_is_counted(gateway: Gateway) -> None:
    url = f"{gateway.url}/v1/chat/completions"
    with httpx.stream("POST", url, json={**HELLO, "stream": True}) as response:
        next(response.iter_bytes())
    one = kept(gateway, response)
    assert one.status == 499
    assert one.prompt_tokens > 5
    assert 0 < one.completion_tokens < 20


def test_texts_are_not_kept_unless_that_was_wanted(tmp_path: Path) -> None:
    with serving_process(tmp_path) as gateway:
        one = kept(gateway, gateway.chat())
        assert (one.request, one.answer) == (None, None)
        assert one.completion_tokens > 0


@pytest.mark.parametrize(
    ("text", "blotted"),
    [
        ("write to a.b+c@mail.example.com!", "write to [email]!"),
        ("call +49 (30) 1234-5678 now", "call [phone] now"),
        ("card 4111 1111 1111 1111.", "card [card]."),
        ("number 4111111111111112", "number 4111111111111112"),
        ("IBAN DE89 3704 0044 0532 0130 00", "IBAN [iban]"),
        ("from 10.0.0.17:80", "from [address]:80"),
        ("key sk-abcdefghijklmnop1234", "key [secret]"),
        ("AKIAIOSFODNN7EXAMPLE", "[secret]"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0.abcDEF-12!", "[secret]!"),
        ("+1 415 555 2671. Or 0049 30 123456", "[phone]. Or [phone]"),
        ("a" * 80 + "@example.org", "[email]"),
        ("version 1.2.3 of 2024-01-02, 12 + 7 = 19", "version 1.2.3 of 2024-01-02, 12 + 7 = 19"),
    ],
)
def test_what_is_blotted_out(text: str, blotted: str) -> None:
    assert redacted(text) == blotted


@pytest.mark.parametrize(
    "piece",
    ["-eyJ", " +" + "1" * 25, "a@", "a" * 63 + ".", "1 ", "sk-", "-----BEGIN PRIVATE KEY-----"],
)
def test_a_hostile_text_costs_no_more_than_reading_it(piece: str) -> None:
    for _, pattern in PATTERNS:
        began = time.process_time()
        pattern.sub("", piece * (2**20 // len(piece)))
        assert time.process_time() - began < 5, "it takes 0.1 s; what is quadratic takes minutes"


def test_of_a_long_text_the_beginning_is_kept() -> None:
    long = "word " * (MOST // 5 - 1) + "ann@example.org"
    assert redacted(long) == "word " * (MOST // 5 - 1) + "[cut]"


def test_of_what_was_refused_no_text_is_kept(shared: Gateway) -> None:
    content = "fault:400"
    response = shared.chat(messages=[{"role": "user", "content": content}])
    assert response.status_code == 400
    one = kept(shared, response)
    assert (one.status, one.request, one.answer) == (400, None, None)


@pytest.mark.fault
def test_a_stream_whose_server_dies_ends_with_an_error_and_is_kept_as_broken(
    tmp_path: Path,
) -> None:
    with serving_process(tmp_path, "--delay-ms", "3000") as gateway:
        url, seen = f"{gateway.url}/v1/chat/completions", ""
        with httpx.stream("POST", url, json={**HELLO, "stream": True}) as response:
            for text in response.iter_text():
                if not seen:
                    gateway.servers()[-1].kill()
                seen += text
        assert "[DONE]" not in seen
        error = json.loads(seen.strip().splitlines()[-1].removeprefix("data: "))["error"]
        assert "is being restarted" in error["message"]
        assert kept(gateway, response).status == 502
        assert "Traceback" not in (tmp_path / "serve.log").read_text()


# --- Candidates ---------------------------------------------------------------------------------


def try_(gateway: Gateway, **asked: Any) -> None:
    """Put the candidate on trial, and wait for its server."""
    response = httpx.post(f"{gateway.url}/api/v1/trials", json=asked)
    assert response.status_code == 201, response.text
    gateway.chat(model="two")


def trial(gateway: Gateway) -> Any:
    return httpx.get(f"{gateway.url}/api/v1/trials").json()[0]


def test_a_canary_answers_its_share_and_a_user_stays_with_it(gateway: Gateway) -> None:
    try_(gateway, checkpoint="candidate", share=0.5)
    users = [f"user {number}" for number in range(30)]
    wait_for(lambda: any(who(gateway.chat(user=user)) == "two" for user in users), limit_s=10)
    first = {user: who(gateway.chat(user=user)) for user in users}
    assert {user: who(gateway.chat(user=user)) for user in users} == first
    got = Counter(first.values())
    assert set(got) == {"one", "two"}
    assert 6 <= got["two"] <= 24  # of 30 at one half, beyond one in a thousand
    assert who(gateway.chat(model="one", user=users[0])) == "one"
    wait_for(lambda: trial(gateway)["candidate"]["answers"] >= got["two"])
    assert trial(gateway)["champion"]["answers"] > 0
    assert trial(gateway)["candidate"]["failed"] == 0


def test_a_canary_that_fails_loses_its_share(gateway: Gateway) -> None:
    try_(gateway, checkpoint="two", share=0.5)
    wait_for(lambda: any(who(gateway.chat()) == "two" for _ in range(10)))
    rows = [made(str(n), "canary", "two", 502) for n in range(20)]
    rows += [made(str(n), "direct", "one", 200) for n in range(20)]
    with closing(connect(gateway.home.store)) as db, transaction(db):
        exchanges.add(db, rows)
    wait_for(lambda: trial(gateway)["ended_at"], limit_s=5)
    assert "of its" in trial(gateway)["why"]
    assert "answers failed" in trial(gateway)["why"]
    assert {who(gateway.chat()) for _ in range(12)} == {"one"}


def test_a_candidate_whose_server_does_not_start_ends_the_trial(gateway: Gateway) -> None:
    weights = gateway.home.runs / "two" / "merged" / "model.safetensors"
    was = weights.read_text()
    assert who(gateway.chat(model="base")) == "base"  # the only other server
    try:
        weights.write_text("other weights")
        response = httpx.post(f"{gateway.url}/api/v1/trials", json={"share": 0.5})
        assert response.status_code == 201
        wait_for(lambda: [gateway.chat() for _ in range(4)] and trial(gateway)["ended_at"])
        assert "did not start" in trial(gateway)["why"]
        assert "is not what was trained" in trial(gateway)["why"]
    finally:
        weights.write_text(was)


def test_nobody_takes_a_candidates_server_from_it(gateway: Gateway) -> None:
    try_(gateway, checkpoint="two", share=0.1)
    time.sleep(1.2)  # until the trial is known
    refused = gateway.chat(model="base")
    assert refused.status_code == 503
    assert "at most 1 beside the champion" in refused.json()["error"]["message"]


def test_a_candidate_for_whom_there_is_no_room_yet_stays_on_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "free_bytes", lambda: 0)
    monkeypatch.setattr(Champion, "identity", "one")
    others = fleet.Fleet(home := make_home(tmp_path), Champion(home, Silent()), Silent())

    async def ask() -> None:
        for _ in range(2):
            assert others.soon("two") is None
            await asyncio.sleep(0.2)

    asyncio.run(ask())


def test_what_callers_are_to_blame_for_is_no_failure(gateway: Gateway) -> None:
    began = time.time()
    rows = [
        made(str(n), "canary", "other", status)
        for n, status in enumerate((200, 400, 401, 429, 502))
    ]
    with closing(connect(gateway.home.store)) as db, transaction(db):
        exchanges.add(db, [one._replace(id=f"blame {one.id}") for one in rows])
        found = exchanges.of_candidate(db, "other", began - 1)
    assert (found.n, found.failed) == (5, 2)


def test_answers_side_by_side_become_comparisons_to_label(gateway: Gateway) -> None:
    try_(gateway, checkpoint="two", kind="compare", share=1.0)
    turn = {"role": "user", "content": "What is 3 + 4, and is it prime?"}

    def compared() -> list[Any]:
        assert who(gateway.chat(messages=[turn])) == "one"
        time.sleep(1.2)
        sql = "select conversation, first, second from comparisons where source = 'traffic'"
        with closing(connect(gateway.home.store)) as db:
            return [row for row in db.execute(sql) if turn["content"] in row[0]]

    wait_for(compared, limit_s=15)
    [(conversation, first, second)] = compared()
    assert json.loads(conversation) == [turn]
    assert "= 7" in first + second
    with closing(connect(gateway.home.store)) as db:
        sql = "select distinct checkpoint_id from exchanges where beside is not null"
        assert db.execute(sql).fetchall() == [("two",)]


@pytest.mark.parametrize(
    ("asked", "status", "told"),
    [
        ({"checkpoint": "nobody"}, 404, "No checkpoint is called"),
        ({"checkpoint": "champion"}, 409, "This is the champion"),
        ({"checkpoint": "base"}, 409, "The base is no candidate"),
        ({"checkpoint": "two", "share": 0.9}, 409, "at most 0.5"),
    ],
)
def test_what_is_no_trial(gateway: Gateway, asked: dict[str, Any], status: int, told: str) -> None:
    response = httpx.post(f"{gateway.url}/api/v1/trials", json=asked)
    assert response.status_code == status
    assert told in response.json()["detail"]


def test_the_command_starts_shows_and_ends_a_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = make_home(tmp_path)
    monkeypatch.setenv("PRECEPTOR_HOME", str(home.root))
    cli = Cli(monkeypatch, capsys, home.root)
    assert "no candidate was ever tried" in cli("canary").out
    said = cli("canary", "candidate", "--share", "0.2")
    assert "canary of two, 20% of the requests" in said.out, said.err
    assert "ended: it was ended by hand" in cli("canary", "--stop").out
    assert cli("canary", "--json").json["checkpoint_id"] == "two"


def figures(n: int, failed: int, first_s: float = 0.1) -> Figures:
    return Figures(n, failed, [first_s] * (n - failed))


@pytest.mark.parametrize(
    ("candidate", "champion", "ends"),
    [
        (figures(20, 6), figures(200, 0), "6 of its 20 answers failed"),
        (figures(19, 19), figures(200, 0), None),  # too few to say
        (figures(20, 1), figures(200, 0), None),  # chance: 0.09
        (figures(20, 6), figures(200, 60), None),  # the champion fails as often
        (figures(20, 11), figures(0, 0), "11 of its 20 answers failed"),
        (figures(20, 10), figures(0, 0), None),  # nothing to compare with
        (figures(20, 20), figures(19, 19), "20 of its 20 answers failed"),
        (figures(20, 0, 0.25), figures(20, 0), "its first token takes 0.25 s"),
        (figures(20, 0, 0.19), figures(20, 0), None),
        (figures(19, 0, 9.9), figures(20, 0), None),
    ],
)
def test_when_a_trial_ends(candidate: Figures, champion: Figures, ends: str | None) -> None:
    why = worse(candidate, champion)
    assert why is None if ends is None else ends in (why or "")


# --- Feedback -----------------------------------------------------------------------------------


def feedback(gateway: Gateway, **said: Any) -> httpx.Response:
    return httpx.post(f"{gateway.url}/v1/feedback", json=said, headers=gateway.headers)


def test_the_better_of_two_answers_is_a_label(gateway: Gateway) -> None:
    first, second = gateway.chat(temperature=0.7), gateway.chat(temperature=0.9)
    assert first.json()["choices"] != second.json()["choices"]
    kept(gateway, first), kept(gateway, second)
    other = feedback(gateway, id=first.json()["id"], over=second.json()["id"])
    assert other.status_code == 404
    assert "not answers to the same request" in other.json()["error"]["message"]
    with closing(connect(gateway.home.store)) as db, transaction(db):
        same = "update exchanges set request = (select request from exchanges where id = ?)"
        ids = [one.headers["x-preceptor-exchange"] for one in (first, second)]
        db.execute(f"{same} where id = ?", ids)
    said = feedback(gateway, id=first.json()["id"], over=second.json()["id"], comment="clear")
    assert said.status_code == 201
    with closing(connect(gateway.home.store)) as db:
        [one] = [x for x in labels.labelled(db) if x.label.id == said.json()["label"]]
    assert (one.label.choice, one.label.note, one.label.annotator) == (
        "first",
        "clear",
        output.user(),
    )


def test_a_thumb_is_kept_and_a_second_one_takes_its_place(gateway: Gateway) -> None:
    answer = gateway.chat()
    name = kept(gateway, answer).id
    for thumb in ("up", "down"):
        assert feedback(gateway, id=name, thumb=thumb).json() == {"id": name, "label": None}
    with closing(connect(gateway.home.store)) as db:
        rows = db.execute("select thumb from feedback where exchange_id = ?", (name,)).fetchall()
    assert rows == [("down",)]


def test_people_of_one_name_are_told_apart_and_their_comments_are_blotted(
    gateway: Gateway,
) -> None:
    name = kept(gateway, gateway.chat()).id
    for _ in range(2):
        with closing(connect(gateway.home.store)) as db, transaction(db):
            secret = tokens.add(db, "app", "label")
        time.sleep(1.1)
        said = feedback(gateway._replace(token=secret), id=name, comment="ask ann@example.org")
        assert said.status_code == 201
        with closing(connect(gateway.home.store)) as db, transaction(db):
            tokens.revoke(db, "app")
    sql = "select comment from feedback where exchange_id = ?"
    with closing(connect(gateway.home.store)) as db:
        assert db.execute(sql, (name,)).fetchall() == [("ask [email]",)] * 2


@pytest.mark.parametrize(
    ("said", "status", "told"),
    [
        ({"id": "nothing", "thumb": "up"}, 404, "There is no answer 'nothing'"),
        ({"id": "x"}, 400, "one of thumb, over and comment is needed"),
        ({"id": "x", "thumb": "sideways"}, 400, "thumb: "),
        ({"id": "chatcmpl-x", "over": "x"}, 400, "over is the other of two answers"),
    ],
)
def test_what_is_no_feedback(gateway: Gateway, said: Any, status: int, told: str) -> None:
    response = feedback(gateway, **said)
    assert response.status_code == status
    assert told in response.json()["error"]["message"]


# --- Limits -------------------------------------------------------------------------------------


@dataclass
class Key:
    """A token's limit, and what it says when it is reached."""

    limits: dict[str, int]
    answered: int
    told: str


@pytest.mark.parametrize(
    "key",
    [
        Key({"requests_per_minute": 2}, 2, "may ask 2 times a minute"),
        Key({"tokens_per_day": 1}, 1, "The 1 tokens a day"),
    ],
)
def test_a_key_that_has_asked_enough_is_told_when_to_come_back(gateway: Gateway, key: Key) -> None:
    with closing(connect(gateway.home.store)) as db, transaction(db):
        secret = tokens.add(db, "app", "read", **key.limits)
    time.sleep(1.1)  # until the token is known
    asked = gateway._replace(token=secret)
    for _ in range(key.answered):
        assert asked.chat().status_code == 200
    refused = asked.chat()
    assert refused.status_code == 429
    assert key.told in refused.json()["error"]["message"]
    assert int(refused.headers["retry-after"]) > 0
    assert gateway.chat().status_code == 200, "others are not refused"


@pytest.mark.fault
def test_a_token_that_is_revoked_in_the_middle_of_a_stream_ends_it(tmp_path: Path) -> None:
    with serving_process(tmp_path, "--delay-ms", "8000", token="the master's") as gateway:
        with closing(connect(gateway.home.store)) as db, transaction(db):
            secret = tokens.add(db, "reader", "read")
        time.sleep(1.1)
        headers = {"Authorization": f"Bearer {secret}"}
        url, seen = f"{gateway.url}/v1/chat/completions", ""
        body = {**HELLO, "stream": True}
        with httpx.stream("POST", url, json=body, headers=headers, timeout=20) as response:
            for text in response.iter_text():
                if not seen:
                    with closing(connect(gateway.home.store)) as db, transaction(db):
                        tokens.revoke(db, "reader")
                seen += text
        assert "[DONE]" not in seen
        last = json.loads(seen.strip().splitlines()[-1].removeprefix("data: "))
        assert last["error"]["code"] == 401
        assert kept(gateway, response).status == 401


def test_what_is_under_way_counts_until_it_is_spent(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    with closing(connect(home.store)) as db, transaction(db):
        secret = tokens.add(db, "app", "read", tokens_per_day=100)
        token = tokens.active(db)[tokens.digest(secret)]
    limits = Limits(home)
    limits.admit(token)
    limits.begin(token.id, 100)
    with pytest.raises(HTTPException, match="may use up its 100 tokens a day") as refused:
        limits.admit(token)
    assert int((refused.value.headers or {})["Retry-After"]) < 10
    limits.spend(token.id, 40, 100)
    limits.admit(token)
    assert limits.spent(token.id) == 40


def test_what_a_key_has_spent_is_told(gateway: Gateway) -> None:
    with closing(connect(gateway.home.store)) as db, transaction(db):
        secret = tokens.add(db, "spender", "read", tokens_per_day=1000)
    time.sleep(1.1)
    one = kept(gateway, gateway._replace(token=secret).chat())
    [told] = [
        x
        for x in httpx.get(f"{gateway.url}/api/v1/budgets").json()
        if (x["of"], x["name"]) == ("key", "spender")
    ]
    assert (told["most"], told["spent"]) == (1000, one.prompt_tokens + one.completion_tokens)
    figures = httpx.get(f"{gateway.url}/metrics").text
    assert 'preceptor_exchanges{status="200"}' in figures


def test_feedback_needs_the_role(tmp_path: Path) -> None:
    with serving_process(tmp_path, token="the master's") as gateway:
        with closing(connect(Home(gateway.home.root).store)) as db, transaction(db):
            reader = tokens.add(db, "reader", "read")
        time.sleep(1.1)
        assert feedback(gateway._replace(token=reader), id="x", thumb="up").status_code == 403
        assert feedback(gateway._replace(token="x"), id="x", thumb="up").status_code == 401
