"""A candidate on trial: who of the champion's callers gets it, and when the trial has to end."""

import asyncio
import hashlib
import random
from collections.abc import Sequence
from contextlib import closing
from statistics import median

from pipelines.home import Home
from pipelines.store import exchanges, traffic
from pipelines.store.connection import connect, transaction
from pipelines.store.exchanges import Figures
from pipelines.store.traffic import Trial
from service.champion import Champion
from teachers.errors import StoreError
from teachers.progress import Progress

LOOK_EVERY_S = 1.0
LEAST = 20
"""Answers of each before anything is concluded from them."""
MOST_CHANCE = 0.01
SLOWER = 2.0
"""Times the champion's median time to the first token."""


class Traffic:
    """Follows the trial that runs, and ends it when the candidate does worse.

    Args:
        home: whose store has the trial.
        progress: who is told about its end.
    """

    def __init__(self, home: Home, progress: Progress) -> None:
        self._home, self._progress = home, progress
        self.trial: Trial | None = None
        self._ending: set[asyncio.Task[None]] = set()

    def candidate(self) -> str | None:
        """The checkpoint that is on trial."""
        return self.trial.checkpoint_id if self.trial else None

    def drawn(self, user: str | None) -> bool:
        """Whether a request is in the trial's share; of one user all are, or none.

        Args:
            user: None: nobody knows who asks, so each request is drawn anew.
        """
        if (trial := self.trial) is None:
            return False
        if user is None:
            return random.random() < trial.share
        drawn = hashlib.sha256(f"{trial.checkpoint_id} {user}".encode()).digest()
        return int.from_bytes(drawn[:8]) / 2**64 < trial.share

    async def watch(self, champion: Champion) -> None:
        """Look every second; never returns."""
        while True:
            await asyncio.to_thread(self._look, champion.identity)
            await asyncio.sleep(LOOK_EVERY_S)

    def end_soon(self, trial: Trial, why: str) -> None:
        """End a trial, while nobody waits for the store."""
        self.trial = None
        ending = asyncio.create_task(asyncio.to_thread(self._end, trial, why))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    def _look(self, champion: str) -> None:
        try:
            with closing(connect(self._home.store)) as db:
                self.trial = trial = traffic.current(db)
                if trial is None:
                    return
                ours = exchanges.of_candidate(db, trial.checkpoint_id, trial.started_at)
                theirs = exchanges.of_champion(db, trial.started_at)
        except StoreError:  # the next look sees it
            return
        if trial.checkpoint_id == champion:
            self._end(trial, "it was promoted")
        elif (why := worse(ours, theirs)) is not None:
            self._end(trial, why)

    def _end(self, trial: Trial, why: str) -> None:
        if self.trial == trial:
            self.trial = None
        with closing(connect(self._home.store)) as db, transaction(db):
            if traffic.end(db, why, trial.seq):
                self._progress.say(f"the {trial.kind} of {trial.checkpoint_id[:12]} ended: {why}")


def worse(candidate: Figures, champion: Figures) -> str | None:
    """Why a candidate should answer nobody any more; None if there is no reason.

    It fails more often than chance explains (Fisher's exact test, one-sided); or most of its
    answers fail, and there are too few of the champion's to compare with; or the first token of a
    stream takes `SLOWER` times as long, by the medians.
    """
    return fails_more(candidate, champion) or _slower(candidate.first_s, champion.first_s)


def fails_more(candidate: Figures, champion: Figures) -> str | None:
    """Why, if it fails too often; None if it does not."""
    if champion.n < LEAST <= candidate.n and 2 * candidate.failed > candidate.n:
        return f"{candidate.failed} of its {candidate.n} answers failed"
    if candidate.failed and candidate.n >= LEAST:
        chance = chance_of(candidate, champion)
        if chance < MOST_CHANCE:
            return (
                f"{candidate.failed} of its {candidate.n} answers failed, and {champion.failed} "
                f"of the champion's {champion.n} (p {chance:.2g})"
            )
    return None


def _slower(candidate: Sequence[float], champion: Sequence[float]) -> str | None:
    if min(len(candidate), len(champion)) < LEAST:
        return None
    ours, theirs = median(candidate), median(champion)
    if ours <= SLOWER * theirs:
        return None
    return f"its first token takes {ours:.2f} s, and the champion's {theirs:.2f} s (medians)"


def chance_of(candidate: Figures, champion: Figures) -> float:
    """The probability that so many of the failures, or more, fall to the candidate by chance."""
    from scipy.stats import hypergeom

    n, failed = candidate.n + champion.n, candidate.failed + champion.failed
    return float(hypergeom.sf(candidate.failed - 1, n, failed, candidate.n))
