"""Child process: supervised fine-tuning of an adapter with TRL.

    python -m pipelines.training.sft FOLDER

It reads FOLDER/job.json and leaves the adapter, a merged bf16 copy, the probe's log-probabilities
and, last of all, result.json. On the CPU the adapter comes out the same to the bit however often
the process was killed.
"""

import sys
from pathlib import Path

from pipelines.training.child import as_child
from pipelines.training.job import RunFolder, SftJob
from pipelines.training.journal import Journal


def train(job: SftJob, run: RunFolder, journal: Journal, checkpoint: Path | None) -> None:
    """Train from a checkpoint or from the start, and save the adapter.

    Raises:
        TrainingError: the data cannot be used, or the loss is no number any more.
    """
    from transformers import set_seed
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from pipelines.training import models
    from pipelines.training.arguments import common
    from pipelines.training.callbacks import Live
    from pipelines.training.dataset import tokens_of

    tokenizer = models.tokenizer_of(job.base)
    data = tokens_of(job.dataset, tokenizer, job.max_length)
    journal.rows(len(data.rows), data.too_long)
    journal.phase("load the base model")
    set_seed(job.seed)
    model = models.with_adapter(models.base_model(job), job)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            **common(job, run.checkpoints), max_length=job.max_length, packing=job.packing
        ),
        train_dataset=data.rows,
        processing_class=tokenizer,
        callbacks=[Live(journal)],
    )
    models.in_float32(model)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    models.save_adapter(model, run.adapter)


if __name__ == "__main__":
    sys.exit(as_child(Path(sys.argv[1]), train))
