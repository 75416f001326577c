"""Training runs of the tiny model, as several test files start and disturb them."""

import asyncio
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

from pipelines.training.job import Job, Result, RewardJob, RunFolder
from pipelines.training.journal import Metric
from pipelines.training.reward_notes import Origin
from pipelines.training.run import train
from teachers.progress import Silent
from teachers.weights import checked

SAVE_STEPS = 8


def settings(base: Path, dataset: Path, **changes: Any) -> dict[str, Any]:
    """What a job is told unless a test says otherwise: 48 steps over 64 rows."""
    usual: dict[str, Any] = {
        "base": base,
        "base_weights": checked(base).fingerprint,
        "dataset": dataset,
        "rank": 4,
        "alpha": 8,
        "learning_rate": 5e-3,
        "epochs": 6,
        "batch_size": 4,
        "accumulation": 2,
        "max_length": 128,
        "save_steps": SAVE_STEPS,
    }
    return {**usual, **changes}


class Run:
    """A finished run and what its parent heard of it."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job = job
        self.files = RunFolder(folder)
        self.metrics: list[Metric] = []
        self.result = asyncio.run(train(job, folder, self.hear, Silent()))

    async def hear(self, metrics: list[Metric]) -> None:
        self.metrics.extend(metrics)

    def values(self, name: str) -> list[float]:
        return [metric.value for metric in self.metrics if metric.name == name]


def killed_in_training(job: Job, folder: Path) -> Result:
    """The result of a run whose process is killed once after its first checkpoint."""
    files = RunFolder(folder)
    killed: list[int] = []

    async def kill_once(metrics: list[Metric]) -> None:
        if not killed and any(metric.step > SAVE_STEPS for metric in metrics):
            killed.append(json.loads(files.process.read_text())["pid"])
            os.kill(killed[0], signal.SIGKILL)

    result = asyncio.run(train(job, folder, kill_once, Silent()))
    assert killed
    assert 0 < result.resumed_from < result.steps
    return result


def copied(checkpoint: Path, run: RunFolder) -> Path:
    """A checkpoint of one run as that of another, which is to go on from it."""
    return Path(shutil.copytree(checkpoint, run.checkpoints / checkpoint.name))


def turn(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


def reward_model(base: Path, folder: Path, **changes: Any) -> Path:
    """The folder of a reward model whose every weight says something, drawn and not trained."""
    import torch

    from pipelines.training import models
    from pipelines.training.heads import headed

    torch.manual_seed(3)
    model = headed(RewardJob(**settings(base, folder / "none", **changes), objective="reward"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    models.put_adapter(model, folder)
    Origin(base=checked(base).fingerprint, adapter="lora").save(folder)
    return folder


def exercises(folder: Path) -> Path:
    """Write what a policy practises on: 16 prompts that no verifier of their own checks."""
    path = folder / "prompts.jsonl"
    with path.open("w") as rows:
        for question in (f"Say {n}." for n in range(16)):
            prompt = {"task": "say", "question": question, "verifier": "none", "entry": {}}
            rows.write(json.dumps({"prompt": prompt, "messages": turn("user", question)}) + "\n")
    return path
