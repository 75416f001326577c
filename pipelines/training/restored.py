"""Whether a resumed training has the adapter that its checkpoint has.

It can be lost on the way without a word: TRL turns an adapter that it is given into a reference and
starts a new one, and transformers passes over an adapter that is called "default" where there are
several. Training then goes on from zero. Everything here imports torch and belongs in a child.
"""

import math
from collections.abc import Iterable
from pathlib import Path

from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor

from teachers.errors import TrainingError

_FILE = "adapter_model.safetensors"


def check_restored(model: PeftModel, checkpoint: Path) -> None:
    """Hold the norm of each adapter against that of the one in the checkpoint.

    Raises:
        TrainingError: one is not what was saved, or there is none.
    """
    saved = sorted(checkpoint.rglob(_FILE))
    if not saved:
        raise TrainingError(f"There is no adapter in {checkpoint}.")
    for path in saved:
        # One that is called "default" has no folder of its own.
        name = "default" if path.parent == checkpoint else path.parent.name
        there = name in model.peft_config
        here = get_peft_model_state_dict(model, adapter_name=name) if there else {}
        norm, wanted = _norm(here.values()), _norm(load_file(path).values())
        if not math.isclose(norm, wanted, rel_tol=1e-6):
            raise TrainingError(
                f"The adapter {name} was lost on resume: its norm is {norm:.4g}, and that of "
                f"{checkpoint} is {wanted:.4g}."
            )


def _norm(weights: Iterable[Tensor]) -> float:
    """Root of the sum of squares of all weights."""
    return math.sqrt(sum(weight.double().square().sum().item() for weight in weights))
