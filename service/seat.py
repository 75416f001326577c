"""A model server, a checkpoint that answers there, and the line in front of it."""

import json
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any, NamedTuple

import aiohttp

from pipelines import copies
from pipelines.home import Home
from pipelines.store import checkpoints
from pipelines.store.checkpoints import Base
from pipelines.store.connection import connect
from pipelines.training.job import RunFolder
from service import tracing
from service.line import Line
from teachers.engine import Engine
from teachers.errors import PreceptorError
from teachers.progress import Progress
from teachers.sync import Probe
from teachers.weights import Weights, checked

BASE = "base"
ANSWER_LIMIT_S = 600.0
LOST = (aiohttp.ClientError, TimeoutError)
"""How it shows that a model server is not there, or hung up."""


class Served(NamedTuple):
    """What is to be served: weights, what the trainer measured on them, and a name for them."""

    weights: Weights
    probe: Probe
    identity: str
    """The checkpoint's id, or `base`."""


def found(home: Home, identity: str | None, progress: Progress) -> Served | None:
    """A checkpoint by its id, or the base; None before there is a store or a base.

    Raises:
        ConfigError: there is no such checkpoint.
        WeightsError: its files are not what was trained.
    """
    if not home.store.is_file():
        return None
    with closing(connect(home.store)) as db:
        if identity is None:
            base = checkpoints.last_base(db)
            return _base(base) if base else None
        checkpoint = checkpoints.checkpoint(db, identity)
        weights = copies.merged(db, checkpoint, progress)
    return Served(weights, Probe.read(RunFolder(checkpoint.merged.parent).probe), checkpoint.id)


def _base(base: Base) -> Served:
    return Served(checked(base.path), Probe.read(base.run_folder / "probe.json"), BASE)


class Seat:
    """Where one checkpoint at a time is asked.

    Args:
        engine: the model server; it runs already.
        identity: the checkpoint's id, or `base`.
        limit_s: longest that an answer may take, its end included.
        model: what the checkpoint is called there, if others answer from the same server.
        end: called when nobody is to be asked here any more; usually that stops the server.
    """

    def __init__(
        self,
        engine: Engine,
        identity: str,
        limit_s: float = ANSWER_LIMIT_S,
        *,
        model: str = "",
        end: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.engine = engine
        self.identity = identity
        self._model, self._end = model or engine.name, end or engine.stop
        self.since = time.time()
        """When it came to this checkpoint, in seconds since 1970."""
        self.limit_s = limit_s
        self.line = Line(engine.settings.max_num_seqs)
        self.used_at = time.monotonic()
        self.gone = False
        """Whether it was stopped: whoever has waited for a place has to ask again."""
        self._http = aiohttp.ClientSession(
            # Model servers close what is idle for 5 s: no request is sent into that moment.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=3.0),
            timeout=aiohttp.ClientTimeout(total=limit_s, sock_connect=5.0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def send(
        self, path: str, body: dict[str, Any], request_id: str
    ) -> aiohttp.ClientResponse:
        """Forward a request; the answer's body is still to be read, or to be closed.

        Args:
            path: the server's route.
            body: without `model`.
            request_id: the answer's id is made of it.

        Raises:
            One of `LOST`: the server is not there, or hung up.
        """
        whole = json.dumps({"model": self._model, **body}, separators=(",", ":"))
        self.used_at = time.monotonic()
        answer = await self._http.post(
            f"http://127.0.0.1:{self.engine.port}{path}",
            data=whole.encode(),
            # The answer is passed on as it comes, so it must not come compressed.
            headers={
                "Authorization": f"Bearer {self.engine.key}",
                "Content-Type": "application/json",
                "Accept-Encoding": "identity",
                "X-Request-Id": request_id,
                **tracing.headers(),
            },
        )
        self.engine.worked()
        return answer

    async def change(self, served: Served) -> None:
        """Answer from another checkpoint, once the answers under way are finished.

        Raises:
            SyncMismatch: the server does not serve it; it goes on with what it served.
        """

        async def load() -> None:
            try:
                await self.engine.load(served.weights, served.probe)
            except PreceptorError:
                # What cannot be proven is ended; those who wait are answered as before.
                await self.engine.ensure()
                raise
            self.identity, self.since = served.identity, time.time()

        await self.quietly(load)

    async def quietly(self, act: Callable[[], Awaitable[None]]) -> None:
        """Act while no request is in front of the server."""
        async with self.line.shut(empty=self.engine.running):
            await act()

    async def stop(self) -> None:
        self.gone = True
        await self._http.close()
        await self._end()
