"""Principles, comparisons and judges' replies that several test files use, and a place to judge."""

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from judges.constitution import Case, Principle
from judges.judge import Judge, comparing, following, scoring
from judges.records import Comparison, Judgement, Reading
from pipelines.home import Home
from pipelines.judging import Question, judged
from pipelines.recipe import JudgeSection
from pipelines.seat import Seat
from pipelines.store.judgements import Compared
from pipelines.workbench import Workbench
from teachers.progress import Silent
from teachers.records import Message, Sample

PRINCIPLE = Principle(id="short", text="The answer is short.")
MAKERS = {"compare": comparing, "score": scoring, "follows": following}


def asked(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


def comparison(first: str = "one", second: str = "two", question: str = "Why?") -> Comparison:
    return Comparison(conversation=asked(question), first=first, second=second)


def reply(text: str = "A", **shares: float) -> Sample:
    """A judge's reply; `shares` are the probabilities of its likeliest first tokens."""
    tokens = tuple((token, math.log(share)) for token, share in shares.items())
    return Sample(call_id="c", position=0, text=text, finish_reason="stop", first_token=tokens)


def reading(value: float | None, outside: float | None = None) -> Reading:
    return Reading(state="read", value=value, outside=outside)


def case(number: int, longer_is_better: bool = True) -> Case:
    """A case whose better answer says so, and is the longer or the shorter one."""
    texts = (f"good answer {number}", f"poor answer {number}, {'padded ' * 5}")
    better, worse = texts if not longer_is_better else (texts[0] + " more" * 20, texts[1])
    return Case(prompt=f"Question {number}?", better=better, worse=worse)


def balanced(count: int) -> tuple[Case, ...]:
    """Cases of which every other one has the longer answer as the better one."""
    return tuple(case(number, longer_is_better=number % 2 == 0) for number in range(count))


class Bench(NamedTuple):
    """A home, and a judge at an endpoint."""

    folder: Path
    seat: Seat

    @classmethod
    def at(cls, folder: Path, url: str, kind: str = "compare", **how: Any) -> "Bench":
        place = JudgeSection(url=url, model="judge", concurrency=8)
        judge: Judge = MAKERS[kind](f"{url} judge@", **how)
        return cls(folder, Seat(judge, place))

    def open(self) -> Workbench:
        return Workbench(Home(self.folder / "home"), Silent())

    def judge(self, questions: Sequence[Question]) -> list[Judgement]:
        async def run() -> list[Judgement]:
            async with self.open() as bench:
                return await judged(bench, self.seat, questions, "judge")

        return asyncio.run(run())


def questions(count: int, *principles: Principle) -> list[Question]:
    """Different comparisons, the first answer longer than the second in every other one."""
    pairs = [
        comparison(f"good {n} " + "x" * 60 * (n % 2), f"poor {n} " + "y" * 30, f"Question {n}?")
        for n in range(count)
    ]
    return [
        Question(Compared(pair, "round"), principle)
        for principle in principles or (PRINCIPLE,)
        for pair in pairs
    ]
