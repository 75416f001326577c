"""OpenTelemetry: spans of requests and steps, as a collector gets them."""

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from service import tracing
from teachers.progress import Silent
from tests.scripted.running import ROOT
from tests.served import HELLO, serving_process, wait_for

TRACE = "0af7651916cd43dd8448eb211c80319c"
STEPS = """
from service.logs import told
from service.output import console
from teachers.progress import step
progress = told(console(), run="abc")
try:
    with step(progress, "round"):
        with step(progress, "train", 20):
            pass
        with step(progress, "gate"):
            1 / 0
except ZeroDivisionError:
    pass
"""


class Collector(NamedTuple):
    """What spans are sent to."""

    url: str
    spans: list[Span]
    services: set[str]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    spans, services = list[Span](), set[str]()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                services.update(
                    one.value.string_value
                    for one in resource.resource.attributes
                    if one.key == "service.name"
                )
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        yield Collector(url, spans, services)
        server.shutdown()


def said(span: Span) -> dict[str, object]:
    return {
        one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value")
        for one in span.attributes
    }


def test_a_request_is_a_span_in_its_callers_trace(collector: Collector, tmp_path: Path) -> None:
    with serving_process(tmp_path) as gateway:
        parent = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "x-request-id": "mine"}
        chat = f"{gateway.url}/v1/chat/completions"
        answer = httpx.post(chat, json=HELLO, headers=parent, timeout=60)
        httpx.get(f"{gateway.url}/nowhere")
        wait_for(lambda: len(collector.spans) >= 2)
    by_path = {said(one)["url.path"]: one for one in collector.spans}
    span = by_path["/v1/chat/completions"]
    assert span.trace_id.hex() == TRACE
    assert span.name == "POST"
    told = said(span)
    assert (told["preceptor.request"], told["http.response.status_code"]) == ("mine", 200)
    assert told["preceptor.checkpoint"] == answer.headers["x-preceptor-checkpoint"]
    assert by_path["/nowhere"].trace_id.hex() != TRACE
    assert collector.services == {"preceptor"}
    # So that the model server's own spans, where it makes some, are of that trace too.
    [asked] = [one for one in gateway.events("arrived") if one["trace"]]
    assert asked["trace"].split("-")[1:3] == [TRACE, span.span_id.hex()]


def test_steps_are_spans_within_each_other(collector: Collector) -> None:
    subprocess.run([sys.executable, "-c", STEPS], cwd=ROOT, check=True, capture_output=True)
    spans = {one.name: one for one in collector.spans}
    assert spans.keys() == {"round", "train", "gate"}
    assert spans["train"].parent_span_id == spans["round"].span_id
    assert said(spans["train"]) == {
        "preceptor.run": "abc",
        "preceptor.total": 20,
        "preceptor.note": "done",
    }
    assert spans["gate"].status.code == spans["round"].status.code == 2  # ERROR
    assert spans["train"].status.code == 0


def test_nothing_is_traced_where_nothing_is_configured() -> None:
    assert not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    silent = Silent()
    assert tracing.traced(silent, {}) is silent
    assert tracing.headers() == {}
