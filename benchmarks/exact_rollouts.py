"""Whether answers of the served policy teach as much as exact ones.

The server's policy is merged into bf16 and answers by another arithmetic. The same training on the
trainer's own answers, its adapter not merged, has neither fault: it should learn no better.
"""

import asyncio
import math
import statistics
from itertools import chain
from pathlib import Path
from typing import Literal, NamedTuple

from benchmarks.policy_runs import GROUP, PROMPTS, job_of, requests, trained
from benchmarks.verdict import show
from judges.rewards import RewardTerm
from pipelines.training.job import RunFolder
from pipelines.training.journal import Metric
from pipelines.training.kept import NewBatches
from teachers.weights import Weights

BATCHES, CAP, ENDS = 14, 64, 4
WORDS = 25
REQUESTS = 24
Z = 1.96


class Learned(NamedTuple):
    """Mean rewards of the groups of a run's first and last batches."""

    first: list[float]
    last: list[float]

    @property
    def gain(self) -> tuple[float, float]:
        """By how much the reward rose, with its standard error."""
        return _difference(self.last, self.first)


def as_good(base: Weights, folder: Path) -> bool:
    """Train both ways, print what came of it; whether exact answers taught no more.

    An answer earns 1 for at most 25 words: the base seldom stops that early, and can learn to.
    """
    served = asyncio.run(_learned(base, folder / "served", "engine"))
    exact = asyncio.run(_learned(base, folder / "exact", "transformers"))
    rows = [
        [who, *(f"{statistics.fmean(end):.0%}" for end in run), _interval(*run.gain)]
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
    job = job_of(base, folder, requests(REQUESTS), how, learning_rate=3e-4, rewards=(brief,))
    async with trained(job, base, folder, _silent):
        pass
    batches = [
        [one.reward for one in batch if one.reward is not None]
        for batch in NewBatches(RunFolder(folder).rollouts).read()
    ]
    groups = [
        [statistics.fmean(batch[at : at + GROUP]) for at in range(0, len(batch), GROUP)]
        for batch in batches
    ]
    return Learned(list(chain(*groups[:ENDS])), list(chain(*groups[-ENDS:])))


async def _silent(_metrics: list[Metric]) -> None:
    return None


def _difference(these: list[float], those: list[float]) -> tuple[float, float]:
    """Of two means, with its standard error; the answers of a group count as one."""
    error = math.sqrt(sum(statistics.variance(one) / len(one) for one in (these, those)))
    return statistics.fmean(these) - statistics.fmean(those), error


def _interval(value: float, error: float) -> str:
    return f"{value:+.0%} [{value - Z * error:+.0%}, {value + Z * error:+.0%}]"
