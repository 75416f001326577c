"""What we hang into a trainer: the live journal, the alarm for a broken loss, and the seals."""

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipelines.training.journal import Journal
from pipelines.training.restored import check_restored
from pipelines.training.resume import seal
from teachers.errors import TrainingError

# What a trainer of TRL logs under these names; what is noted here is kept whatever it is called.
_KEPT = (
    *("loss", "learning_rate", "grad_norm", "mean_token_accuracy", "entropy", "kl"),
    *("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"),
    *("logps/chosen", "logps/rejected"),
)


class Live(TrainerCallback):
    """Writes the journal step by step and seals each checkpoint."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._noted: dict[str, list[float]] = defaultdict(list)
        self.latest: dict[str, float] = {}
        """Each figure of the last step that had it."""

    def note(self, **figures: Tensor) -> None:
        """Keep the mean of each figure with the step that is logged next."""
        for name, figure in figures.items():
            self._noted[name].append(figure.detach().float().mean().item())

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Raises: TrainingError: it is to go on from a checkpoint, and the adapter was lost."""
        if state.global_step:
            check_restored(model, _checkpoint(args, state))
        self._journal.phase("train", state.max_steps)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Raises: TrainingError: a value is no number. It comes before the step is saved."""
        found = {name: value for name, value in (logs or {}).items() if name in _KEPT}
        found |= {name: sum(values) / len(values) for name, values in self._noted.items()}
        self._noted.clear()
        for name, value in found.items():
            if not math.isfinite(value):
                raise TrainingError(
                    f"At step {state.global_step} {name} is {value}: training diverged."
                )
            self._journal.metric(state.global_step, name, value)
        self.latest |= found

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        if state.is_world_process_zero:
            seal(_checkpoint(args, state))


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
