"""Reward models on what they never saw, beside "the longer one".

    make bench NAME=reward

From SmolLM2-135M, twice: on people's own choices (Anthropic's hh-rlhf, harmlessness, under
PRECEPTOR_DATA), split here by the conversation's hash; and on pairs by construction, a whole round
of `recipes/reward.yaml`. Measured is the held-out accuracy on people's choices, whatever it is.
"""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks.verdict import measured, show, skip
from judges.share import Share, share
from pipelines.gold import Known, read_gold
from pipelines.home import Home
from pipelines.hygiene.split import kept_back
from pipelines.recipe_file import load
from pipelines.round import run_round
from pipelines.scoring import score
from pipelines.training.job import RewardJob, RunFolder
from pipelines.training.journal import Metric
from pipelines.training.run import train
from pipelines.training.score_job import Scorable, Scored, ScoreJob
from service.progress import Shown
from teachers.engine import this_device
from teachers.errors import WeightsError
from teachers.progress import Progress, step
from teachers.records import Message, content_id
from teachers.weights import Weights, prepare

RECIPE = Path(__file__).parent.parent / "recipes" / "reward.yaml"
HELD_OUT, LEAST = 0.3, 200
# About 650 pairs to learn from: 135,000 tokens, five minutes on two cores.
MOST_CHARACTERS = 1000
SETTINGS: dict[str, Any] = {
    "rank": 16,
    "learning_rate": 2e-4,
    "epochs": 1,
    "batch_size": 8,
    "max_length": 384,
}


class Arm(NamedTuple):
    """A reward model's figures."""

    pairs: str
    learned: int
    accuracy: Share
    longer: Share
    seconds: float


def main() -> None:
    data = os.environ.get("PRECEPTOR_DATA")
    gold = Path(data or "", "hh_rlhf", "harmless_first_half.jsonl")
    if not data or not gold.is_file():
        skip("reward", "PRECEPTOR_DATA names no folder with hh_rlhf in it")
    try:
        base = prepare("packaged:SmolLM2-135M-Instruct", Home.find().root)
    except WeightsError as missing:
        skip("reward", missing.message)
    with tempfile.TemporaryDirectory() as place:
        progress = Shown(Console())
        people = asyncio.run(_people(Path(place), base, gold, progress))
        constructed = asyncio.run(_constructed(Home(Path(place)), base, progress))
    lines = [
        [one.pairs, one.learned, one.accuracy.n, one.accuracy, one.longer, f"{one.seconds:.0f} s"]
        for one in (people, constructed)
    ]
    columns = ["pairs", "learned from", "held out", "right", "the longer one", "time"]
    show("reward models from SmolLM2-135M, 95 % intervals", columns, lines)
    measured("reward", people.accuracy.value, enough=people.accuracy.n >= LEAST)


async def _people(place: Path, base: Weights, gold: Path, progress: Progress) -> Arm:
    """One model of people's choices, outside of any round."""
    began = time.monotonic()
    pairs = [one for one in read_gold(gold) if _length(one) <= MOST_CHARACTERS]
    held_out = [one for one in pairs if kept_back(_conversation(one), HELD_OUT)]
    learned = [one for one in pairs if not kept_back(_conversation(one), HELD_OUT)]
    dataset = place / "people.jsonl"
    dataset.write_text("".join(f"{json.dumps(_row(one))}\n" for one in learned))
    device = this_device()
    job = RewardJob(
        objective="reward",
        base=base.path,
        base_weights=base.fingerprint,
        dataset=dataset,
        device=device,
        **SETTINGS,
    )
    run = RunFolder(place / "people")
    await train(job, run.root, _unheard, progress)
    scores = await _scores(
        ScoreJob(base=base.path, adapter=run.adapter, device=device), held_out, place, progress
    )
    right = [better > worse for better, worse in scores]
    longer = [len(better) > len(worse) for better, worse in map(_sides, held_out)]
    seconds = time.monotonic() - began
    return Arm("people's, hh-rlhf", len(learned), share(right), share(longer), seconds)


async def _constructed(home: Home, base: Weights, progress: Progress) -> Arm:
    """A whole round: answers asked for short and long."""
    began = time.monotonic()
    recipe = load(RECIPE)
    student = recipe.student.model_copy(update={"weights": str(base.path)})
    reports = (
        await run_round(recipe.model_copy(update={"student": student}), home, progress)
    ).reports
    found = reports["appraise"]
    accuracy, longer = (Share(*found[name]) for name in ("accuracy", "longer"))
    seconds = time.monotonic() - began
    return Arm("by construction", reports["pair"]["rows"], accuracy, longer, seconds)


async def _scores(
    job: ScoreJob, pairs: Sequence[Known], place: Path, progress: Progress
) -> list[tuple[float, float]]:
    """The scores of each pair's better and worse answer."""
    rows = [
        Scorable(
            id=f"{at} {side}",
            question=one.compared.comparison.conversation,
            answer=Message(role="assistant", content=text),
        )
        for at, one in enumerate(pairs)
        for side, text in zip(("better", "worse"), _sides(one), strict=True)
    ]
    found: dict[str, float] = {}

    async def keep(scores: Sequence[Scored]) -> None:
        found.update({one.id: one.score for one in scores})
        progress.update(len(found))

    with step(progress, "score held-out pairs", len(rows)):
        await score(job, rows, place, keep)
    return [(found[f"{at} better"], found[f"{at} worse"]) for at in range(len(pairs))]


async def _unheard(_metrics: list[Metric]) -> None:
    """Training has a progress line of its own."""


def _sides(one: Known) -> tuple[str, str]:
    """The better text, then the worse."""
    first, second = one.compared.comparison.first, one.compared.comparison.second
    return (first, second) if one.first_is_better else (second, first)


def _row(one: Known) -> dict[str, Any]:
    chosen, rejected = _sides(one)
    return {
        "prompt": [turn.model_dump() for turn in one.compared.comparison.conversation],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


def _conversation(one: Known) -> str:
    """The same conversation is on one side, whatever was answered."""
    turns = [turn.model_dump() for turn in one.compared.comparison.conversation]
    return content_id("conversation", turns)


def _length(one: Known) -> int:
    """Characters of the conversation with its longer answer."""
    turns = one.compared.comparison.conversation
    return sum(len(turn.content) for turn in turns) + max(map(len, _sides(one)))


if __name__ == "__main__":
    main()
