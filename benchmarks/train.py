"""Our SFT run against a plain TRL script: same model, data, steps and settings.

    make bench NAME=train

Each run is a whole process of its own, and the two kinds alternate. Compared is what both do: from
the start of the process until the adapter is on disk, checkpoints included. What only ours does
after that, merging and measuring the probe, has a column of its own. Memory is the most that was
resident over the whole run, merge and probe included; ours counts parent and child together, each
at its own peak.
"""

import asyncio
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.verdict import conclude, show, skip
from pipelines.home import Home
from pipelines.training.job import RunFolder, SftJob
from pipelines.training.journal import Metric
from pipelines.training.run import train
from teachers.errors import WeightsError
from teachers.progress import Silent
from teachers.weights import child_environment, prepare

BAR = 1.05
PAIRS = 3
ROWS = 64
KINDS = ("ours", "plain TRL")
SETTINGS: dict[str, Any] = {"epochs": 3, "batch_size": 8, "max_length": 256, "save_steps": 8}
_KIB = 1024
_PARENT = "parent.json"


class Run(NamedTuple):
    to_adapter: float
    """Seconds from the start of the process until the adapter was written."""
    whole: float
    """Seconds until the process ended."""
    peak: int
    """Bytes."""
    loss: float
    """Of the last step."""


def main() -> None:
    try:
        base = prepare("packaged:SmolLM2-135M-Instruct", Home.find().root)
    except WeightsError as missing:
        skip("train", missing.message)
    with tempfile.TemporaryDirectory() as place:
        dataset, job_file = Path(place, "rows.jsonl"), Path(place, "job.json")
        dataset.write_text("".join(_conversations()))
        job = SftJob(base=base.path, base_weights=base.fingerprint, dataset=dataset, **SETTINGS)
        job_file.write_text(job.model_dump_json())
        pairs = [_pair(number, job_file, Path(place)) for number in range(PAIRS)]
    show(
        f"{ROWS} rows, {SETTINGS['epochs']} epochs, batch {SETTINGS['batch_size']}",
        ["run", "to the adapter, s", "merge and probe, s", "whole, s", "peak, MiB", "last loss"],
        [_cells(kind, run) for pair in pairs for kind, run in zip(KINDS, pair, strict=True)],
    )
    slower = statistics.median(ours.to_adapter / plain.to_adapter for ours, plain in pairs)
    larger = statistics.median(ours.peak / plain.peak for ours, plain in pairs)
    whole = statistics.median(ours.whole / plain.whole for ours, plain in pairs)
    print(f"median ratios: time {slower:.3f}, peak memory {larger:.3f}, whole time {whole:.3f}")
    conclude("train", max(slower, larger), BAR, at_least=False)


def _pair(number: int, job_file: Path, place: Path) -> tuple[Run, Run]:
    ours = _ours(job_file, place / f"ours-{number}")
    plain = _plain(job_file, place / f"plain-{number}")
    print(f"pair {number + 1} of {PAIRS}: {ours.whole:.0f} s, {plain.whole:.0f} s", flush=True)
    return ours, plain


def _cells(kind: str, run: Run) -> list[str]:
    times = (run.to_adapter, run.whole - run.to_adapter, run.whole)
    return [kind, *(f"{s:.1f}" for s in times), f"{run.peak / 2**20:.0f}", f"{run.loss:.6f}"]


def _ours(job_file: Path, folder: Path) -> Run:
    """A small process that calls `train`, which starts the real one."""
    began, ended, _ = _timed("benchmarks.train", job_file, folder)
    run = RunFolder(folder)
    result = json.loads(run.result.read_text())
    parent = json.loads((folder / _PARENT).read_text())
    saved = (run.adapter / "adapter_model.safetensors").stat().st_mtime
    return Run(saved - began, ended - began, parent + result["peak_bytes"], result["final_loss"])


def _plain(job_file: Path, folder: Path) -> Run:
    folder.mkdir()
    began, ended, peak = _timed("benchmarks.plain_sft", job_file, folder)
    saved = (folder / "adapter" / "adapter_model.safetensors").stat().st_mtime
    return Run(saved - began, ended - began, peak, json.loads((folder / "loss.json").read_text()))


def _timed(module: str, job_file: Path, folder: Path) -> tuple[float, float, int]:
    """Run a module; returns when it began and ended, and its own peak in bytes."""
    began = time.time()
    with (folder.parent / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(job_file), str(folder)],
            env=child_environment(),
            stdout=log,
            stderr=log,
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{module} failed:\n{(folder.parent / 'log.txt').read_text()[-3000:]}")
    return began, time.time(), usage.ru_maxrss * _KIB


def _as_parent(job_file: Path, folder: Path) -> None:
    async def deaf(_: list[Metric]) -> None:
        return

    job = SftJob.model_validate_json(job_file.read_text())
    asyncio.run(train(job, folder, deaf, Silent()))
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB
    (folder / _PARENT).write_text(json.dumps(own))


def _conversations() -> list[str]:
    """Short sums with their working, the same in each run of the benchmark."""
    chance = random.Random(0)
    rows = []
    for _ in range(ROWS):
        a, b, c = (chance.randint(10, 99) for _ in range(3))
        question = f"What is {a} + {b} - {c}?"
        answer = f"{a} + {b} = {a + b}. {a + b} - {c} = {a + b - c}. The answer is {a + b - c}."
        row = {
            "prompt": [{"role": "user", "content": question}],
            "completion": [{"role": "assistant", "content": answer}],
        }
        rows.append(json.dumps(row) + "\n")
    return rows


if __name__ == "__main__":
    if len(sys.argv) == 3:
        _as_parent(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        main()
