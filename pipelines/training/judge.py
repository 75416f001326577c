"""Child process: training a judge of one's own.

    python -m pipelines.training.judge FOLDER

A judge is asked about one answer and says one of two words; its score is the log odds of the good
word against the bad one. It is trained so that of two answers the better one scores higher. It
reads and leaves what `pipelines.training.sft` does, and resumes as exactly.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.training.child import as_child
from pipelines.training.job import JudgeJob, RunFolder
from pipelines.training.journal import Journal
from teachers.errors import TrainingError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def train(job: JudgeJob, run: RunFolder, journal: Journal, checkpoint: Path | None) -> None:
    """Train from a checkpoint or from the start, and save the adapter.

    Raises:
        TrainingError: the data or the words cannot be used, or the loss is no number any more.
    """
    from transformers import TrainingArguments, set_seed

    from pipelines.training import models
    from pipelines.training.arguments import common
    from pipelines.training.callbacks import Live
    from pipelines.training.pairs import judged_of
    from pipelines.training.trainers import JudgeTrainer, judged_batch

    tokenizer = models.tokenizer_of(job.base)
    good, bad = (single_token(tokenizer, word) for word in job.words)
    data = judged_of(job.dataset, tokenizer, job.max_length)
    journal.rows(len(data.rows), data.too_long)
    journal.phase("load the base model")
    set_seed(job.seed)
    model = models.with_adapter(models.base_model(job), job)
    padding = tokenizer.pad_token_id
    trainer = JudgeTrainer(
        job,
        (good, bad),
        Live(journal),
        model=model,
        args=TrainingArguments(
            **common(job, run.checkpoints),
            remove_unused_columns=False,  # they are the collator's business
            train_sampling_strategy="group_by_length",  # or a third of the time goes into padding
        ),
        data_collator=judged_batch(tokenizer.eos_token_id if padding is None else padding),
        train_dataset=data.rows,
        processing_class=tokenizer,
    )
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    models.save_adapter(model, run.adapter)


def single_token(tokenizer: "PreTrainedTokenizerBase", word: str) -> int:
    """The one token that a word is where a turn begins.

    Raises:
        TrainingError: it is none, or several.
    """
    tokens: list[int] = tokenizer(word, add_special_tokens=False)["input_ids"]
    if len(tokens) != 1:
        raise TrainingError(
            f"{word!r} is {len(tokens)} tokens to this model, and a verdict must be one.",
            hint="Other words will do: the job's `words`.",
        )
    return tokens[0]


if __name__ == "__main__":
    sys.exit(as_child(Path(sys.argv[1]), train))
