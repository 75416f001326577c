"""Our GRPO with vLLM rollouts against TRL's own with its default generation, on this machine.

    make bench NAME=grpo-speed

Same model, prompts, group size, cap and steps; the reward is how little an answer repeats itself.
Answers are of all lengths, as real ones are: half of the requests ask for a sentence or two. The
two alternate, each run a process of its own, and a run's first step is left out. A step of ours has
everything in it: giving the server the policy, proving that it has it, sampling, rewards, update.
Then both ways of sampling train the same, and exact answers may teach no more than those.
"""

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.exact_rollouts import as_good
from benchmarks.policy_runs import BATCH, GROUP, PROMPTS, job_of, requests, trained
from benchmarks.verdict import conclude, show, skip
from judges.rewards import RewardTerm
from pipelines.home import Home
from pipelines.training.job import PolicyJob, RunFolder
from pipelines.training.journal import Metric
from pipelines.training.kept import NewBatches
from teachers.engine import Engine
from teachers.errors import WeightsError
from teachers.weights import Weights, child_environment, prepare

BAR_TOKENS, BAR_STEPS = 1.5, 1.2
# Answers of one length would flatter whoever pads, answers of wild lengths whoever does not.
SPREAD = (0.4, 0.6)
PAIRS, STEPS = 2, 3
CAP = 256
EQUAL_TOKENS = 128


class Step(NamedTuple):
    """One step of one run."""

    lengths: list[int]
    rollout_seconds: float
    seconds: float
    sync_seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        return sum(self.lengths) / self.rollout_seconds


class Run(NamedTuple):
    """The steps of a run but its first, and the seconds that answers of one length took."""

    steps: list[Step]
    equal_seconds: float

    def median(self, what: str) -> float:
        return float(statistics.median(getattr(step, what) for step in self.steps))

    @property
    def spread(self) -> float:
        """Mean length over the longest: what padding to the longest costs."""
        return statistics.fmean(
            statistics.fmean(step.lengths) / max(step.lengths) for step in self.steps
        )


def main() -> None:
    home = Home.find().root
    try:
        base = prepare("packaged:SmolLM2-135M-Instruct", home)
    except WeightsError as missing:
        skip("grpo-speed", missing.message)
    pairs = []
    with tempfile.TemporaryDirectory() as place:
        for number in range(PAIRS):
            ours = _measure_ours(base, Path(place, f"ours-{number}"))
            plain = _plain(base, Path(place, f"plain-{number}"))
            pairs.append((ours, plain))
            print(f"pair {number + 1} of {PAIRS} is done", flush=True)
        no_worse = as_good(base, Path(place, "learning"))
    _show(pairs)
    faster = statistics.median(
        ours.median("tokens_per_second") / plain.median("tokens_per_second")
        for ours, plain in pairs
    )
    steps = statistics.median(
        plain.median("seconds") / ours.median("seconds") for ours, plain in pairs
    )
    equal = statistics.median(plain.equal_seconds / ours.equal_seconds for ours, plain in pairs)
    spread = statistics.fmean(run.spread for pair in pairs for run in pair)
    print(f"rollout tokens/s: ratio {faster:.2f} (bar {BAR_TOKENS}); steps/h: ratio {steps:.2f}")
    print(f"at equal lengths: ratio {equal:.2f}; mean length over longest: {spread:.2f}")
    varied = SPREAD[0] <= spread <= SPREAD[1]
    also = steps >= BAR_STEPS and varied and no_worse
    conclude("grpo-speed", faster, BAR_TOKENS, at_least=True, also=also)


def _measure_ours(base: Weights, folder: Path) -> Run:
    return asyncio.run(_ours(_job(base, folder), base, folder))


def _job(base: Weights, folder: Path) -> PolicyJob:
    how = {"batches": STEPS, "max_tokens": CAP, "draws": 1}
    unrepeated = RewardTerm(name="unrepeated", verifier="repetition")
    return job_of(
        base, folder, requests(), how, PolicyJob, learning_rate=1e-4, rewards=(unrepeated,)
    )


async def _ours(job: PolicyJob, base: Weights, folder: Path) -> Run:
    run = RunFolder(folder)
    seen: dict[int, float] = {}
    told: dict[tuple[int, str], float] = {}

    async def hear(metrics: list[Metric]) -> None:
        for one in metrics:
            told[one.step, one.name] = one.value
            if one.name == "loss":
                seen[one.step] = time.monotonic()

    async with trained(job, base, folder, hear) as engine:
        assert engine is not None, "the job's rollouts come from one"
        equal = await _equal(engine)
    lengths = [[len(one.tokens) for one in batch] for batch in NewBatches(run.rollouts).read()]
    steps = [
        Step(
            lengths[step - 1],
            told[step, "rollout_seconds"],
            seen[step] - seen[step - 1],
            told[step, "sync_seconds"],
        )
        for step in range(2, STEPS + 1)
    ]
    return Run(steps, equal)


async def _equal(engine: Engine) -> float:
    """Seconds that answers of one length take."""
    began = time.monotonic()
    body: dict[str, Any] = {
        "model": engine.name,
        "n": GROUP,
        "max_tokens": EQUAL_TOKENS,
        "min_tokens": EQUAL_TOKENS,
        "temperature": 1.0,
    }
    asked = [{**body, "messages": [{"role": "user", "content": text}]} for text in requests()]
    await asyncio.gather(*(engine.client.post("/v1/chat/completions", one) for one in asked))
    return time.monotonic() - began


def _plain(base: Weights, folder: Path) -> Run:
    folder.mkdir(parents=True)
    args = {
        "num_generations": GROUP,
        "per_device_train_batch_size": BATCH,
        "gradient_accumulation_steps": PROMPTS * GROUP // BATCH,
        "max_completion_length": CAP,
        "max_steps": STEPS,
        "loss_type": "dr_grpo",
        "learning_rate": 1e-4,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    settings = folder / "settings.json"
    told = {
        "base": str(base.path),
        "prompts": requests(),
        "args": args,
        "equal_tokens": EQUAL_TOKENS,
    }
    settings.write_text(json.dumps(told))
    command = [sys.executable, "-m", "benchmarks.plain_grpo", str(settings), str(folder)]
    with (folder / "log.txt").open("w") as log:
        done = subprocess.run(
            command, stdout=log, stderr=log, env=child_environment(GOMP_SPINCOUNT="10000")
        )
    if done.returncode != 0:
        raise SystemExit(f"The plain script failed:\n{(folder / 'log.txt').read_text()[-3000:]}")
    found = json.loads((folder / "steps.json").read_text())
    return Run([Step(**step) for step in found["steps"][1:]], found["equal_seconds"])


def _show(pairs: list[tuple[Run, Run]]) -> None:
    rows = []
    for pair in pairs:
        for who, run in zip(("ours", "plain TRL"), pair, strict=True):
            lengths = [length for step in run.steps for length in step.lengths]
            sync, step = run.median("sync_seconds"), run.median("seconds")
            rows.append(
                [
                    who,
                    f"{run.median('tokens_per_second'):.0f}",
                    f"{run.median('rollout_seconds'):.1f}",
                    f"{sync:.1f} ({sync / step:.0%})" if sync else "-",
                    f"{step:.1f}",
                    f"{statistics.fmean(lengths):.0f} / {max(lengths)}",
                    f"{PROMPTS * GROUP * EQUAL_TOKENS / run.equal_seconds:.0f}",
                ]
            )
    columns = ["run", "rollout tokens/s", "rollout, s", "of it sync (of the step)", "step, s"]
    columns += ["length, mean / longest", "tokens/s at equal lengths"]
    title = f"{PROMPTS} prompts x {GROUP} answers, cap {CAP}, {STEPS - 1} steps measured a run"
    show(title, columns, rows)


if __name__ == "__main__":
    main()
