"""Who takes part in answering as a student, put together."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from pipelines.home import Home
from service.champion import Champion
from service.fleet import Fleet
from service.limits import Limits
from service.options import Options
from service.probation import Probation
from service.recorder import Recorder
from service.shadow import Shadows
from service.traffic import Traffic
from teachers.engine import EngineSettings
from teachers.progress import Progress

AGAIN_S = 5.0


class Rooms(NamedTuple):
    """What stands between callers and model servers."""

    fleet: Fleet
    traffic: Traffic
    shadows: Shadows
    limits: Limits
    recorder: Recorder
    progress: Progress
    probation: Probation | None

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
        settings = settings or EngineSettings()
        settings = settings._replace(gpu_memory_share=options.gpu_share)
        most = options.most(settings.runs_on)
        champion = Champion(home, progress, settings, options.limit_s)
        limits = Limits(home)
        recorder = Recorder(home, limits, keep=options.keep_texts)
        traffic = Traffic(home, progress)
        fleet = Fleet(
            home,
            champion,
            progress,
            settings._replace(lora_slots=max(1, most)),
            most,
            options.limit_s,
            as_adapters=options.as_adapters(settings.runs_on),
            spared=traffic.candidate,
        )
        probation = Probation(home, progress) if options.rolls_back else None
        return cls(fleet, traffic, Shadows(recorder), limits, recorder, progress, probation)

    async def watch(self) -> None:
        """Keep all of them going; never returns."""
        watches: tuple[Callable[[], Awaitable[None]], ...] = (
            self.fleet.champion.watch,
            self.fleet.watch,
            partial(self.traffic.watch, self.fleet.champion),
            self.recorder.watch,
            *([self.probation.watch] if self.probation else []),
        )
        await asyncio.gather(*map(self._for_ever, watches))

    async def _for_ever(self, watch: Callable[[], Awaitable[None]]) -> None:
        """Whatever one of them meets, it goes on: nobody else watches."""
        while True:
            try:
                await watch()
            except Exception as error:
                self.progress.say(f"the service met {error!r} and goes on")
                await asyncio.sleep(AGAIN_S)

    async def stop(self) -> None:
        await self.shadows.stop()
        await self.fleet.stop()
        await self.fleet.champion.stop()
        await self.recorder.write()
