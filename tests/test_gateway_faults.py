"""What the gateway outlives: model servers that talk nonsense; slow, large and many requests."""

import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from service.options import USUAL
from tests.scripted.faults import BODIES, STATUSES
from tests.served import HELLO, Gateway, serving_process, wait_for

pytestmark = pytest.mark.fault

LIMIT_S = 3.0
SLOW = 200
MIB = 1024**2
# Bodies that are an answer after all, though an unusual one.
ANSWERS = {"think-tags", "think-unclosed", "think-field", "null-content", "no-message", "nan"} | {
    one for one in BODIES if "choice" in one or "duplicate" in one
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    root = tmp_path_factory.mktemp("faults")
    with serving_process(root, options=USUAL._replace(limit_s=LIMIT_S)) as gateway:
        yield gateway
    assert "Traceback" not in (root / "serve.log").read_text()


def asks(fault: str, *, stream: bool = False) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"fault:{fault}"}], "stream": stream}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    [*BODIES, *STATUSES, "silent", "drip", "endless", "drop", "hang-up", "not-http", "bad-gzip"],
)
def test_a_model_server_that_talks_nonsense_costs_one_answer(
    shared: Gateway, fault: str, stream: bool
) -> None:
    began = time.monotonic()
    response = shared.chat(**asks(fault, stream=stream))
    assert time.monotonic() - began < LIMIT_S + 2
    if not stream and fault not in ANSWERS | set(STATUSES):
        assert response.status_code in (502, 503, 504)
        assert response.json()["error"]["type"] == "server_error"
    if fault in ANSWERS and not stream:
        assert response.status_code == 200
    assert shared.chat().status_code == 200, "the next one is answered"


def test_a_model_server_that_has_no_time_is_passed_on_with_when_to_ask_again(
    shared: Gateway,
) -> None:
    response = shared.chat(**asks("503"))
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")


def test_a_model_server_that_dies_over_a_request_comes_back(shared: Gateway) -> None:
    assert shared.chat(**asks("die")).status_code == 503
    wait_for(lambda: shared.chat().status_code == 200)


def test_who_reads_slowly_holds_up_nobody(shared: Gateway) -> None:
    process, port = psutil.Process(shared.process.pid), int(shared.url.rpartition(":")[2])
    assert shared.chat().status_code == 200
    before = process.memory_info().rss
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 500\r\n\r\n"
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(SLOW)]
    try:
        for at, one in enumerate(slow):
            one.sendall(head + b'{"model": "champion"' if at % 2 else head[:20])
        began = time.monotonic()
        assert [shared.chat().status_code for _ in range(5)] == [200] * 5
        assert time.monotonic() - began < 5
        assert process.memory_info().rss - before < 64 * MIB
    finally:
        for one in slow:
            one.close()
    # None of them is counted as under way: a change of the champion waits for nobody.
    target = "two" if shared.answers_from("one") else "one"
    shared.point_at(target)
    wait_for(lambda: shared.answers_from(target), limit_s=5)


def test_a_large_body_is_refused_and_not_kept_in_memory(shared: Gateway) -> None:
    process = psutil.Process(shared.process.pid)
    before = process.memory_info().rss
    body = json.dumps({**HELLO, "user": "x" * 10 * MIB}).encode()

    def send() -> None:
        response = httpx.post(f"{shared.url}/v1/chat/completions", content=body, timeout=20)
        assert response.status_code == 413

    senders = [threading.Thread(target=send) for _ in range(8)]
    for one in senders:
        one.start()
    for one in senders:
        one.join()
    assert process.memory_info().rss - before < 64 * MIB


def test_a_store_that_somebody_has_locked_stops_no_answer(shared: Gateway) -> None:
    name = ""
    with sqlite3.connect(shared.home.store, isolation_level=None) as db:
        db.execute("begin immediate")
        end = time.monotonic() + LIMIT_S
        while time.monotonic() < end:
            response = shared.chat()
            assert response.status_code == 200
            name = response.headers["x-preceptor-exchange"]
        db.execute("rollback")
    db.close()

    def kept() -> bool:
        with sqlite3.connect(shared.home.store) as db:
            sql = "select count(*) from exchanges where id = ?"
            return bool(db.execute(sql, (name,)).fetchone()[0])

    wait_for(kept)


def test_what_cannot_be_written_down_does_not_stop_an_answer(tmp_path: Path) -> None:
    with serving_process(tmp_path) as gateway:
        with sqlite3.connect(gateway.home.store) as db:
            db.execute("drop table feedback")
            db.execute("drop table exchanges")
        for _ in range(3):
            assert gateway.chat().status_code == 200
            time.sleep(0.5)
        said = httpx.post(f"{gateway.url}/v1/feedback", json={"id": "x", "thumb": "up"})
        assert (said.status_code, said.headers["retry-after"]) == (503, "5")
        assert "The store cannot be used now" in said.json()["error"]["message"]
        wait_for(lambda: "and goes on" in (tmp_path / "serve.log").read_text())
        gateway.point_at("two")
        wait_for(lambda: gateway.answers_from("two"))
