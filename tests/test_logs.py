"""Logs for programs: a line of JSON for each thing told, and for each request."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from service import logs
from service.progress import Shown
from teachers.progress import step
from tests.served import HELLO, Gateway, serving_process, wait_for

QUESTION = "a secret: 7 + 4"


def lines(text: str) -> list[dict[str, Any]]:
    """Those that are JSON."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(logs.VARIABLE, "json")


@pytest.fixture
def gateway(tmp_path: Path, wanted: None) -> Iterator[Gateway]:
    with serving_process(tmp_path) as gateway:
        yield gateway


@pytest.mark.parametrize("said", ["", "text"])
def test_people_are_told_as_ever(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(logs.VARIABLE, said)
    assert isinstance(logs.told(Console(file=io.StringIO())), Shown)


@pytest.mark.usefixtures("wanted")
def test_progress_is_told_with_its_run() -> None:
    out = io.StringIO()
    progress = logs.told(Console(file=out), run="abc")
    with step(progress, "train", total=20):
        progress.update(3, "loss 1.5")
        progress.update(4, "a moment later")
    progress.say("two\nlines")
    told = lines(out.getvalue())
    assert [one["event"] for one in told] == ["begin", "progress", "end", "said"]
    assert {one["run"] for one in told} == {"abc"}
    moved = {name: told[1][name] for name in ("step", "done", "total", "note")}
    assert moved == {"step": "train", "done": 3, "total": 20, "note": "loss 1.5"}
    assert told[3]["text"] == "two\nlines"


@pytest.mark.usefixtures("wanted")
def test_a_step_that_fails_is_told_to_have_stopped() -> None:
    out = io.StringIO()
    with pytest.raises(ZeroDivisionError), step(logs.told(Console(file=out)), "divide"):
        _ = 1 / 0
    assert [one.get("note") for one in lines(out.getvalue())] == [None, "stopped"]


def test_each_request_leaves_a_line_and_nothing_of_what_it_said(
    gateway: Gateway, tmp_path: Path
) -> None:
    chat = f"{gateway.url}/v1/chat/completions"
    body = {**HELLO, "messages": [{"role": "user", "content": QUESTION}]}
    mine = httpx.post(chat, json=body, headers={"x-request-id": "mine.1"}, timeout=60)
    assert mine.headers["x-request-id"] == "mine.1"
    with httpx.stream("POST", chat, json={**body, "stream": True}, timeout=60) as streamed:
        streamed.read()
    api = f"{gateway.url}/api/v1/samples"
    other = httpx.get(api, params={"q": QUESTION}, headers={"x-request-id": "not one"})
    missing = httpx.get(f"{gateway.url}/nowhere")

    by_id = _requests(tmp_path, 4)
    told = by_id["mine.1"]
    assert (told["method"], told["path"]) == ("POST", "/v1/chat/completions")
    assert (told["status"], told["whole"]) == (200, True)
    for name in ("exchange", "checkpoint"):
        assert told[name] == mine.headers[f"x-preceptor-{name}"]
    assert by_id[streamed.headers["x-request-id"]]["whole"]
    assert by_id[other.headers["x-request-id"]]["path"] == "/api/v1/samples"
    assert by_id[missing.headers["x-request-id"]]["status"] == 404
    assert "not one" not in by_id
    assert "secret" not in (tmp_path / "serve.log").read_text()


def _requests(folder: Path, count: int) -> dict[str, dict[str, Any]]:
    """What the serving process has written down, by the requests' ids."""

    def found() -> list[dict[str, Any]]:
        told = lines((folder / "serve.log").read_text())
        return [one for one in told if one["event"] == "request"]

    wait_for(lambda: len(found()) >= count)
    return {one["request"]: one for one in found()}
