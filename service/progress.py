"""Progress for people: a live line in a terminal, a line every few seconds in a log."""

import threading
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

# In a log, a line this often is enough to see that it moves.
LOG_EVERY_S = 5.0
# The first answers of many come late: what is left is guessed once this share is done.
SURE_AFTER_SHARE = 0.02


class Shown:
    """Says what is being done, how far it is and how long it may still take."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps: list[_Step] = []
        self._shown: _Live | _Logged | None = None

    def begin(self, what: str, total: float | None = None) -> None:
        self._steps.append(_Step(what, total))
        self._show()

    def update(self, done: float, note: str = "") -> None:
        if self._shown is not None:
            self._shown.moved(done, note)

    def end(self, note: str = "") -> None:
        if self._steps:
            ended = self._steps.pop()
            self._show()
            self.say(ended.summary(note or "done"))

    def say(self, text: str) -> None:
        self._console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)

    def _show(self) -> None:
        """Show the innermost step: a server that is started again interrupts what waits for it."""
        if self._shown is not None:
            self._shown.close()
        kind = _Live if self._console.is_terminal else _Logged
        self._shown = kind(self._console, self._steps[-1]) if self._steps else None


class _Step:
    """What is known of one step, and how to say it."""

    def __init__(self, what: str, total: float | None) -> None:
        self.what, self.total = what, total
        self.done = 0.0
        self._note = ""
        self._began = time.monotonic()
        self._first: float | None = None

    def moved(self, done: float, note: str) -> None:
        if self._first is None:
            # What was finished before this process began says nothing about speed.
            self._first = max(0.0, done - 1)
        self.done, self._note = done, note

    def how_far(self) -> str:
        elapsed = time.monotonic() - self._began
        if not self.total:
            return ", ".join(filter(None, (f"{elapsed:.0f} s", self._note)))
        left = ""
        moved = self.done - (self._first or 0.0)
        if moved > SURE_AFTER_SHARE * self.total and elapsed > 1:
            left = f"about {_span(elapsed / moved * (self.total - self.done))} left"
        return ", ".join(filter(None, (f"{self.done:g}/{self.total:g}", self._note, left)))

    def summary(self, outcome: str) -> str:
        count = f" {self.total:g}" if self.total else ""
        return f"{self.what}:{count} {outcome} in {time.monotonic() - self._began:.1f} s"


class _Live:
    """A line that changes, in a terminal."""

    def __init__(self, console: Console, step: _Step) -> None:
        self.step = step
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID = self._bar.add_task(
            step.what, total=step.total, completed=int(step.done), note=""
        )
        self._bar.start()

    def moved(self, done: float, note: str) -> None:
        self.step.moved(done, note)
        self._bar.update(self._task, completed=done, note=self.step.how_far())

    def close(self) -> None:
        self._bar.stop()


class _Logged:
    """A line every few seconds, also while nothing is heard of the step."""

    def __init__(self, console: Console, step: _Step) -> None:
        self.step = step
        self._console = console
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def moved(self, done: float, note: str) -> None:
        self.step.moved(done, note)

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(LOG_EVERY_S):
            line = f"  {self.step.what}: {self.step.how_far()}"
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
