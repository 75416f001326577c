"""Child process: training a reward model, which gives an answer a number.

    python -m pipelines.training.reward FOLDER

TRL's reward trainer on pairs of a better and a worse answer (Bradley and Terry 1952): an adapter,
and a head that is read at the answer's last token. What comes out is a plain PEFT adapter for
sequence classification, with the tokenizer that pads for it and the fingerprint of its base.
Nothing is merged, for it answers nobody. It resumes as exactly as `pipelines.training.sft`.
"""

import sys
from pathlib import Path
from typing import Any, cast

from pipelines.training.child import as_child
from pipelines.training.job import RewardJob, RunFolder
from pipelines.training.journal import Journal


def train(job: RewardJob, run: RunFolder, journal: Journal, checkpoint: Path | None) -> None:
    """Train from a checkpoint or from the start, and save the adapter with its head.

    Raises:
        TrainingError: the data cannot be used, or the loss is no number any more.
    """
    from transformers import set_seed
    from trl.trainer.reward_config import RewardConfig

    from pipelines.training import models
    from pipelines.training.arguments import common
    from pipelines.training.callbacks import Live
    from pipelines.training.heads import headed, pad_apart
    from pipelines.training.on_cpu import adapted, attention
    from pipelines.training.pairs import weighted_of
    from pipelines.training.reward_notes import Origin
    from pipelines.training.trainers import ScoreTrainer
    from teachers.files import whole_folder

    tokenizer = models.tokenizer_of(job.base)
    pad_apart(tokenizer)
    data = weighted_of(job.dataset, tokenizer, job.max_length)
    journal.rows(len(data.rows), data.too_long)
    journal.phase("load the base model")
    set_seed(job.seed)
    model = headed(job)
    trainer = ScoreTrainer(
        job,
        Live(journal),
        model=model,
        args=RewardConfig(
            **common(job, run.checkpoints),
            max_length=None,  # too long ones are out already, and counted
            remove_unused_columns=False,  # TRL does not know the weights
            train_sampling_strategy="group_by_length",  # as for a judge
        ),
        train_dataset=data.rows,
        processing_class=tokenizer,
    )
    models.in_float32(model)
    if job.device == "cpu":
        adapted.quicken(model)
        attention.quicken(cast("Any", model.get_base_model()))
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    with whole_folder(run.adapter) as partial:
        models.put_adapter(model, partial)
        tokenizer.save_pretrained(partial)
        Origin(base=job.base_weights, adapter=job.adapter).save(partial)


if __name__ == "__main__":
    sys.exit(as_child(Path(sys.argv[1]), train))
