"""The served student: which checkpoint it is, and the change to another without a lost answer."""

import asyncio
from collections.abc import Awaitable
from contextlib import closing

from pipelines.home import Home
from pipelines.store import checkpoints
from pipelines.store.checkpoints import CHAMPION
from pipelines.store.connection import connect
from service.seat import ANSWER_LIMIT_S, Seat, Served, found
from teachers.engine import Engine, EngineSettings
from teachers.errors import PreceptorError
from teachers.progress import Progress

# How soon a promotion or a rollback is seen.
WATCH_EVERY_S = 1.0
NOBODY = "none"


def wanted(home: Home, progress: Progress) -> Served | None:
    """What the alias `champion` points at now; None before anything was promoted.

    Raises:
        WeightsError: its files are not what was trained.
    """
    if not home.store.is_file():
        return None
    with closing(connect(home.store)) as db:
        current = checkpoints.champion_id(db)
    return found(home, current, progress)


class Champion:
    """A model server that always answers from what `champion` points at, once there is such a
    thing.

    A change waits until the answers under way are finished, and new requests wait until the change
    is done and proven.

    Args:
        home: whose champion.
        progress: who is told about starts, changes and what stands in their way.
        settings: how the server is started.
        limit_s: longest that an answer may take.
    """

    name = CHAMPION

    def __init__(
        self,
        home: Home,
        progress: Progress,
        settings: EngineSettings | None = None,
        limit_s: float = ANSWER_LIMIT_S,
    ) -> None:
        self._home, self._settings, self._progress = home, settings, progress
        self._limit_s = limit_s
        self._refused = self._trouble = ""
        self.seat: Seat | None = None
        """Where it answers; None as long as there is nothing to serve."""

    @property
    def identity(self) -> str:
        """The checkpoint that answers now, `base`, or `none`."""
        return self.seat.identity if self.seat else NOBODY

    async def start(self) -> None:
        """Begin to serve, if there is something to serve."""
        served = wanted(self._home, self._progress)
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
        self.seat = Seat(engine, served, self._limit_s)

    async def stop(self) -> None:
        if self.seat is not None:
            await self.seat.stop()

    async def watch(self) -> None:
        """Follow the alias, and bring the server back when it dies; never returns."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            try:
                await self._follow()
            except Exception as error:  # whatever it meets: nobody else watches
                what = error.message if isinstance(error, PreceptorError) else repr(error)
                self._tell(f"still serving {self.identity[:12]}: {what}")

    def _follow(self) -> Awaitable[None]:
        return self.start() if self.seat is None else self._keep(self.seat)

    async def _keep(self, seat: Seat) -> None:
        served = wanted(self._home, self._progress)
        if not seat.engine.running:
            await seat.quietly(seat.engine.ensure)
        elif served is not None and served.identity not in (self.identity, self._refused):
            await self._change(seat, served)

    async def _change(self, seat: Seat, served: Served) -> None:
        try:
            await seat.change(served)
        except PreceptorError:
            # Tried again when it is promoted again: each try costs the server a restart.
            self._refused = served.identity
            raise
        self._refused = ""
        self._progress.say(f"now serving {served.identity[:12]}")

    def _tell(self, trouble: str) -> None:
        """Say what is wrong once, not every second."""
        if trouble != self._trouble:
            self._trouble = trouble
            self._progress.say(trouble)
