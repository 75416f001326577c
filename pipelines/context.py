"""What the stages of a round share: the recipe, the store, the model server, the verifiers."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout
from sqlite_utils import Database

from judges.verifiers.pool import Pool
from pipelines.home import Home
from pipelines.recipe import Recipe
from pipelines.store import calls, rounds
from pipelines.store.connection import connect, transaction
from pipelines.store.writer import Writer
from teachers.engine import Engine, EngineSettings
from teachers.errors import PreceptorError
from teachers.files import sha256_of
from teachers.progress import Progress
from teachers.records import content_id
from teachers.weights import Weights, prepare

VERIFIER_PROCESSES = 2


class Context:
    """One round's workbench. Entering it takes the home's lock; leaving it stops what it started.

    Args:
        recipe: what the round is.
        home: where everything is kept.
        progress: who shows how far it is.
        number: which round of this recipe.

    Raises:
        PreceptorError: another process is running a round in this home.
    """

    def __init__(self, recipe: Recipe, home: Home, progress: Progress, number: int = 1) -> None:
        self.recipe, self.home, self.progress, self.number = recipe, home, progress, number
        self.base = prepare(recipe.student.weights, home.root, progress)
        self.round_id = content_id(
            "round",
            [recipe.model_dump(mode="json"), self.base.fingerprint, number, _read(recipe)],
        )
        self._engine: Engine | None = None
        self._engine_base = ""
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        # What is open already is closed again if the rest cannot be opened.
        async with self._stack as stack:
            stack.callback(self._take_lock().release)
            self.db: Database = stack.enter_context(contextlib.closing(connect(self.home.store)))
            with transaction(self.db):
                self.lost_calls = calls.orphans_to_uncertain(self.db)
            stack.callback(self._abandon)
            self.writer = stack.enter_context(Writer(self.home.store))
            self.pool = await stack.enter_async_context(Pool(VERIFIER_PROCESSES))
            stack.push_async_callback(self.stop_engine)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    def report(self, stage: str) -> dict[str, Any]:
        """What an earlier stage of this round reported; the flow puts it before whoever asks."""
        report = rounds.report_of(self.db, self.round_id, stage)
        assert report is not None, f"the stage {stage} comes first"
        return report

    async def engine(self, base: Weights) -> Engine:
        """A running server for `base` and checkpoints of the same shape; one at a time."""
        if self._engine is None or self._engine_base != base.fingerprint:
            await self.stop_engine()
            section = self.recipe.engine
            self._engine = Engine(
                base,
                self.home.root,
                settings=EngineSettings(**section.model_dump()),
                concurrency=self.recipe.teacher.concurrency,
                progress=self.progress,
            )
            self._engine_base = base.fingerprint
        await self._engine.ensure()
        return self._engine

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
        """Calls that were in flight when the round was stopped are listed, not forgotten."""
        with transaction(self.db):
            calls.orphans_to_uncertain(self.db, also=calls.owner())

    def _take_lock(self) -> FileLock:
        folder = self.home.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        # One round at a time: two of them can share calls, and would make them twice.
        lock = FileLock(folder / "round.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as held:
            raise PreceptorError(
                "Another process is running a round in this home.",
                hint="preceptor status shows how far.",
            ) from held
        return lock


def _read(recipe: Recipe) -> list[str]:
    """What the recipe's files hold: a changed file makes another round."""
    paths = [file.path for file in recipe.supply.files]
    return [sha256_of(path) if path.is_file() else "" for path in paths]


async def together(work: Callable[[], Coroutine[Any, Any, None]], many: int) -> None:
    """Run `work` as so many tasks. The first to fail ends the others, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(many):
                group.create_task(work())
    except ExceptionGroup as several:
        raise several.exceptions[0] from several
