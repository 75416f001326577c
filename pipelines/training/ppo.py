"""Child process: a policy learns from the rewards of its own answers, token by token (PPO).

    python -m pipelines.training.ppo FOLDER

Policy, critic and reference are one base with adapters on it. Answers come as they do for GRPO:
sampled by a server that is given the policy before each batch, or here. It reads and leaves what
`pipelines.training.sft` does; checkpoints lie between batches, and a run that was killed ends with
the very same adapters.
"""

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from judges.rewards import REWARD_MODEL
from pipelines.training import cores, ranks
from pipelines.training.child import as_child
from pipelines.training.job import PpoJob, RunFolder
from pipelines.training.journal import Journal
from teachers.errors import TrainingError

if TYPE_CHECKING:
    from pipelines.training.actor_critic import ActorCritic
    from pipelines.training.rater import Rater


def train(job: PpoJob, run: RunFolder, journal: Journal, checkpoint: Path | None) -> None:
    """Train from a checkpoint or from the start, and save the policy's adapter.

    Raises:
        TrainingError: the prompts cannot be used, or the loss is no number any more.
        SyncMismatch: the server does not answer from the policy.
        GuardTripped: the reward may be hacked; the run goes on once that guard is changed.
    """
    with ranks.others(job.module, run.root, job.processes) as meet:
        _train(job, run, journal, checkpoint, meet)


def _train(
    job: PpoJob, run: RunFolder, journal: Journal, checkpoint: Path | None, meet: ranks.Meet
) -> None:
    """The work of one process."""
    from transformers import set_seed

    from pipelines.training import models
    from pipelines.training.actor_critic import ActorCritic
    from pipelines.training.callbacks import Live
    from pipelines.training.feeding import Feed
    from pipelines.training.ppo_trainer import PpoTrainer, settings

    meet(job.device)
    live, args = Live(journal), settings(job, run.checkpoints)
    cores.use(ranks.here())  # accelerate has its own idea of them by now
    with contextlib.ExitStack() as stack:
        feed = None
        if ranks.rank() == 0:
            runner = stack.enter_context(asyncio.Runner())
            tokenizer = models.tokenizer_of(job.base)
            feed = stack.enter_context(Feed(job, run, journal, live, tokenizer, runner))
        journal.phase("load the base model")
        set_seed(job.seed)
        actors = ActorCritic(job)
        rater = _rater(job, actors)
        if feed is not None:
            feed.serve(actors.model, rater)
        trainer = PpoTrainer(job, actors, feed, live, args=args)
        found = ranks.shared(lambda: checkpoint)
        trainer.train(resume_from_checkpoint=str(found) if found else None)
    if ranks.rank() == 0:
        models.save_adapter(actors.model, run.adapter)


def _rater(job: PpoJob, actors: "ActorCritic") -> "Rater | None":
    """The reward model as one more role, if it was trained on this base; else with one of its own.

    Raises:
        TrainingError: the critic is to begin as it, and cannot.
    """
    from pipelines.training.rater import Rater, shares_its_base

    if job.reward_model is None:
        return None
    if shares_its_base(job):
        rater = Rater.beside(actors.model, job.reward_model)
        if job.value_from == "reward_model":
            actors.foresee(rater.scorer, _weight(job))
        return rater
    if job.value_from == "reward_model":
        raise TrainingError(
            f"{job.reward_model.adapter} was trained on another base than the policy's, so the "
            "critic cannot begin as it: train.value_from base, or a reward model of this base."
        )
    # Whoever makes the rollouts asks it.
    return Rater.alone(job.reward_model) if ranks.rank() == 0 else None


def _weight(job: PpoJob) -> float:
    """How much the reward model's terms count together."""
    return sum(term.weight for term in job.rewards if term.verifier == REWARD_MODEL)


if __name__ == "__main__":
    sys.exit(as_child(Path(sys.argv[1]), train))
