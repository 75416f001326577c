"""What we hang into a trainer: the live journal, the alarm for a broken loss, and the seals."""

import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipelines.training.journal import Journal
from pipelines.training.resume import seal
from teachers.errors import TrainingError

_KEPT = ("loss", "learning_rate", "grad_norm", "mean_token_accuracy", "entropy")


class Live(TrainerCallback):
    """Writes the journal step by step and seals each checkpoint."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
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
        for name in _KEPT:
            if (value := (logs or {}).get(name)) is None:
                continue
            if not math.isfinite(value):
                raise TrainingError(
                    f"At step {state.global_step} {name} is {value}: training diverged."
                )
            self._journal.metric(state.global_step, name, value)

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        seal(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")
