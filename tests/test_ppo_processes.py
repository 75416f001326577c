"""PPO in two processes: they learn what one would, live and die together, and go on together."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from judges.rewards import RewardTerm
from pipelines.recipe import Rollouts
from pipelines.training.job import DONE, REFUSED, PpoJob, Result, RunFolder
from pipelines.training.journal import Metric
from pipelines.training.run import environment, train
from teachers.progress import Silent
from tests.runs import Run, exercises, killed_in_training, settings

pytestmark = pytest.mark.usefixtures("one_thread")

EARLY = RewardTerm(name="early", verifier="tests.rules:early_letters")
BATCHES, EPOCHS = 5, 4


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exercises(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def two(tiny: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two processes that nobody disturbed."""
    return Run(_job(tiny, dataset), tmp_path_factory.mktemp("runs") / "two")


def _job(base: Path, dataset: Path, **changes: Any) -> PpoJob:
    usual = settings(base, dataset, accumulation=1, batch_size=4, save_steps=2 * EPOCHS)
    usual |= {"objective": "ppo", "ppo_epochs": EPOCHS, "processes": 2, "stop_kl": 0.5}
    usual |= {"schedule": "constant_with_warmup", "warmup_share": 0.0, "rewards": (EARLY,)}
    rollouts = {"batches": BATCHES, "prompts": 4, "group": 4, "max_tokens": 12}
    how = Rollouts(sampler="transformers", **{**rollouts, **changes.pop("rollouts", {})})
    return PpoJob(**{**usual, **changes}, rollouts=how)


def _weights(folder: RunFolder) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder.adapter / "adapter_model.safetensors")


@pytest.mark.parametrize("served_as", ["adapter", "merged"])
def test_two_processes_learn_what_one_does(
    tiny: Path, dataset: Path, tmp_path: Path, served_as: str
) -> None:
    """On one batch: later ones are answers of policies that differ in their last digits."""
    import torch

    rollouts = {"batches": 1, "served_as": served_as}
    one_batch: dict[str, Any] = {"rollouts": rollouts, "save_steps": EPOCHS}
    alone = Run(_job(tiny, dataset, processes=1, **one_batch), tmp_path / "alone")
    both = Run(_job(tiny, dataset, **one_batch), tmp_path / "both")
    found, wanted = _weights(both.files), _weights(alone.files)
    assert found.keys() == wanted.keys()
    for name, weights in wanted.items():
        assert torch.allclose(found[name], weights, atol=1e-5), name
    assert both.values("loss") == pytest.approx(alone.values("loss"), abs=2e-4)
    assert both.values("grad_norm") == pytest.approx(alone.values("grad_norm"), rel=1e-3)
    for run in (alone, both):
        assert run.values("ratio")[0] == 1.0


def test_each_batch_begins_at_a_ratio_of_exactly_1(two: Run) -> None:
    assert two.result.steps == BATCHES * EPOCHS
    assert two.values("ratio")[::EPOCHS] == [1.0] * BATCHES
    assert two.values("kl")[0] == 0.0


def test_killed_they_end_with_the_same_adapter(
    two: Run, tiny: Path, dataset: Path, tmp_path: Path
) -> None:
    result = killed_in_training(_job(tiny, dataset), tmp_path / "killed")
    assert result.adapter_sha256 == two.result.adapter_sha256


def test_if_one_dies_all_do_and_the_run_goes_on(
    two: Run, tiny: Path, dataset: Path, tmp_path: Path
) -> None:
    files, killed = RunFolder(tmp_path / "run"), list[int]()

    async def kill_the_second(metrics: list[Metric]) -> None:
        if not killed and any(metric.step > 2 * EPOCHS for metric in metrics):
            first = psutil.Process(json.loads(files.process.read_text())["pid"])
            [second] = [one for one in first.children() if "ppo" in " ".join(one.cmdline())]
            killed.append(second.pid)
            os.kill(second.pid, signal.SIGKILL)

    result: Result = asyncio.run(train(_job(tiny, dataset), files.root, kill_the_second, Silent()))
    assert killed
    assert result.resumed_from > 0
    assert result.adapter_sha256 == two.result.adapter_sha256
    assert "Training process 1 ended with code -9." in files.log.read_text()


@pytest.mark.parametrize(("processes", "code"), [(2, DONE), (1, REFUSED)])
def test_accelerate_can_start_them(
    tiny: Path, dataset: Path, tmp_path: Path, processes: int, code: int
) -> None:
    """As many as the recipe says; a run that was started otherwise says so."""
    run = RunFolder(tmp_path)
    job = _job(tiny, dataset, processes=processes, rollouts={"batches": 1}, save_steps=EPOCHS)
    run.job.write_text(job.model_dump_json())
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        "2",
    ]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]

    def launched() -> "subprocess.CompletedProcess[str]":
        command = [*launch, "-m", job.module, str(run.root)]
        return subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=240
        )

    ended = launched()
    assert (ended.returncode == DONE) == (code == DONE), ended.stderr[-2000:]
    assert run.result.is_file() == (code == DONE)
    if code == REFUSED:
        assert "2 processes were started, and train.processes is 1." in ended.stderr
        return
    run.result.unlink()
    again = launched()
    assert again.returncode == DONE, again.stderr[-2000:]
    assert run.result.is_file(), "nobody waits for whoever has nothing left to share"
