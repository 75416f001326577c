"""Child process: supervised fine-tuning of an adapter with TRL.

    python -m pipelines.training.sft FOLDER

It reads FOLDER/job.json and leaves the adapter, a merged bf16 copy, the probe's log-probabilities
and, last of all, result.json. On the CPU the adapter comes out the same to the bit however often
the process was killed.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.training.child import as_child
from pipelines.training.job import RunFolder, SftJob
from pipelines.training.journal import Journal

if TYPE_CHECKING:
    from trl.trainer.sft_config import SFTConfig


def train(job: SftJob, run: RunFolder, journal: Journal, checkpoint: Path | None) -> None:
    """Train from a checkpoint or from the start, and save the adapter.

    Raises:
        TrainingError: the data cannot be used, or the loss is no number any more.
    """
    import torch
    from transformers import set_seed
    from trl.trainer.sft_trainer import SFTTrainer

    from pipelines.training import models
    from pipelines.training.callbacks import Live
    from pipelines.training.dataset import tokens_of

    tokenizer = models.tokenizer_of(job.base)
    data = tokens_of(job.dataset, tokenizer, job.max_length)
    journal.metric(0, "rows", len(data.rows))
    journal.metric(0, "rows_too_long", data.too_long)
    journal.phase("load the base model")
    set_seed(job.seed)
    model = models.with_adapter(models.base_model(job), job)
    trainer = SFTTrainer(
        model=model,
        args=_config(job, run.checkpoints),
        train_dataset=data.rows,
        processing_class=tokenizer,
        callbacks=[Live(journal)],
    )
    for weight in model.parameters():
        if weight.requires_grad:
            # TRL casts the adapter to bf16 over a 4-bit base, where a step of 1e-4 is rounded away.
            weight.data = weight.data.to(torch.float32)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    models.save_adapter(model, run.adapter)


def _config(job: SftJob, output: Path) -> "SFTConfig":
    from trl.trainer.sft_config import SFTConfig

    gpu = job.device == "gpu"
    return SFTConfig(
        output_dir=str(output),
        num_train_epochs=job.epochs,
        per_device_train_batch_size=job.batch_size,
        gradient_accumulation_steps=job.accumulation,
        learning_rate=job.learning_rate,
        lr_scheduler_type=job.schedule,
        warmup_steps=job.warmup_share,  # below 1 it is a share
        max_length=job.max_length,
        packing=job.packing,
        gradient_checkpointing=job.gradient_checkpointing,
        seed=job.seed,
        use_cpu=not gpu,
        bf16=gpu,  # autocast; the weights are bf16 either way
        save_strategy="steps",
        save_steps=job.save_steps,
        save_total_limit=2,  # the one being written, and the one before it
        logging_steps=1,
        logging_nan_inf_filter=False,  # else a broken loss is logged as the last good one
        disable_tqdm=True,
        report_to="none",
    )


if __name__ == "__main__":
    sys.exit(as_child(Path(sys.argv[1]), train))
