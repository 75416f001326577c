"""Every student that can be asked by name: the champion, and others while somebody asks them."""

import asyncio
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import NoReturn

import psutil

from pipelines.home import Home
from pipelines.store import names
from pipelines.store.checkpoints import CHAMPION
from pipelines.store.connection import connect
from pipelines.store.names import Name
from service.adapters import Adapters, adapted
from service.champion import NOBODY, Champion
from service.seat import ANSWER_LIMIT_S, BASE, Seat, Served, found
from teachers.engine import Engine, EngineSettings
from teachers.errors import CallRefused, PreceptorError
from teachers.progress import Progress
from teachers.sync import agree
from teachers.weights import Weights

GIB = 1024**3
IDLE_S = 600.0
"""A server beside the champion's is stopped when nobody has asked it for so long."""
# What vLLM's processes held on a CPU beyond weights and key-value cache, for the packaged model:
# 5.0 GB in all, with 0.3 GB of weights and a cache of 2 GiB.
OVERHEAD_BYTES = 2.6e9


class NoRoom(PreceptorError):
    """This machine has no memory, or no place, for one more model server."""


class Fleet:
    """Where each checkpoint is asked that somebody asks.

    Args:
        home: whose students.
        champion: who serves what `champion` stands for.
        progress: who is told about starts and stops.
        settings: how servers are started.
        most: students beside the champion, at most.
        limit_s: longest that an answer may take.
        as_adapters: whether those of one base answer from one server, where they can.
        spared: names the checkpoint whose server stays, however seldom it is asked.
    """

    def __init__(
        self,
        home: Home,
        champion: Champion,
        progress: Progress,
        settings: EngineSettings | None = None,
        most: int = 1,
        limit_s: float = ANSWER_LIMIT_S,
        *,
        as_adapters: bool = False,
        spared: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._home, self._progress, self._most = home, progress, most
        self._spared = spared
        self._limit_s = limit_s
        self._settings = settings = settings or EngineSettings()
        self._as_adapters = as_adapters
        self._adapters = Adapters(home.root, settings, progress, limit_s)
        self._seats: dict[str, Seat] = {}
        self._starting: dict[str, asyncio.Task[Seat]] = {}
        self._failed: dict[str, PreceptorError] = {}
        self._turn = asyncio.Lock()
        self.champion = champion

    def names(self) -> list[Name]:
        """What may be asked for; nothing as long as nothing was promoted."""
        if not self._home.store.is_file():
            return []
        with closing(connect(self._home.store)) as db:
            return names.names(db)

    async def seat(self, name: str) -> Seat | None:
        """The server that answers to a name; started first if need be. None: nobody answers yet.

        Raises:
            ConfigError: nothing is called that.
            NoRoom: one more server would not fit.
            EngineError: the server did not start.
        """
        if name == CHAMPION or self.champion.identity == NOBODY:
            return self.champion.seat
        identity = await asyncio.to_thread(self._identity, name)
        # Who hangs up does not stop it for the others who wait.
        return self._running(identity) or await asyncio.shield(self._start(identity))

    def soon(self, identity: str) -> Seat | None:
        """The server of a checkpoint if it runs; if not, it is on its way.

        Raises:
            PreceptorError: it did not start, though there was room; the next call tries again.
        """
        if (seat := self._running(identity)) is not None:
            return seat
        if (failed := self._failed.pop(identity, None)) is not None:
            raise failed
        if identity not in self._starting:
            self._start(identity).add_done_callback(partial(self._remember, identity))
        return None

    def _running(self, identity: str) -> Seat | None:
        if identity == self.champion.identity:
            return self.champion.seat
        seat = self._seats.get(identity)
        return seat if seat is not None and seat.engine.running else None

    def _start(self, identity: str) -> asyncio.Task[Seat]:
        task = self._starting.get(identity)
        if task is None:
            task = self._starting[identity] = asyncio.create_task(self._started(identity))
            task.add_done_callback(partial(self._ended, identity))
        return task

    def _ended(self, identity: str, task: asyncio.Task[Seat]) -> None:
        del self._starting[identity]
        if not task.cancelled():
            task.exception()  # whoever waits is told; nobody may

    def _remember(self, identity: str, task: asyncio.Task[Seat]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, PreceptorError) and not isinstance(error, NoRoom):
            self._failed[identity] = error

    async def watch(self) -> None:
        """Stop servers that nobody asks any more; never returns."""
        while True:
            await asyncio.sleep(1.0)
            for identity in self._idle():
                # Those before it took their time to stop: somebody may have come.
                seat = self._seats.get(identity)
                if seat is None or seat.line.busy:
                    continue
                if time.monotonic() - seat.used_at > IDLE_S:
                    await self._dismiss(identity)

    def _idle(self) -> list[str]:
        """Servers that may be stopped, the longest unused first."""
        some = [one for one in self._seats if not self._seats[one].line.busy]
        return sorted(
            (one for one in some if one != self._spared()),
            key=lambda one: self._seats[one].used_at,
        )

    async def stop(self) -> None:
        starting = list(self._starting.values())
        for task in starting:
            task.cancel()
        await asyncio.gather(*starting, return_exceptions=True)
        for identity in list(self._seats):
            await self._dismiss(identity)

    def _identity(self, name: str) -> str:
        with closing(connect(self._home.store)) as db:
            return names.named(db, name) or BASE

    async def _started(self, identity: str) -> Seat:
        async with self._turn:
            await self._dismiss(identity)
            seat = await self._beside_others(identity) if self._as_adapters else None
            seat = self._seats[identity] = seat or await self._alone(identity)
            self._progress.say(f"also serving {identity[:12]}")
            return seat

    async def _beside_others(self, identity: str) -> Seat | None:
        """A seat at a server that others of its base share; None if it takes no part there."""
        device = self._settings.runs_on
        one = await asyncio.to_thread(adapted, self._home, identity, device, self._progress)
        if one is None:
            return None
        shared = self._adapters.has_server(one)
        await self._make_room(0.0 if shared else needed_bytes(one.base, self._settings))
        try:
            return await self._adapters.seat(one)
        except CallRefused as refused:
            self._progress.say(f"{identity[:12]} gets a server of its own: {refused.message}")
            return None

    async def _alone(self, identity: str) -> Seat:
        """A seat at a server of its own, which has read the merged copy."""
        served = await asyncio.to_thread(self._found, identity)
        await self._make_room(needed_bytes(served.weights, self._settings))
        engine = Engine(
            served.weights,
            self._home.root,
            settings=self._settings,
            name=identity,
            progress=self._progress,
        )
        try:
            await engine.start()
            after = await engine.client.logprobs(served.probe.tokens)
            wanted = served.probe.logprobs[served.weights.fingerprint]
            agree(identity[:12], wanted, None, None, after)
        except BaseException:
            await engine.stop()
            raise
        return Seat(engine, identity, self._limit_s)

    def _found(self, identity: str) -> Served:
        served = found(self._home, None if identity == BASE else identity, self._progress)
        assert served is not None, "whoever has a name has weights"
        return served

    async def _make_room(self, need: float) -> None:
        """Dismiss students nobody waits for, the longest unused first, until one more fits.

        Args:
            need: memory that it takes, in bytes.
        """
        while len(self._seats) >= self._most or free_bytes() < need:
            if not (idle := self._idle()):
                self._refuse(need)
            await self._dismiss(idle[0])

    def _refuse(self, need: float) -> NoReturn:
        if len(self._seats) >= self._most:
            raise NoRoom(
                f"Other students are being asked, and at most {self._most} beside the champion "
                "can be.",
                hint="preceptor serve --others N serves more, memory permitting.",
            )
        raise NoRoom(
            f"One more model server needs about {need / GIB:.1f} GiB of memory, and "
            f"{free_bytes() / GIB:.1f} GiB are free."
        )

    async def _dismiss(self, identity: str) -> None:
        if (seat := self._seats.pop(identity, None)) is not None:
            await seat.stop()
            self._progress.say(f"no longer serving {identity[:12]}")


def needed_bytes(weights: Weights, settings: EngineSettings) -> float:
    """What one more server on this CPU takes: weights, key-value cache, and the programs."""
    size = sum(one.stat().st_size for one in weights.path.glob("*.safetensors"))
    return size + settings.kv_cache_gib * GIB + OVERHEAD_BYTES


def free_bytes() -> float:
    """Memory that programs can still have."""
    return float(psutil.virtual_memory().available)
