"""OpenTelemetry, where OTEL_EXPORTER_OTLP_ENDPOINT says where to: spans of requests and of steps.

Everything about where and how is said by OpenTelemetry's own variables. Nothing of it is imported
where nothing is configured.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from teachers.progress import STOPPED, Progress

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_FAILED = 500
Said = str | bool | int | float


@cache
def _tracer() -> "Tracer | None":
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME", "preceptor")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer("preceptor")


@contextmanager
def request(method: str, path: str, headers: Mapping[str, str]) -> Iterator[dict[str, Said | None]]:
    """A request's span, a part of the caller's trace if its headers name one.

    Yields:
        What is to be said of it, to be filled by its end; what is None is left out.
    """
    said: dict[str, Said | None] = {}
    tracer = _tracer()
    if tracer is None:
        yield said
        return
    from opentelemetry.propagate import extract
    from opentelemetry.trace import SpanKind

    # Named by its method alone: a path has ids in it, and a name should be one of few.
    with tracer.start_as_current_span(
        method,
        context=extract(headers),
        kind=SpanKind.SERVER,
        attributes={"url.path": path},
    ) as span:
        try:
            yield said
        finally:
            _say(span, said)


def _say(span: "Span", said: Mapping[str, Said | None]) -> None:
    from opentelemetry.trace import StatusCode

    span.set_attributes({name: value for name, value in said.items() if value is not None})
    status = said.get("http.response.status_code")
    if status is None or int(status) >= _FAILED:
        span.set_status(StatusCode.ERROR)


def headers() -> dict[str, str]:
    """What a request to a model server takes along, so that it is a part of the same trace."""
    found: dict[str, str] = {}
    if _tracer() is not None:
        from opentelemetry.propagate import inject

        inject(found)
    return found


def traced(progress: Progress, ids: Mapping[str, str]) -> Progress:
    """The same progress, with a span for each step where spans are wanted.

    Args:
        ids: that every span has.
    """
    tracer = _tracer()
    return progress if tracer is None else _Traced(progress, tracer, ids)


class _Traced:
    """Progress whose steps are spans, one within the other."""

    def __init__(self, progress: Progress, tracer: "Tracer", ids: Mapping[str, str]) -> None:
        self._progress, self._tracer = progress, tracer
        self._ids = {f"preceptor.{name}": value for name, value in ids.items()}
        self._spans: list[Span] = []

    def begin(self, what: str, total: float | None = None) -> None:
        from opentelemetry.trace import set_span_in_context

        within = set_span_in_context(self._spans[-1]) if self._spans else None
        span = self._tracer.start_span(what, context=within, attributes=self._ids)
        if total is not None:
            span.set_attribute("preceptor.total", total)
        self._spans.append(span)
        self._progress.begin(what, total)

    def update(self, done: float, note: str = "") -> None:
        self._progress.update(done, note)

    def end(self, note: str = "") -> None:
        from opentelemetry.trace import StatusCode

        if self._spans:
            span = self._spans.pop()
            if note == STOPPED:
                span.set_status(StatusCode.ERROR)
            span.set_attribute("preceptor.note", note or "done")
            span.end()
        self._progress.end(note)

    def say(self, text: str) -> None:
        if self._spans:
            self._spans[-1].add_event(text)
        self._progress.say(text)
