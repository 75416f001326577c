"""How long work tells what it is doing, without knowing who listens."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

STOPPED = "stopped"
"""The note of a step that did not come to its end."""


class Progress(Protocol):
    """Somebody who shows progress: a terminal, a log, a web page."""

    def begin(self, what: str, total: float | None = None) -> None:
        """Start a step. `total` is in whatever unit the step counts; None if it cannot know."""

    def update(self, done: float, note: str = "") -> None:
        """Say how far the current step is, of its total."""

    def end(self, note: str = "") -> None:
        """Finish the current step."""

    def say(self, text: str) -> None:
        """A line worth keeping, outside any step."""


class Silent:
    """Shows nothing."""

    def begin(self, what: str, total: float | None = None) -> None: ...

    def update(self, done: float, note: str = "") -> None: ...

    def end(self, note: str = "") -> None: ...

    def say(self, text: str) -> None: ...


@contextmanager
def step(progress: Progress, what: str, total: float | None = None) -> Iterator[Progress]:
    """One step of long work; it ends however the block ends."""
    progress.begin(what, total)
    try:
        yield progress
    except BaseException:
        progress.end(STOPPED)
        raise
    progress.end()
