"""A new champion, looked at for a while: if it fails, the one before answers again."""

import asyncio
import time
from contextlib import closing, suppress

from sqlite_utils import Database

from pipelines.home import Home
from pipelines.store import checkpoints, exchanges, tokens
from pipelines.store.checkpoints import CHAMPION, ROLLBACK, Move
from pipelines.store.connection import connect, transaction
from service.traffic import LOOK_EVERY_S, fails_more
from teachers.errors import StoreError
from teachers.progress import Progress

LASTS_S = 3600.0
BEFORE_S = 86400.0
"""How far back the answers of the one before it are looked at."""
_WHO = "probation"


class Probation:
    """Rolls a promotion back when the new champion fails more often than chance explains, the one
    before it being the measure.

    How long they take is not compared: they do not answer side by side, as in a trial, and whoever
    has more to answer takes longer.

    Args:
        home: whose champion.
        progress: who is told about a rollback.
    """

    def __init__(self, home: Home, progress: Progress) -> None:
        self._home, self._progress = home, progress

    async def watch(self) -> None:
        """Look every second; never returns."""
        while True:
            # What cannot be read now is seen by the next look.
            with suppress(StoreError):
                await asyncio.to_thread(self.look)
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self) -> None:
        """Roll the last promotion back, if there is reason to."""
        if not self._home.store.is_file():
            return
        with closing(connect(self._home.store)) as db:
            move = checkpoints.last_move(db, CHAMPION)
            if move is None or (why := _reason(db, move)) is None:
                return
            with transaction(db):
                if checkpoints.last_move(db, CHAMPION) != move:
                    return  # somebody was quicker
                checkpoints.roll_back(db)
                what = f"the champion {str(move.checkpoint_id)[:12]} was rolled back: {why}"
                tokens.audit(db, _WHO, what)
            self._progress.say(what)


def _reason(db: Database, move: Move) -> str | None:
    """Why a promotion should be undone; None if there is no reason, or it was none."""
    if move.why == ROLLBACK or time.time() - move.at > LASTS_S:
        return None
    before = checkpoints.last_move(db, CHAMPION, before=move.seq)
    if before is None or None in (move.checkpoint_id, before.checkpoint_id):
        return None
    if before.checkpoint_id == move.checkpoint_id:
        return None
    ours = exchanges.of_champion(db, move.at, who=move.checkpoint_id)
    if not ours.failed:
        return None  # usually; a day of answers is not counted every second for that
    since = move.at - BEFORE_S
    return fails_more(ours, exchanges.of_champion(db, since, move.at, before.checkpoint_id))
