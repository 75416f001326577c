"""Child process of a worker: one round of a run, from where it stands to its end.

    python -m service.turn RUN TOKEN

It ends with 0 if the round is done, or if a person has to look, which it writes down; with `BUSY`
if somebody else is at work in this home; with anything else if it failed and may be tried again.
"""

import asyncio
import sys
from contextlib import closing

from pipelines.home import Home
from pipelines.loop import take_turn
from pipelines.store import runs
from pipelines.store.connection import connect, transaction
from pipelines.store.runs import Lease
from service import output
from service.interrupts import term_interrupts
from service.logs import told
from teachers.errors import (
    Busy,
    ConfigError,
    GuardTripped,
    LeaseLost,
    PreceptorError,
    RoundStopped,
    StoreFull,
    Uncertified,
    WeightsError,
)

BUSY, FAILED, INTERRUPTED = 75, 1, 130
# What does not get better by trying again.
_FOR_A_PERSON = (ConfigError, WeightsError, GuardTripped, RoundStopped, Uncertified, StoreFull)


def main(run_id: str, token: int) -> int:
    """Returns the exit code."""
    home, lease = Home.find(), Lease(run_id, token)
    try:
        asyncio.run(take_turn(lease, home, told(output.console(), run=run_id)))
    except Busy:
        return BUSY
    except KeyboardInterrupt:
        return INTERRUPTED
    except _FOR_A_PERSON as stopped:
        with closing(connect(home.store)) as db, transaction(db):
            runs.let_go(db, lease, "stopped", str(stopped))
    except PreceptorError as failed:
        print(f"error: {failed}", file=sys.stderr)
        return 0 if isinstance(failed, LeaseLost) else FAILED
    return 0


if __name__ == "__main__":
    term_interrupts()
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
