"""What a training process tells while it works: one JSON object a line, appended live.

A line is a phase (`{"phase": "train", "total": 40}`) or a metric (`{"step", "name", "value"}`).
A process may be killed in the middle of a line, and its successor trains some steps again: readers
skip what is no JSON, and of two values of one metric at one step the later one counts.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from teachers.files import Growing


class Metric(NamedTuple):
    """One figure of training."""

    step: int
    """Optimizer step, from 1; 0 is before training."""
    name: str
    value: float


class Phase(NamedTuple):
    """What the process does from now on, and in how many steps if it knows."""

    what: str
    total: int | None


Entry = Phase | Metric


class Journal:
    """The writing end."""

    def __init__(self, path: Path) -> None:
        self._out = path.open("a")
        if self._out.tell():
            # The predecessor may have been killed in mid-line: no line of ours shall join its own.
            self._out.write("\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._out.close()

    def phase(self, what: str, total: int | None = None) -> None:
        self._add(Phase(what, total)._asdict())

    def metric(self, step: int, name: str, value: float) -> None:
        self._add(Metric(step, name, value)._asdict())

    def rows(self, kept: int, too_long: int) -> None:
        """How many rows of the dataset are trained on, and how many exceed the limit."""
        self.metric(0, "rows", kept)
        self.metric(0, "rows_too_long", too_long)

    def _add(self, line: dict[str, object]) -> None:
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()


class Reader:
    """The reading end: each call of `new` gives what was appended since the last one."""

    def __init__(self, path: Path) -> None:
        self._lines = Growing(path)

    def new(self) -> list[Entry]:
        return list(_entries(self._lines.new()))


def _entries(lines: list[bytes]) -> Iterator[Entry]:
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        yield Phase(found["what"], found["total"]) if "what" in found else Metric(**found)
