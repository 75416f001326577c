"""Child process: a student's run folder as training leaves it, without the training.

    python -m tests.adapter BASE FOLDER SCALE

The adapter's second factor, which training starts at zero, is drawn SCALE wide.
"""

import json
import sys
from pathlib import Path

import torch

from pipelines.training import models
from pipelines.training.job import RunFolder, SftJob
from teachers.weights import fingerprint


def make(base: Path, run: RunFolder, scale: float) -> None:
    job = SftJob(base=base, base_weights=fingerprint(base), dataset=run.root / "none", rank=8)
    torch.manual_seed(int(scale * 1e6))
    model = models.with_adapter(models.base_model(job), job)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0.0, scale)
    models.save_adapter(model, run.adapter)
    models.merge(job, run.adapter, run.merged)
    folders = {job.base_weights: base, fingerprint(run.merged): run.merged}
    run.probe.write_text(json.dumps(models.measured(job, folders)))
    run.job.write_text(job.model_dump_json())


if __name__ == "__main__":
    make(Path(sys.argv[1]), RunFolder(Path(sys.argv[2])), float(sys.argv[3]))
