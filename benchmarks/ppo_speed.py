"""Our PPO against the last that TRL had, on this machine.

    make bench NAME=ppo-speed

The peer is `trl.experimental.ppo` of TRL 1.12.0, in an environment of its own that is made here: it
has that TRL, and the libraries of ours. Same model, requests, answers a batch, cap, reward model
and passes; the requests are for long answers, so that all of them reach the cap. It is run as it is
described, with four models in bf16, with an adapter for its policy, and in two processes, as ours
is (with four models: its trainer has no way for an adapter there); the fastest of these counts. All
take turns, and the first batch of a run is left out. A batch of ours has everything in it: the
merged copy that answers are sampled from, answers, scores, updates.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.policy_runs import job_of, requests, trained
from benchmarks.verdict import conclude, show, skip
from judges.rewards import REWARD_MODEL, RewardTerm
from pipelines.home import Home
from pipelines.training.job import PpoJob, RewardJob, RunFolder
from pipelines.training.journal import Metric
from pipelines.training.kept import NewBatches
from pipelines.training.score_job import ScoreJob
from teachers.errors import WeightsError
from teachers.weights import Weights, child_environment, prepare

BAR = 1.25
TRL = "1.12.0"
PAIRS, BATCHES = 2, 4
ANSWERS, CAP, MICRO, EPOCHS = 16, 64, 4, 2
PROCESSES = 2
FIRST_PASS_GIB = 2.0
"""Room for what the first pass needs, so that nothing is computed twice."""
LEAST_LENGTH = 0.95
AT_LENGTH = "Explain it in detail, step by step, with examples."


class Run(NamedTuple):
    """The batches of a run but its first."""

    tokens: list[int]
    seconds: list[float]

    @property
    def speed(self) -> float:
        """Tokens of answers a second, over everything that a batch takes."""
        return statistics.median(
            tokens / seconds for tokens, seconds in zip(self.tokens, self.seconds, strict=True)
        )

    @property
    def length(self) -> float:
        """Mean, in tokens."""
        return statistics.fmean(self.tokens) / ANSWERS


class Setup(NamedTuple):
    """What all runs share."""

    base: Weights
    reward: Path
    peer: Path
    """The peer's Python."""
    place: Path


class Way(NamedTuple):
    """How the peer is run."""

    adapter: bool
    """For its policy, whose reference then needs no model."""
    processes: int

    def __str__(self) -> str:
        models = "policy with an adapter" if self.adapter else "four models"
        return f"TRL {TRL}, {models}" + (f", {self.processes} processes" * (self.processes > 1))


def main() -> None:
    try:
        base = prepare("packaged:SmolLM2-135M-Instruct", Home.find().root)
    except WeightsError as missing:
        skip("ppo-speed", missing.message)
    with tempfile.TemporaryDirectory() as place:
        peer = _peer(Path(place, "peer"))
        setup = Setup(base, _reward(base, Path(place, "reward")), peer, Path(place))
        rounds = []
        for number in range(PAIRS):
            ours = asyncio.run(_ours(setup, number))
            theirs = {str(way): _plain(setup, number, way) for way in _THEIRS}
            rounds.append((ours, theirs))
            print(f"round {number + 1} of {PAIRS} is done", flush=True)
    _show(rounds)
    ratio = statistics.median(
        ours.speed / max(one.speed for one in theirs.values()) for ours, theirs in rounds
    )
    alike = all(ours.length >= LEAST_LENGTH * CAP for ours, _ in rounds)
    conclude("ppo-speed", ratio, BAR, at_least=True, also=alike)


_THEIRS = (
    Way(adapter=False, processes=1),
    Way(adapter=True, processes=1),
    Way(adapter=False, processes=PROCESSES),
)


def _peer(folder: Path) -> Path:
    """An environment with the peer in it, before ours on its path."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    wanted: list[str | Path] = [python, "-m", "pip", "install", "-q", "--no-deps", f"trl=={TRL}"]
    done = subprocess.run(wanted, capture_output=True, text=True)
    if done.returncode != 0:
        skip("ppo-speed", f"TRL {TRL} cannot be installed: {done.stderr.strip()[-300:]}")
    [packages] = folder.glob("lib/*/site-packages")
    (packages / "ours.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return python


def _reward(base: Weights, folder: Path) -> Path:
    folder.mkdir()
    job = RewardJob(
        objective="reward",
        base=base.path,
        base_weights=base.fingerprint,
        dataset=folder / "none",
    )
    (folder / "job.json").write_text(job.model_dump_json())
    command = [sys.executable, "-m", "benchmarks.drawn_reward", str(folder / "job.json")]
    subprocess.run(
        [*command, str(folder)], check=True, capture_output=True, env=child_environment()
    )
    return folder


def _asked() -> list[str]:
    return [f"{text} {AT_LENGTH}" for text in requests(ANSWERS, briefly=False)]


async def _ours(setup: Setup, number: int) -> Run:
    folder = setup.place / f"ours-{number}"
    job = job_of(
        setup.base,
        folder,
        _asked(),
        {
            "batches": BATCHES,
            "prompts": ANSWERS,
            "group": 1,
            "max_tokens": CAP,
            "sampler": "transformers",
            "served_as": "merged",
        },
        PpoJob,
        objective="ppo",
        loss=(),
        ppo_epochs=EPOCHS,
        batch_size=MICRO,
        processes=PROCESSES,
        first_pass_gib=FIRST_PASS_GIB,
        learning_rate=3e-6,
        rewards=(RewardTerm(name="rated", verifier=REWARD_MODEL),),
        reward_model=ScoreJob(base=setup.base.path, adapter=setup.reward, device="cpu"),
    )
    done: dict[int, float] = {}

    async def hear(metrics: list[Metric]) -> None:
        for one in metrics:
            if one.name == "loss":
                done[one.step] = time.monotonic()

    async with trained(job, setup.base, folder, hear):
        pass
    batches = NewBatches(RunFolder(folder).rollouts).read()
    tokens = [sum(len(one.tokens) for one in batch) for batch in batches]
    ends = [done[batch * job.steps] for batch in range(1, BATCHES + 1)]
    return Run(tokens[1:], [after - before for before, after in pairwise(ends)])


def _plain(setup: Setup, number: int, way: Way) -> Run:
    folder = setup.place / f"plain-{number}-{way.adapter}-{way.processes}"
    folder.mkdir()
    args: dict[str, Any] = {
        "total_episodes": BATCHES * ANSWERS,
        "per_device_train_batch_size": MICRO,
        "gradient_accumulation_steps": ANSWERS // MICRO // way.processes,
        "num_ppo_epochs": EPOCHS,
        "response_length": CAP,
        "temperature": 1.0,
        "num_sample_generations": 0,
        "learning_rate": 3e-6,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    told = {
        "base": str(setup.base.path),
        "reward_model": str(setup.reward),
        "prompts": _asked(),
        "adapter": way.adapter,
        "args": args,
    }
    settings = folder / "settings.json"
    settings.write_text(json.dumps(told))
    shared = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(way.processes), "-m"]
    start = shared if way.processes > 1 else []
    command: list[str | Path] = [setup.peer, "-m", *start, "benchmarks.plain_ppo", settings, folder]
    with (folder / "log.txt").open("w") as log:
        # Its launcher would give several processes one thread each.
        threads = max(1, len(os.sched_getaffinity(0)) // way.processes)
        quiet = child_environment(
            GOMP_SPINCOUNT="10000", TRL_EXPERIMENTAL_SILENCE="1", OMP_NUM_THREADS=str(threads)
        )
        done = subprocess.run(command, stdout=log, stderr=log, env=quiet)
    if done.returncode != 0:
        raise SystemExit(f"The plain script failed:\n{(folder / 'log.txt').read_text()[-3000:]}")
    ends: list[float] = json.loads((folder / "batches.json").read_text())
    seconds = [after - before for before, after in pairwise(ends)]
    return Run([ANSWERS * CAP] * len(seconds), seconds)


def _show(rounds: list[tuple[Run, dict[str, Run]]]) -> None:
    rows = []
    for ours, theirs in rounds:
        for who, run in {"ours": ours, **theirs}.items():
            seconds = statistics.median(run.seconds)
            rows.append([who, f"{run.speed:.1f}", f"{seconds:.1f}", f"{run.length:.1f}"])
    title = f"batches of {ANSWERS} answers, cap {CAP}, {EPOCHS} passes, {BATCHES - 1} batches a run"
    show(title, ["run", "tokens/s", "a batch, s", "mean length"], rows)


if __name__ == "__main__":
    main()
