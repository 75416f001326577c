"""What happens, as it happens: server-sent events, that go on after the last one that was seen."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from pipelines.home import Home
from pipelines.store import events
from pipelines.store.connection import connect
from pipelines.store.events import Event
from service.routes.store import InHome

routes = APIRouter(prefix="/events", tags=["events"])

POLL_S = 0.5
# Proxies close what is silent for long.
HEARTBEAT_S = 15.0


@routes.get(
    "",
    operation_id="follow_events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def follow(
    request: Request,
    place: InHome,
    last_event_id: Annotated[int | None, Header(ge=0, le=2**62)] = None,
    after: Annotated[
        int | None, Query(ge=0, le=2**62, description="As the header Last-Event-ID.")
    ] = None,
    once: Annotated[bool, Query(description="End after what has happened by now.")] = False,
) -> StreamingResponse:
    """Changes of runs, rounds, stages, checkpoints, promotions and aliases.

    Without a number it begins with what happens from now on.
    """
    seen = last_event_id if last_event_id is not None else after

    def still_welcome() -> None:
        request.app.state.door.check(request, "read")

    return StreamingResponse(
        _stream(place, seen, still_welcome, once=once),
        media_type="text/event-stream",
        headers={"cache-control": "no-store"},
    )


async def _stream(
    home: Home, seen: int | None, still_welcome: Callable[[], None], *, once: bool
) -> AsyncIterator[str]:
    with closing(await run_in_threadpool(connect, home.store)) as db:
        place = events.last(db) if seen is None else seen
        told = time.monotonic()
        while True:
            try:
                await run_in_threadpool(still_welcome)
            except HTTPException:  # the token was revoked meanwhile
                return
            found = events.since(db, place)
            for one in found:
                yield _as_sse(one)
                place = one.seq
            if found:
                told = time.monotonic()
            elif once:
                return
            elif time.monotonic() - told > HEARTBEAT_S:
                told = time.monotonic()
                yield ": still here\n\n"
            else:
                await asyncio.sleep(POLL_S)


def _as_sse(event: Event) -> str:
    said = {"subject": event.subject, "what": event.what, "at": event.at}
    return f"id: {event.seq}\nevent: {event.kind}\ndata: {json.dumps(said)}\n\n"
