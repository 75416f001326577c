"""Who takes part in answering as a student, put together."""

import asyncio
from typing import NamedTuple

from pipelines.home import Home
from service.champion import Champion
from service.fleet import Fleet
from service.limits import Limits
from service.options import Options
from service.recorder import Recorder
from service.shadow import Shadows
from service.traffic import Traffic
from teachers.engine import EngineSettings
from teachers.progress import Progress


class Rooms(NamedTuple):
    """What stands between callers and model servers."""

    fleet: Fleet
    traffic: Traffic
    shadows: Shadows
    limits: Limits
    recorder: Recorder

    @classmethod
    def of(
        cls,
        home: Home,
        progress: Progress,
        settings: EngineSettings | None,
        options: Options,
    ) -> "Rooms":
        """Those of a home.

        Args:
            settings: how model servers are started.
        """
        champion = Champion(home, progress, settings, options.limit_s)
        limits = Limits(home)
        recorder = Recorder(home, limits, keep=options.keep_texts)
        fleet = Fleet(home, champion, progress, settings, options.others, options.limit_s)
        return cls(fleet, Traffic(home, progress), Shadows(recorder), limits, recorder)

    async def watch(self) -> None:
        """Keep all of them going; never returns."""
        await asyncio.gather(
            self.fleet.champion.watch(),
            self.fleet.watch(),
            self.traffic.watch(self.fleet.champion),
            self.recorder.watch(),
        )

    async def stop(self) -> None:
        await self.shadows.stop()
        await self.fleet.stop()
        await self.fleet.champion.stop()
        await self.recorder.write()
