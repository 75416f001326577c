"""Which checkpoint a run can go on from.

A checkpoint is a folder of several files that the trainer writes one after the other. It counts
once it is sealed: everything is on disk, and the seal, written last, has the hash of every file.
"""

import json
import shutil
from pathlib import Path

from teachers.files import sha256_of, sync, write_whole

_SEAL = "sealed.json"


def seal(checkpoint: Path) -> None:
    """Bring a checkpoint's files to disk and write down what they are."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    for path in files:
        sync(path)
    hashes = {str(path.relative_to(checkpoint)): sha256_of(path) for path in files}
    write_whole(checkpoint / _SEAL, json.dumps(hashes))


def last_sealed(checkpoints: Path) -> Path | None:
    """The newest whole checkpoint; those that a kill or a full disk cut short are removed."""
    found = sorted(checkpoints.glob("checkpoint-*"), key=step_of, reverse=True)
    for checkpoint in found:
        if _whole(checkpoint):
            return checkpoint
        shutil.rmtree(checkpoint)
    return None


def step_of(checkpoint: Path) -> int:
    """The optimizer step after which a checkpoint was taken."""
    return int(checkpoint.name.rpartition("-")[2])


def _whole(checkpoint: Path) -> bool:
    try:
        hashes = json.loads((checkpoint / _SEAL).read_text())
        return all(sha256_of(checkpoint / name) == kept for name, kept in hashes.items())
    except (OSError, ValueError):
        return False
