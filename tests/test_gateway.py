"""The served champion over real HTTP, with the scripted server in the model server's place."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipelines.home import Home
from service import auth, serving
from service.options import Options
from teachers.engine import EngineSettings
from teachers.errors import ConfigError
from teachers.process import alive
from teachers.progress import Silent
from tests.served import HELLO, Gateway, serving_process, wait_for


def with_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A request for an answer of this form."""
    form = {"type": "json_schema", "json_schema": {"name": "form", "schema": schema}}
    return {"response_format": form}


HARD = {"type": "string", "pattern": "((a{1000}){1000}){1000}"}


def pointed_at(place: dict[str, Any], to: str) -> dict[str, Any]:
    """A request whose schema is somewhere in itself."""
    return with_schema({**place, "$ref": to})


def nested(depth: int) -> dict[str, Any]:
    """A schema of lists of lists."""
    return {"items": nested(depth - 1)} if depth else {}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    root = tmp_path_factory.mktemp("gateway")
    with serving_process(root, "--delay-ms", "400", "--right", "1") as gateway:
        yield gateway
    assert "Traceback" not in (root / "serve.log").read_text()


@pytest.fixture
def gateway(shared: Gateway) -> Gateway:
    """The shared one, answering from the first student."""
    shared.point_at("one")
    wait_for(lambda: httpx.get(f"{shared.url}/health").json()["checkpoint"] == "one")
    return shared


# --- What users see -----------------------------------------------------------------------------


def test_models(gateway: Gateway) -> None:
    model = httpx.get(f"{gateway.url}/v1/models").json()["data"][0]
    assert (model["id"], model["root"], model["object"]) == ("champion", "one", "model")
    assert httpx.get(f"{gateway.url}/health").json() == {"status": "ok", "checkpoint": "one"}


def test_an_answer(gateway: Gateway) -> None:
    response = gateway.chat(temperature=0, max_tokens=20, stop=["\n\n"], user="somebody", n=2)
    assert response.status_code == 200
    assert response.headers["x-preceptor-checkpoint"] == "one"
    choices = response.json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1]
    assert "= 19" in choices[0]["message"]["content"]


def test_a_stream_comes_word_by_word(gateway: Gateway) -> None:
    url = f"{gateway.url}/v1/chat/completions"
    came: list[float] = []
    said = ""
    with httpx.stream("POST", url, json={**HELLO, "stream": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line.startswith("data: {"):
                came.append(time.monotonic())
                for choice in json.loads(line.removeprefix("data: "))["choices"]:
                    said += choice["delta"].get("content", "")
    assert said == gateway.chat().json()["choices"][0]["message"]["content"]
    assert len(came) > 5
    assert came[-1] - came[0] > 0.2, "they came all at once"


def test_a_seed_is_taken_and_not_passed_on(gateway: Gateway) -> None:
    assert gateway.chat(seed=7, user="me").status_code == 200
    forwarded = {"model": "champion", "n": 1, "stream": False, "messages": HELLO["messages"]}
    body = json.dumps(forwarded, separators=(",", ":")).encode()
    assert gateway.events("arrived")[-1]["sha"] == hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"model": "gpt-4"}, 404, "There is no model 'gpt-4': No checkpoint is called 'gpt-4'."),
        ({"model": "round-7"}, 404, "No round 7 has trained a student."),
        ({"min_p": 0.1}, 400, "The parameter 'min_p' is not supported."),
        ({"extra_body": {}}, 400, "'extra_body' is not supported"),
        ({"stream_options": {"often": 1}}, 400, "'stream_options.often' is not supported"),
        ({"n": 9}, 400, "n: "),
        ({"n": 0}, 400, "n: "),
        ({"temperature": 2.1}, 400, "temperature: "),
        ({"top_p": 0}, 400, "top_p: "),
        ({"max_tokens": 8193}, 400, "max_tokens: "),
        ({"top_logprobs": 21}, 400, "top_logprobs: "),
        ({"messages": []}, 400, "messages: "),
        ({"messages": [{"role": "root", "content": "x"}]}, 400, "messages.0.role: "),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, "tool_call_id belongs"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, 400, "messages.0.content."),
        ({"messages": [{"role": "user"}]}, 400, "content is missing"),
        (with_schema({"type": "string", "pattern": "(a+)+$"}), 400, "'pattern' of a schema"),
        (with_schema({"type": "array", "maxItems": 10**6}), 400, "'maxItems' of a schema"),
        (pointed_at({"$defs": {"properties": HARD}}, "#/$defs/properties"), 400, "'pattern' of"),
        (pointed_at({"x": {"properties": HARD}}, "#/x/properties"), 400, "'pattern' of"),
        (pointed_at({"enum": [HARD]}, "#/enum/0"), 400, "'pattern' of a schema"),
        (
            with_schema({"properties": {"patternProperties": {"a+": {}}}}),
            400,
            "'patternProperties'",
        ),
        (pointed_at({"x": {"properties": {"minItems": 1e9}}}, "#/x/properties"), 400, "'minItems'"),
        (with_schema(nested(20)), 400, "nested at most 12 deep"),
        (with_schema({"enum": ["x" * 20_000]}), 400, "at most 16 KiB"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, 400, "function.name: "),
        ({"stop": ["x"] * 65}, 400, "stop"),
    ],
)
def test_what_may_not_be_asked_is_refused_by_name(
    gateway: Gateway, body: dict[str, Any], status: int, told: str
) -> None:
    before = len(gateway.events("arrived"))
    response = gateway.chat(**body)
    error = response.json()["error"]
    assert response.status_code == error["code"] == status
    assert told in error["message"]
    assert error["type"] == "invalid_request_error"
    assert len(gateway.events("arrived")) == before, "it reached the model server"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"prompt": ["x"] * 9}, "prompt"),
        ({"prompt": ["x"] * 3, "n": 3}, "prompts times n is at most 8"),
        ({"prompt": ["x", "y"], "echo": True, "logprobs": 1}, "echo with logprobs is for one"),
        ({"prompt": "x", "n": 2, "echo": True, "logprobs": 1}, "echo with logprobs is for one"),
    ],
)
def test_a_completion_is_bounded_as_a_whole(
    gateway: Gateway, body: dict[str, Any], told: str
) -> None:
    response = httpx.post(f"{gateway.url}/v1/completions", json={"model": "champion", **body})
    assert response.status_code == 400
    assert told in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{not json", 400),
        (b'{"model": "\xff"}', 400),
        (json.dumps({**HELLO, "temperature": float("nan")}).encode(), 400),
        (json.dumps({**HELLO, "user": "x" * (1 << 20)}).encode(), 413),
    ],
)
def test_a_body_that_is_no_request_is_refused(
    gateway: Gateway, content: bytes, status: int
) -> None:
    response = httpx.post(f"{gateway.url}/v1/chat/completions", content=content)
    assert response.status_code == response.json()["error"]["code"] == status


def test_a_body_just_within_the_limit_is_taken(gateway: Gateway) -> None:
    assert gateway.chat(user="x" * ((1 << 20) - 300)).status_code == 200


def test_other_routes_are_not_there(gateway: Gateway) -> None:
    for path in ("/v1/responses", "/collective_rpc", "/docs", "/openapi.json", "/v1/models/x"):
        response = httpx.get(gateway.url + path)
        assert response.status_code == 404
        assert response.json()["error"]["type"] == "invalid_request_error"
    wrong = httpx.get(f"{gateway.url}/v1/chat/completions")
    assert wrong.status_code == wrong.json()["error"]["code"] == 405


def test_a_token_is_needed_where_one_is_set(tmp_path: Path) -> None:
    with serving_process(tmp_path, token="a long secret") as gateway:
        url = f"{gateway.url}/v1"
        for wrong in ({}, {"Authorization": "Bearer no"}, {"Authorization": "Basic x"}):
            for response in (
                httpx.get(f"{url}/models", headers=wrong),
                httpx.get(f"{gateway.url}/metrics", headers=wrong),
                httpx.post(f"{url}/chat/completions", json=HELLO, headers=wrong),
                httpx.post(f"{url}/chat/completions", content=b"{not json", headers=wrong),
            ):
                assert response.status_code == response.json()["error"]["code"] == 401
                assert "a long secret" not in response.text
        assert gateway.chat().status_code == 200
        assert httpx.get(f"{gateway.url}/health").status_code == 200
        assert serving.stop(gateway.home)
        assert serving.running(gateway.home) is None
        assert not serving.stop(gateway.home)


def test_prometheus_gets_figures(gateway: Gateway) -> None:
    text = httpx.get(f"{gateway.url}/metrics").text
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["preceptor_rounds", "running"] == 1
    assert found["preceptor_training_runs", "done"] == 2
    assert found["preceptor_stored", "checkpoints"] == 2
    assert found["preceptor_champion", "one"] == 1
    assert found["preceptor_tokens", "written"] == 0
    assert found["preceptor_bytes", "disk_free"] > 0


# --- Who may serve where ------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "example.org", ""])
def test_beyond_loopback_a_token_is_needed(
    tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(auth.TOKEN_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match="no token is set") as refused:
        serving.serve(Home(tmp_path), host, 8000, Silent())
    assert auth.TOKEN_VARIABLE in refused.value.hint


def test_a_home_is_served_once(gateway: Gateway) -> None:
    with pytest.raises(ConfigError, match="is served already"):
        serving.serve(gateway.home, "127.0.0.1", 1, Silent(), EngineSettings())


# --- Before there is a champion -----------------------------------------------------------------


def test_before_anything_was_promoted_it_says_so_and_then_it_serves(tmp_path: Path) -> None:
    with serving_process(tmp_path, promoted=False) as gateway:
        assert httpx.get(f"{gateway.url}/v1/models").json()["data"] == []
        assert httpx.get(f"{gateway.url}/health").json()["checkpoint"] == "none"
        refused = gateway.chat()
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "60")
        assert "No checkpoint has been promoted yet" in refused.json()["error"]["message"]
        moved = {"checkpoint": "one"}
        assert httpx.put(f"{gateway.url}/api/v1/aliases/champion", json=moved).status_code == 200
        wait_for(lambda: gateway.chat().status_code == 200)
        assert gateway.answers_from("one")


def works(process: psutil.Process) -> bool:
    """Whether it is a worker, and no dead one."""
    try:
        return "worker" in process.cmdline()
    except psutil.Error:
        return False


def test_a_worker_runs_beside_it_comes_back_when_killed_and_ends_with_it(tmp_path: Path) -> None:
    with serving_process(tmp_path, promoted=False, options=Options(works=True)) as served:

        def workers() -> list[psutil.Process]:
            return [one for one in psutil.Process(served.process.pid).children() if works(one)]

        wait_for(workers)
        [first] = workers()
        first.kill()
        wait_for(lambda: [one for one in workers() if one.pid != first.pid])
        [last] = [one for one in workers() if one.pid != first.pid]
        began, started = time.monotonic(), last.create_time()
        assert serving.stop(served.home)
        assert time.monotonic() - began < 10
        assert not alive(last.pid, started)


# --- Changes ------------------------------------------------------------------------------------


def test_a_promotion_and_a_rollback_are_followed_and_no_request_fails(gateway: Gateway) -> None:
    stop = threading.Event()
    seen: list[tuple[int, str]] = []

    def keep_asking() -> None:
        while not stop.is_set():
            response = gateway.chat()
            seen.append((response.status_code, response.headers.get("x-preceptor-checkpoint", "")))

    askers = [threading.Thread(target=keep_asking) for _ in range(4)]
    for asker in askers:
        asker.start()
    try:
        for target, known in (("two", "two"), (None, "base"), ("one", "one")):
            gateway.point_at(target)
            wait_for(partial(gateway.answers_from, known), limit_s=4)
    finally:
        stop.set()
        for asker in askers:
            asker.join()
    assert {status for status, _ in seen} == {200}
    order = [who for at, (_, who) in enumerate(seen) if at == 0 or seen[at - 1][1] != who]
    assert [who for who in order if who != "one"][:2] == ["two", "base"]
    # The server answered from what the header says.
    folders = {Path(event["weights"]).parent.name for event in gateway.events("answered")}
    assert folders >= {"one", "two"}


def test_who_asks_for_a_checkpoint_gets_it_through_a_change(gateway: Gateway) -> None:
    url, answers = f"{gateway.url}/v1/chat/completions", list[httpx.Response]()
    asker = threading.Thread(target=lambda: answers.append(gateway.chat(model="one")))
    with httpx.stream("POST", url, json={**HELLO, "stream": True}) as under_way:
        pieces = under_way.iter_bytes()
        next(pieces)
        gateway.point_at("two")
        time.sleep(1.1)  # the change waits for the stream
        asker.start()
        list(pieces)
    asker.join()
    [answer] = answers
    assert (answer.status_code, answer.headers["x-preceptor-checkpoint"]) == (200, "one")
    assert gateway.answers_from("two")


def test_who_hangs_up_stops_the_generation_and_nothing_waits_for_it(gateway: Gateway) -> None:
    before = len(gateway.events("gone"))
    url = f"{gateway.url}/v1/chat/completions"
    with httpx.stream("POST", url, json={**HELLO, "stream": True, "n": 8}) as response:
        next(response.iter_bytes())
    wait_for(lambda: len(gateway.events("gone")) == before + 1, limit_s=5)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, json=HELLO, timeout=0.15)
    wait_for(lambda: len(gateway.events("gone")) == before + 2, limit_s=5)
    # A change waits for those under way: nobody may be counted who has left.
    gateway.point_at("two")
    wait_for(lambda: gateway.answers_from("two"), limit_s=5)


@pytest.mark.fault
def test_a_model_server_that_is_killed_comes_back(gateway: Gateway) -> None:
    killed = gateway.servers()[-1]
    assert "tests.scripted" in killed.cmdline()
    killed.kill()
    statuses = []

    def answers() -> bool:
        response = gateway.chat()
        statuses.append(response.status_code)
        return response.status_code == 200

    wait_for(answers)
    assert set(statuses) <= {200, 503}
    assert gateway.answers_from("one")
    assert gateway.servers()[-1].pid != killed.pid


@pytest.mark.fault
def test_a_checkpoint_that_cannot_be_proven_is_not_served_and_tried_once(tmp_path: Path) -> None:
    with serving_process(tmp_path, "--stuck") as gateway:
        said = tmp_path / "serve.log"
        gateway.point_at("two")
        wait_for(lambda: "still serving one: " in said.read_text())
        assert gateway.answers_from("one"), "whoever waited is answered as before"
        time.sleep(2.5)  # some more looks at the alias
        assert gateway.answers_from("one")
        assert said.read_text().count("still serving one: ") == 1
        assert said.read_text().count("start the model server") == 2
        gateway.point_at("one")
        time.sleep(1.5)
        gateway.point_at("two")
        wait_for(lambda: said.read_text().count("start the model server") == 3)
        wait_for(lambda: gateway.chat().status_code == 200)


@pytest.mark.fault
def test_a_champion_whose_files_are_broken_keeps_nobody_from_being_answered(
    tmp_path: Path,
) -> None:
    with serving_process(tmp_path) as gateway:
        (gateway.home.runs / "two" / "merged" / "model.safetensors").write_text("other weights")
        gateway.point_at("two")
        said = tmp_path / "serve.log"
        wait_for(lambda: "still serving one: " in said.read_text())
        gateway.servers()[-1].kill()
        wait_for(lambda: gateway.chat().status_code == 200)
        assert gateway.answers_from("one")
