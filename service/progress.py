"""Progress for people: a live line in a terminal, a line every few seconds in a log."""

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

# In a log, a line this often is enough to see that it moves.
LOG_EVERY_S = 5.0
# The first answers of many come late: what is left is guessed once this share is done.
SURE_AFTER_SHARE = 0.02


class Shown:
    """Says what is being done, how far it is and how long it may still take."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Progress | None = None
        self._task: TaskID | None = None
        self._what = ""
        self._total: float | None = None
        self._first = 0.0
        self._began = self._last_line = 0.0
        self._done = 0.0

    def begin(self, what: str, total: float | None = None) -> None:
        self._what, self._total, self._done = what, total, 0.0
        self._first = -1.0
        self._began = self._last_line = time.monotonic()
        if self._console.is_terminal:
            self._live = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[note]}"),
                console=self._console,
                transient=True,
            )
            self._task = self._live.add_task(what, total=total, note="")
            self._live.start()

    def update(self, done: float, note: str = "") -> None:
        if self._first < 0:
            # What was finished before this process began says nothing about speed.
            self._first = max(0.0, done - 1)
        self._done = done
        text = self._how_far(note)
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=done, note=text)
        elif time.monotonic() - self._last_line >= LOG_EVERY_S:
            self._last_line = time.monotonic()
            self._console.print(f"  {self._what}: {text}", highlight=False)

    def end(self, note: str = "") -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        took = time.monotonic() - self._began
        count = f" {self._total:g}" if self._total else ""
        outcome = note or "done"
        self._console.print(f"  {self._what}:{count} {outcome} in {took:.1f} s", highlight=False)

    def say(self, text: str) -> None:
        self._console.print(f"  {text}", highlight=False, markup=False)

    def _how_far(self, note: str) -> str:
        elapsed = time.monotonic() - self._began
        if not self._total:
            return ", ".join(part for part in (f"{elapsed:.0f} s", note) if part)
        parts = [f"{self._done:g}/{self._total:g}", note]
        moved = self._done - self._first
        if moved > SURE_AFTER_SHARE * self._total and elapsed > 1:
            parts.append(f"about {_span(elapsed / moved * (self._total - self._done))} left")
        return ", ".join(part for part in parts if part)


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
