"""What all long work shares: the home's lock, the store and its writer, one model server."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout
from sqlite_utils import Database

from pipelines.home import Home
from pipelines.recipe import EngineSection
from pipelines.store import calls
from pipelines.store.connection import connect, transaction
from pipelines.store.writer import Writer
from pipelines.training.job import RunFolder
from teachers.engine import Engine, EngineSettings
from teachers.errors import Busy
from teachers.progress import Progress
from teachers.sync import Probe
from teachers.weights import Weights, same_shape


class Workbench:
    """Entering it takes the home's lock; leaving it stops what it started.

    Args:
        home: where everything is kept.
        progress: who shows how far the work is.
        engine: how model servers are started.
        concurrency: most requests in flight at a server of ours.

    Raises:
        Busy: another process is at work in this home.
    """

    round_id = ""
    """Which round calls are made for; none outside of rounds."""

    def __init__(
        self,
        home: Home,
        progress: Progress,
        engine: EngineSection | None = None,
        *,
        concurrency: int = 32,
    ) -> None:
        self.home, self.progress = home, progress
        self._engine_section = engine or EngineSection()
        self._concurrency = concurrency
        self._engine: Engine | None = None
        self._started_from = ""
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        # What is open already is closed again if the rest cannot be opened.
        async with self._stack as stack:
            await self._open(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        stack.callback(_take_lock(self.home).release)
        self.db: Database = stack.enter_context(contextlib.closing(connect(self.home.store)))
        with transaction(self.db):
            self.lost_calls = calls.orphans_to_uncertain(self.db)
        stack.callback(self._abandon)
        self.writer = stack.enter_context(Writer(self.home.store))
        stack.push_async_callback(self.stop_engine)

    async def serving(self, weights: Weights) -> Engine:
        """A server that answers from `weights`. One runs at a time; a running one is given them
        where that can be proven, which takes a second, and another is started where not.

        Raises:
            SyncMismatch: the server does not answer from them after all.
        """
        probe = probe_of(weights)
        known = probe is not None or weights.fingerprint == self._started_from
        if self._engine is None or not (known and same_shape(weights, self._engine.weights)):
            await self.stop_engine()
            self._engine = self.another_engine(weights)
            self._started_from = weights.fingerprint
        await self._engine.ensure()
        await self._engine.load(weights, probe)
        return self._engine

    def another_engine(
        self, weights: Weights, name: str = "student", *, lora_rank: int = 0
    ) -> Engine:
        """A server as the recipe says; whoever asks for one starts and stops it."""
        return Engine(
            weights,
            self.home.root,
            settings=EngineSettings(**self._engine_section.model_dump(), lora_rank=lora_rank),
            concurrency=self._concurrency,
            name=name,
            progress=self.progress,
        )

    async def stop_engine(self) -> None:
        """Stop the server, if one runs: its memory or its GPU is wanted for something else."""
        if self._engine is not None:
            await self._engine.stop()
            self._engine = None

    async def stop_engine_on_gpu(self) -> None:
        """A GPU cannot hold the server's memory and a training run; a CPU machine can."""
        if self._engine is not None and self._engine.device == "gpu":
            await self.stop_engine()

    def _abandon(self) -> None:
        """Calls that were in flight when the work was stopped are listed, not forgotten."""
        with transaction(self.db):
            calls.orphans_to_uncertain(self.db, also=calls.owner())


def refuse_busy(home: Home) -> None:
    """See to it that nobody is at work in a home.

    Raises:
        Busy: somebody is.
    """
    _take_lock(home).release()


def _take_lock(home: Home) -> FileLock:
    folder = home.root / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    # One at a time: two can share calls, and would make them twice.
    lock = FileLock(folder / "round.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as held:
        raise Busy(
            "Another process is running a round or judging in this home.",
            hint="preceptor status shows how far.",
        ) from held
    return lock


class Onlooker(Workbench):
    """Sees what is stored while others are at work: it takes no lock, and may ask nobody."""

    async def _open(self, stack: contextlib.AsyncExitStack) -> None:
        self.db = stack.enter_context(contextlib.closing(connect(self.home.store)))


def probe_of(weights: Weights) -> Probe | None:
    """What the trainer measured on weights of our own making."""
    path = RunFolder(weights.path.parent).probe
    if not path.is_file():
        return None
    probe = Probe.read(path)
    return probe if weights.fingerprint in probe.logprobs else None


async def together(work: Callable[[], Coroutine[Any, Any, None]], many: int) -> None:
    """Run `work` as so many tasks. The first to fail ends the others, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(many):
                group.create_task(work())
    except ExceptionGroup as several:
        raise several.exceptions[0] from several
