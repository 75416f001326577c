"""What a training run keeps of its rollouts: answers as they come, and batches once they are whole.

Both are files that only grow. What a kill cut off at the end of one is left out.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.training.guards import Figures
from pipelines.training.rollout import Rollout
from teachers.client import Tokens
from teachers.files import Growing


class _Lines:
    """JSON objects, one a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._out = path.open("a")
        self._out.write("\n")  # no line of ours shall join one that was cut off

    def close(self) -> None:
        self._out.close()

    def _read(self) -> Iterator[dict[str, Any]]:
        return _objects(self._path.read_text())

    def _write(self, line: dict[str, object]) -> None:
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()


def _objects(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)


class Place(NamedTuple):
    """Where a group belongs in a run."""

    batch: int
    draw: int
    prompt_id: str


class Sampled(_Lines):
    """The answers of a run as they came, by their place."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._known: dict[Place, list[Tokens]] = {}
        for line in self._read():
            if "forget" in line:
                self._forget(line["forget"])
            else:
                answers = [
                    Tokens(tuple(ids), tuple(said), end) for ids, said, end in line["answers"]
                ]
                self._known[Place(*line["place"])] = answers

    def get(self, place: Place) -> list[Tokens] | None:
        return self._known.get(place)

    def of(self, batch: int) -> dict[Place, list[Tokens]]:
        """What is kept of a batch."""
        return {place: kept for place, kept in self._known.items() if place.batch == batch}

    def add(self, place: Place, answers: Sequence[Tokens]) -> None:
        self._write({"place": place, "answers": [list(one) for one in answers]})
        self._known[place] = list(answers)

    def forget(self, batch: int) -> None:
        """The answers of a batch did not come from the policy after all."""
        self._write({"forget": batch})
        self._forget(batch)

    def _forget(self, batch: int) -> None:
        self._known = {place: kept for place, kept in self._known.items() if place.batch != batch}


class WholeBatch(NamedTuple):
    """The rollouts of a batch, and the figures that guards look at."""

    figures: Figures
    rollouts: list[Rollout]


class Batches(_Lines):
    """Whole batches: their rollouts, and the figures that guards look at."""

    def add(self, figures: Figures, rollouts: Sequence[Rollout]) -> None:
        rows = [one.model_dump(mode="json") for one in rollouts]
        self._write({"figures": figures._asdict(), "rollouts": rows})
        # As safe as the checkpoints, which are nothing without it.
        os.fsync(self._out.fileno())

    def all(self) -> dict[int, "WholeBatch"]:
        """Every batch by its number."""
        found = {}
        for line in self._read():
            figures = Figures(**line["figures"])
            rollouts = [Rollout(**row) for row in line["rollouts"]]
            found[figures.batch] = WholeBatch(figures, rollouts)
        return found


class NewBatches:
    """The reading end of `Batches` for another process: each call gives what was added since."""

    def __init__(self, path: Path) -> None:
        self._lines = Growing(path)

    def read(self) -> list[list[Rollout]]:
        whole = b"\n".join(self._lines.new()).decode()
        return [[Rollout(**row) for row in line["rollouts"]] for line in _objects(whole)]
