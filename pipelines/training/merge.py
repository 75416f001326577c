"""Child process: a finished run's merged copy, made again or compared.

    python -m pipelines.training.merge FOLDER
    python -m pipelines.training.merge FOLDER --compare

Without --compare it puts back the copy's weights, unless they are there. With it, it writes nothing
and says by its exit code whether merging again would give what is there, bit by bit.
"""

import sys
from pathlib import Path

from filelock import FileLock
from safetensors.torch import load_file
from torch import Tensor, equal

from pipelines.training import cores, models
from pipelines.training.job import DONE, REFUSED, Result, RunFolder, read_job
from teachers.errors import PreceptorError, TrainingError
from teachers.weights import checked, fingerprint, whole


def restore(run: RunFolder) -> None:
    """Merge a run's adapter into its base once more.

    What is there beside weights (configuration, tokenizer) stays, so that a newer library changes
    nothing of it.

    Raises:
        TrainingError: what comes out is not what was trained.
    """
    result = Result.model_validate_json(run.result.read_text())
    with FileLock(run.lock):
        job = read_job(run.job)
        if not run.merged.is_dir():
            models.merge(job, run.adapter, run.merged)
        elif not whole(run.merged):
            models.put_weights(models.merged(job, run.adapter), run.merged)
    if checked(run.merged).fingerprint != result.weights:
        raise TrainingError(
            f"{run.merged} was merged again and is not what was trained: base, adapter or the "
            "libraries are others."
        )


def same(run: RunFolder) -> bool:
    """Whether a run's merged copy, which is whole, is what its base and its adapter give now."""
    if fingerprint(run.merged) != Result.model_validate_json(run.result.read_text()).weights:
        return False
    again: dict[str, Tensor] = models.merged(read_job(run.job), run.adapter).state_dict()
    for part in run.merged.glob("*.safetensors"):
        for name, kept in load_file(part).items():
            if name not in again or not equal(again[name].cpu(), kept):
                return False
    return True


def main(folder: Path, *, compare: bool) -> int:
    """Returns the exit code, as `pipelines.training.job` has them."""
    cores.use()
    try:
        if not compare:
            restore(RunFolder(folder))
        elif not same(RunFolder(folder)):
            return REFUSED
    except PreceptorError as refused:
        sys.stderr.write(f"{refused.message}\n")
        return REFUSED
    return DONE


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), compare="--compare" in sys.argv))
