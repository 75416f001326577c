"""The service's address: the API under /api/v1, and the gateway to the champion beside it."""

from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI, Request, Security
from fastapi.responses import Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel

from pipelines.home import Home
from pipelines.store import runs as queue
from service import metrics
from service.auth import Door, needs
from service.bounds import BoundedBody
from service.gateway import create_app as gateway
from service.problems import DOCUMENTED, Problem, explain_errors
from service.rooms import Rooms
from service.routes import (
    aliases,
    budgets,
    constitutions,
    events,
    examples,
    labels,
    previews,
    query,
    rows,
    runs,
    trials,
)
from service.routes.store import Store
from service.trail import Trail

PREFIX = "/api/v1"
# Where two have a path that fits, the first counts: /labels/next is no label's id.
PARTS = (
    *(runs.routes, labels.routes, rows.router(), constitutions.routes, previews.routes),
    *(aliases.routes, query.routes, events.routes, trials.routes, budgets.routes),
)


# For the specification; `needs` is what looks at it.
_BEARER = HTTPBearer(auto_error=False, description="What `preceptor token create` has printed.")


class Version(BaseModel):
    """What runs here."""

    preceptor: str
    api: str = "v1"


class Health(BaseModel):
    """That the store can be read, and what waits in its queue."""

    status: str = "ok"
    runs: dict[str, int]
    """By their state."""


class Api(FastAPI):
    """An application whose errors are problems, and documented as such."""

    def openapi(self) -> dict[str, Any]:
        spec = super().openapi()
        spec["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        examples.shown(spec)
        return spec


def create_app(home: Home, rooms: Rooms, door: Door) -> FastAPI:
    """API and gateway as one application.

    Args:
        rooms: who takes part in answering as a student.
        door: who may ask.
    """
    app = gateway(home, rooms, door)
    app.mount(PREFIX, create_api(home, door))
    app.add_middleware(Trail)

    @app.get("/metrics", dependencies=[Depends(needs("read"))])
    def figures() -> Response:
        return Response(metrics.exposed(home), media_type=metrics.CONTENT_TYPE)

    return app


def create_api(home: Home, door: Door) -> FastAPI:
    """The API alone; its paths count from where it is mounted."""
    api = Api(
        title="Preceptor",
        version="1",
        summary="Runs, what they made, and which checkpoint is served.",
        responses=DOCUMENTED,
        dependencies=[Security(_BEARER), Depends(needs("read"))],
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # which would need no token
        servers=[{"url": PREFIX}],
    )
    api.state.home, api.state.door = home, door
    explain_errors(api)
    api.add_middleware(BoundedBody)
    api.middleware("http")(_hardened)
    api.get("/health", operation_id="health", tags=["service"])(_health)
    api.get("/version", operation_id="version", tags=["service"])(_version)
    api.get("/openapi.json", include_in_schema=False)(api.openapi)
    for part in PARTS:
        api.include_router(part)
    return api


def _health(db: Store) -> Health:
    """Whether the store can be read; fails where it cannot."""
    return Health(runs=queue.counted(db))


def _version() -> Version:
    """What runs here."""
    return Version(preceptor=version("preceptor"))


async def _hardened(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
    """Headers that keep a browser from making more of an answer than it is."""
    response = await go_on(request)
    response.headers["x-content-type-options"] = "nosniff"
    response.headers["content-security-policy"] = "default-src 'none'; frame-ancestors 'none'"
    response.headers["referrer-policy"] = "no-referrer"
    return response
