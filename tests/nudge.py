"""Child process: slightly changed copies of a model, and what the trainer's code says of each.

    python -m tests.nudge BASE FOLDER SCALE ...

Leaves FOLDER/merged-SCALE for each scale and FOLDER/probe.json with one row for each of them and
for the base, as a training run would.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from pipelines.training.job import SftJob
from pipelines.training.models import measured
from teachers.weights import fingerprint


def nudge(base: Path, target: Path, scale: float) -> None:
    """Copy a model with noise in its linear layers, `scale` times as wide as their own values.

    The embeddings stay, as under an adapter: on the CPU vLLM's `reload_weights` leaves tied ones
    half old (0.2 nats a token off, and the proof says so).
    """
    torch.manual_seed(int(scale * 1e6))
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    with torch.no_grad():
        layers = (weight for weight in model.model.layers.parameters() if weight.ndim == 2)
        for matrix in layers:
            matrix.add_(torch.randn_like(matrix) * matrix.std() * scale)
    model.save_pretrained(target)
    for path in base.glob("*token*"):
        shutil.copy(path, target)
    for path in base.glob("*.jinja"):
        shutil.copy(path, target)


def main(base: Path, folder: Path, scales: list[str]) -> None:
    models = {fingerprint(base): base}
    for scale in scales:
        target = folder / f"merged-{scale}"
        nudge(base, target, float(scale))
        models[fingerprint(target)] = target
    job = SftJob(base=base, base_weights=fingerprint(base), dataset=folder / "none")
    (folder / "probe.json").write_text(json.dumps(measured(job, models)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
