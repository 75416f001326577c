"""What a scoring process is told and answers, and the files between it and us."""

from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from teachers.records import Message


class ScoreJob(BaseModel):
    """Which reward model scores, and where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: Path
    adapter: Path
    device: Literal["cpu", "gpu"]


class Scorable(BaseModel):
    """An answer to be scored: a line of `ScoreFolder.rows`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    question: tuple[Message, ...]
    answer: Message


class Scored(BaseModel):
    """What it scored: a line of `ScoreFolder.scores`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    score: float
    """The head's number as it is."""


class ScoreFolder(NamedTuple):
    """The folder of one scoring process."""

    root: Path

    @property
    def job(self) -> Path:
        return self.root / "job.json"

    @property
    def rows(self) -> Path:
        return self.root / "rows.jsonl"

    @property
    def scores(self) -> Path:
        return self.root / "scores.jsonl"

    @property
    def log(self) -> Path:
        return self.root / "log.txt"
