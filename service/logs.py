"""What is told as lines of JSON, for programs that collect logs: PRECEPTOR_LOG=json.

A line is an object: `at` in ISO 8601 and UTC, the `event`, the ids that it belongs to, and what
happened.
"""

import json
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO

from rich.console import Console

from service.progress import LOG_EVERY_S, Shown
from service.tracing import traced
from teachers.progress import Progress

VARIABLE = "PRECEPTOR_LOG"


def as_json() -> bool:
    """Whether the environment asks for lines of JSON."""
    return os.environ.get(VARIABLE, "") == "json"


def told(console: Console, **ids: str) -> Progress:
    """Progress for whoever reads here: a program, or people.

    Args:
        ids: what it is the progress of, as `run`.
    """
    shown = Lines(console.file, ids) if as_json() else Shown(console)
    return traced(shown, ids)


class Lines:
    """Writes lines, progress among them.

    Args:
        out: where to.
        ids: that every line has.
    """

    def __init__(self, out: IO[str], ids: Mapping[str, str]) -> None:
        self._out, self._ids = out, dict(ids)
        self._steps: list[tuple[str, float | None, float]] = []
        self._moved_at = 0.0

    def write(self, event: str, **said: object) -> None:
        """One line."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._out.write(json.dumps({"at": at, "event": event, **self._ids, **said}) + "\n")
        self._out.flush()

    def begin(self, what: str, total: float | None = None) -> None:
        self._steps.append((what, total, time.monotonic()))
        self.write("begin", step=what, total=total)

    def update(self, done: float, note: str = "") -> None:
        if self._steps and time.monotonic() - self._moved_at >= LOG_EVERY_S:
            self._moved_at = time.monotonic()
            what, total, _ = self._steps[-1]
            self.write("progress", step=what, done=done, total=total, note=note)

    def end(self, note: str = "") -> None:
        if self._steps:
            what, _, began = self._steps.pop()
            seconds = round(time.monotonic() - began, 3)
            self.write("end", step=what, note=note or "done", seconds=seconds)

    def say(self, text: str) -> None:
        self.write("said", text=text)
