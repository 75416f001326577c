"""The served student: which checkpoint it is, and the change to another without a lost answer."""

import asyncio
from collections.abc import Awaitable
from contextlib import closing

from pipelines.home import Home
from pipelines.store import checkpoints
from pipelines.store.checkpoints import CHAMPION, Move
from pipelines.store.connection import connect
from service.seat import ANSWER_LIMIT_S, Seat, Served, found
from teachers.engine import Engine, EngineSettings
from teachers.errors import PreceptorError
from teachers.progress import Progress

# How soon a promotion or a rollback is seen.
WATCH_EVERY_S = 1.0
NOBODY = "none"


def last_move(home: Home) -> Move | None:
    """The newest promotion or rollback; None before there was one."""
    if not home.store.is_file():
        return None
    with closing(connect(home.store)) as db:
        return checkpoints.last_move(db, CHAMPION)


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
        self._trouble = ""
        self._followed: Move | None = None
        """The alias' move that was done, or that could not be."""
        self.seat: Seat | None = None
        """Where it answers; None as long as there is nothing to serve."""

    @property
    def identity(self) -> str:
        """The checkpoint that answers now, `base`, or `none`."""
        return self.seat.identity if self.seat else NOBODY

    async def start(self) -> None:
        """Begin to serve, if there is something to serve."""
        move, served = await asyncio.to_thread(self._wanted)
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
        self.seat, self._followed = Seat(engine, served.identity, self._limit_s), move

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
        # Whatever is to be served next: who asks now needs a server.
        if not seat.engine.running:
            await seat.quietly(seat.engine.ensure)
        if await asyncio.to_thread(last_move, self._home) != self._followed:
            await self._change(seat)

    async def _change(self, seat: Seat) -> None:
        move, served = await asyncio.to_thread(self._wanted)
        if served is None:
            return
        if served.identity != seat.identity:
            try:
                await seat.change(served)
            except PreceptorError:
                # Tried again when it is promoted again: each try costs the server a restart.
                self._followed = move
                raise
            self._progress.say(f"now serving {served.identity[:12]}")
        self._followed = move

    def _wanted(self) -> tuple[Move | None, Served | None]:
        """What the alias points at now, and since which move.

        Raises:
            WeightsError: its files are not what was trained.
        """
        move = last_move(self._home)
        return move, found(self._home, move.checkpoint_id if move else None, self._progress)

    def _tell(self, trouble: str) -> None:
        """Say what is wrong once, not every second."""
        if trouble != self._trouble:
            self._trouble = trouble
            self._progress.say(trouble)
