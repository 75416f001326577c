"""The served student: which checkpoint it is, and the change to another without a lost answer."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

import httpx

from pipelines.home import Home
from pipelines.store import checkpoints
from pipelines.store.checkpoints import CHAMPION, Base
from pipelines.store.connection import connect
from pipelines.training.job import RunFolder
from teachers.engine import Engine, EngineSettings
from teachers.errors import ConfigError, PreceptorError
from teachers.progress import Progress
from teachers.sync import Probe
from teachers.weights import Weights, checked

# How soon a promotion or a rollback is seen.
WATCH_EVERY_S = 1.0
NOBODY = "none"


class Served(NamedTuple):
    """What is to be served: weights, what the trainer measured on them, and a name for them."""

    weights: Weights
    probe: Probe
    identity: str
    """The checkpoint's id, or `base`."""


def wanted(home: Home) -> Served | None:
    """What the alias `champion` points at now; None before anything was promoted.

    Raises:
        ConfigError: its files are not what was trained.
    """
    if not home.store.is_file():
        return None
    with contextlib.closing(connect(home.store)) as db:
        current = checkpoints.champion_id(db)
        if current is None:
            base = checkpoints.last_base(db)
            return _base(base) if base else None
        checkpoint = checkpoints.checkpoint(db, current)
    weights = checked(checkpoint.merged)
    if weights.fingerprint != checkpoint.weights:
        raise ConfigError(
            f"{checkpoint.merged} is not what was trained: its files have changed.",
            hint="preceptor rollback serves the checkpoint before it.",
        )
    return Served(weights, Probe.read(RunFolder(checkpoint.merged.parent).probe), checkpoint.id)


def _base(base: Base) -> Served:
    return Served(checked(base.path), Probe.read(base.run_folder / "probe.json"), "base")


class Champion:
    """An engine that always answers from what `champion` points at, once there is such a thing.

    A change waits until the answers under way are finished, and new requests wait until the change
    is done and proven.

    Args:
        home: whose champion.
        progress: who is told about starts, changes and what stands in their way.
        settings: how the engine is started.
    """

    name = CHAMPION

    def __init__(
        self, home: Home, progress: Progress, settings: EngineSettings | None = None
    ) -> None:
        self._home, self._settings = home, settings
        self._served: Served | None = None
        self._engine: Engine | None = None
        self._refused = self._trouble = ""
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._open = asyncio.Event()
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(600.0, connect=5.0), trust_env=False)
        self._progress = progress
        self.since = time.time()

    @property
    def identity(self) -> str:
        """The checkpoint that answers now, `base`, or `none`."""
        return self._served.identity if self._served else NOBODY

    @property
    def ready(self) -> bool:
        return self._open.is_set()

    async def start(self) -> None:
        """Begin to serve, if there is something to serve."""
        served = wanted(self._home)
        if served is None:
            return
        engine = Engine(
            served.weights,
            self._home.root,
            settings=self._settings,
            name=CHAMPION,
            progress=self._progress,
        )
        await engine.start()
        self._served, self._engine, self.since = served, engine, time.time()
        self._open.set()

    async def stop(self) -> None:
        await self._http.aclose()
        if self._engine is not None:
            await self._engine.stop()

    async def enter(self) -> None:
        """Wait for a place in front of the engine; every `enter` needs its `leave`."""
        await self._open.wait()
        self._in_flight += 1
        self._idle.clear()

    def leave(self) -> None:
        self._in_flight -= 1
        if self._in_flight == 0:
            self._idle.set()

    async def send(self, body: dict[str, Any]) -> httpx.Response:
        """Forward a chat request; the answer's body is still to be read."""
        assert self._engine is not None, "whoever has entered has found somebody"
        request = self._http.build_request(
            "POST",
            f"http://127.0.0.1:{self._engine.port}/v1/chat/completions",
            json=body,
            # The answer is passed on byte by byte, so it must not come compressed.
            headers={
                "Authorization": f"Bearer {self._engine.key}",
                "Accept-Encoding": "identity",
            },
        )
        answer = await self._http.send(request, stream=True)
        self._engine.worked()
        return answer

    async def watch(self) -> None:
        """Follow the alias, and bring the engine back when it dies; never returns."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            try:
                await self._follow()
            except Exception as error:  # whatever it meets: nobody else watches
                what = error.message if isinstance(error, PreceptorError) else repr(error)
                self._tell(f"still serving {self.identity[:12]}: {what}")

    async def _follow(self) -> None:
        if self._engine is None:
            await self.start()
            return
        served = wanted(self._home)
        if not self._engine.running:
            await self._quietly(self._engine, self._engine.ensure)
        elif served is not None and served.identity not in (self.identity, self._refused):
            await self._quietly(self._engine, partial(self._change, self._engine, served))

    def _tell(self, trouble: str) -> None:
        """Say what is wrong once, not every second."""
        if trouble != self._trouble:
            self._trouble = trouble
            self._progress.say(trouble)

    async def _quietly(self, engine: Engine, act: Callable[[], Awaitable[None]]) -> None:
        """Act while no request is in front of the engine."""
        self._open.clear()
        try:
            if engine.running:
                await self._idle.wait()
            await act()
        finally:
            self._open.set()

    async def _change(self, engine: Engine, served: Served) -> None:
        try:
            await engine.load(served.weights, served.probe)
        except PreceptorError:
            # Tried again when it is promoted again: each try costs the engine a restart.
            self._refused = served.identity
            raise
        self._served, self._refused, self.since = served, "", time.time()
        self._progress.say(f"now serving {served.identity[:12]}")
