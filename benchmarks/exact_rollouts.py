"""Whether answers of the served policy teach as much as exact ones.

The server's policy is merged into bf16 and answers by another arithmetic. The same training on the
trainer's own answers, its adapter not merged, has neither fault: it should learn no better.

The runs that time a step cannot tell: their reward starts near 1. So these two have one that there
is something to learn of, shorter answers, and the learning rate of `recipes/grpo.yaml`.
"""

import asyncio
import math
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Literal, NamedTuple

from benchmarks.policy_runs import GROUP, PROMPTS, job_of, requests, trained
from benchmarks.verdict import show
from judges.rewards import RewardTerm
from pipelines.training.job import PolicyJob, RunFolder
from pipelines.training.journal import Metric
from pipelines.training.kept import NewBatches
from pipelines.training.rollout import Rollout
from teachers.weights import Weights

BATCHES, CAP, ENDS = 12, 48, 4
WORDS = 25
Z = 1.96


Rewards = dict[str, float]
"""Of a batch: each prompt's mean."""


class Learned(NamedTuple):
    """The first and the last batches of a run."""

    first: list[Rewards]
    last: list[Rewards]

    @property
    def gain(self) -> tuple[float, float]:
        """By how much the reward rose, with its standard error."""
        return _difference(self.last, self.first)


def as_good(base: Weights, folder: Path) -> bool:
    """Train both ways, print what came of it; whether exact answers taught no more.

    An answer earns 1 for at most 25 words: the base seldom stops that early, and can learn to.
    Every batch asks all prompts, so that rewards are of the same ones from first to last.
    """
    served = asyncio.run(_learned(base, folder / "served", "engine"))
    exact = asyncio.run(_learned(base, folder / "exact", "transformers"))
    rows = [
        [who, *(f"{_mean(end):.0%}" for end in run), _interval(*run.gain)]
        for who, run in (("vLLM, merged", served), ("transformers, exact", exact))
    ]
    title = f"reward of {BATCHES} batches of {PROMPTS} x {GROUP} answers; first and last {ENDS}"
    show(title, ["rollouts", "first", "last", "gain"], rows)
    ahead, error = _difference(exact.last, served.last)
    print(f"exact rollouts are ahead by {_interval(ahead, error)} in the end")
    # If nothing were learned, there would be nothing to compare.
    learned = all(run.gain[0] > Z * run.gain[1] for run in (served, exact))
    return learned and ahead <= Z * error


async def _learned(
    base: Weights, folder: Path, sampler: Literal["engine", "transformers"]
) -> Learned:
    how = {"batches": BATCHES, "max_tokens": CAP, "draws": 1, "sampler": sampler}
    brief = RewardTerm(name="brief", verifier="length", entry={"at_most": WORDS})
    job = job_of(base, folder, requests(), how, PolicyJob, learning_rate=3e-4, rewards=(brief,))
    async with trained(job, base, folder, _silent):
        pass
    batches = [_by_prompt(batch) for batch in NewBatches(RunFolder(folder).rollouts).read()]
    return Learned(batches[:ENDS], batches[-ENDS:])


def _by_prompt(batch: list[Rollout]) -> Rewards:
    earned = defaultdict[str, list[float]](list)
    for one in batch:
        if one.reward is not None:
            earned[one.prompt_id].append(one.reward)
    return {prompt: statistics.fmean(rewards) for prompt, rewards in earned.items()}


async def _silent(_metrics: list[Metric]) -> None:
    return None


def _difference(these: list[Rewards], those: list[Rewards]) -> tuple[float, float]:
    """Mean of these less those, prompt by prompt, with its standard error."""
    apart = [
        ours[prompt] - theirs[prompt]
        for ours, theirs in zip(these, those, strict=True)
        for prompt in ours.keys() & theirs.keys()
    ]
    return statistics.fmean(apart), statistics.stdev(apart) / math.sqrt(len(apart))


def _mean(batches: list[Rewards]) -> float:
    return statistics.fmean(value for batch in batches for value in batch.values())


def _interval(value: float, error: float) -> str:
    return f"{value:+.0%} [{value - Z * error:+.0%}, {value + Z * error:+.0%}]"
