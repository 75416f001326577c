"""What every trainer is told alike, whatever its objective."""

from pathlib import Path
from typing import Any

from pipelines.training.job import Job


def common(job: Job, output: Path) -> dict[str, Any]:
    """Arguments of `transformers.TrainingArguments` and of TRL's classes made from it."""
    gpu = job.device == "gpu"
    return {
        "output_dir": str(output),
        "num_train_epochs": job.epochs,
        "per_device_train_batch_size": job.batch_size,
        "gradient_accumulation_steps": job.accumulation,
        "learning_rate": job.learning_rate,
        "lr_scheduler_type": job.schedule,
        "warmup_steps": job.warmup_share,  # below 1 it is a share
        "gradient_checkpointing": job.gradient_checkpointing,
        "seed": job.seed,
        "use_cpu": not gpu,
        "bf16": gpu,  # autocast; the weights are bf16 either way
        "save_strategy": "steps",
        "save_steps": job.save_steps,
        "save_total_limit": 2,  # the one being written, and the one before it
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # else a broken loss is logged as the last good one
        "disable_tqdm": True,
        "report_to": "none",
    }
