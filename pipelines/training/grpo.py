"""Child process: a policy learns from the rewards of its own answers (GRPO, RLOO).

    python -m pipelines.training.grpo FOLDER

TRL's GRPO trainer updates the policy; what it is given comes through `rollout_func`: the answers,
sampled by a server that is given the policy before each batch, and what they earned. It reads and
leaves what `pipelines.training.sft` does. Checkpoints lie between batches, and every answer is kept
as it comes, so a run that was killed ends with the very same adapter.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pipelines.training.child import as_child
from pipelines.training.job import PolicyJob, RunFolder
from pipelines.training.journal import Journal

if TYPE_CHECKING:
    from peft import PeftModel

    from pipelines.training.feeding import Feed


def train(job: PolicyJob, run: RunFolder, journal: Journal, checkpoint: Path | None) -> None:
    """Train from a checkpoint or from the start, and save the adapter.

    Raises:
        TrainingError: the prompts cannot be used, or the loss is no number any more.
        SyncMismatch: the server does not answer from the policy.
        GuardTripped: the reward may be hacked; the run goes on once that guard is changed.
    """
    # TRL calls rollout_func experimental; we are pinned to the version that is tested here.
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from datasets import Dataset

    from pipelines.training import models
    from pipelines.training.callbacks import Live
    from pipelines.training.feeding import Feed
    from pipelines.training.policy_trainer import PolicyTrainer, settings
    from pipelines.training.rater import Rater

    tokenizer = models.tokenizer_of(job.base)
    live = Live(journal)
    with asyncio.Runner() as runner, Feed(job, run, journal, live, tokenizer, runner) as feed:
        journal.phase("load the base model")
        trainer = PolicyTrainer(
            job,
            live,
            args=settings(job, run.checkpoints),
            # Which prompts fill a batch is the curriculum's to say: TRL only counts them.
            train_dataset=Dataset.from_dict({"prompt": [""] * job.rollouts.prompts}),
            processing_class=tokenizer,
            # Given a model with an adapter on it, TRL would copy that as the reference.
            model=models.base_model(job),
            peft_config=models.adapter_config(job),
            reward_funcs=[advantages],
            rollout_func=partial(rollouts, feed),
        )
        model = cast("PeftModel", trainer.model)
        feed.serve(model, Rater.alone(job.reward_model) if job.reward_model else None)
        models.in_float32(model)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    models.save_adapter(model, run.adapter)


def rollouts(feed: "Feed", _prompts: Sequence[object], trainer: Any) -> dict[str, Any]:
    """A batch for TRL: tokens, the log-probabilities they were sampled with, advantages."""
    used = feed.batch(trainer.state.global_step // feed.job.steps)
    exact = not any(one.logprobs for one in used)
    return {
        "prompt_ids": [list(one.prompt_tokens) for one in used],
        "completion_ids": [list(one.tokens) for one in used],
        "logprobs": None if exact else [list(one.logprobs) for one in used],
        "earned": [one.advantage or 0.0 for one in used],
    }


def advantages(earned: list[float], **_: Any) -> list[float]:
    """What TRL takes for rewards: it subtracts a group's mean, which is 0 of advantages."""
    return earned


if __name__ == "__main__":
    sys.exit(as_child(Path(sys.argv[1]), train))
