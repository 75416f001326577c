"""Child process: a policy learns from the rewards of its own answers, token by token (PPO).

    python -m pipelines.training.ppo FOLDER

Policy, critic and reference are one base with adapters on it. Answers come as they do for GRPO:
sampled by a server that is given the policy before each batch, or here. It reads and leaves what
`pipelines.training.sft` does; checkpoints lie between batches, and a run that was killed ends with
the very same adapters.
"""

import asyncio
import sys
from pathlib import Path

from pipelines.training.child import as_child
from pipelines.training.job import PpoJob, RunFolder
from pipelines.training.journal import Journal


def train(job: PpoJob, run: RunFolder, journal: Journal, checkpoint: Path | None) -> None:
    """Train from a checkpoint or from the start, and save the policy's adapter.

    Raises:
        TrainingError: the prompts cannot be used, or the loss is no number any more.
        SyncMismatch: the server does not answer from the policy.
        GuardTripped: the reward may be hacked; the run goes on once that guard is changed.
    """
    from transformers import set_seed

    from pipelines.training import models
    from pipelines.training.actor_critic import ActorCritic
    from pipelines.training.callbacks import Live
    from pipelines.training.feeding import Feed
    from pipelines.training.ppo_trainer import PpoTrainer, settings

    tokenizer = models.tokenizer_of(job.base)
    live = Live(journal)
    with asyncio.Runner() as runner, Feed(job, run, journal, live, tokenizer, runner) as feed:
        journal.phase("load the base model")
        set_seed(job.seed)
        actors = ActorCritic(job)
        feed.serve(actors.model)
        trainer = PpoTrainer(job, actors, feed, live, args=settings(job, run.checkpoints))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    models.save_adapter(actors.model, run.adapter)


if __name__ == "__main__":
    sys.exit(as_child(Path(sys.argv[1]), train))
