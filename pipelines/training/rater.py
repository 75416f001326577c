"""A reward model's score of an answer, as one term of a policy's reward.

Everything here imports torch and belongs in a child process.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from judges.rewards import beats_the_usual
from pipelines.training import models
from pipelines.training.dataset import answered
from pipelines.training.job import PolicyJob
from pipelines.training.reward_notes import Origin
from pipelines.training.score_job import ScoreJob
from pipelines.training.scoring import Row, Scorer
from teachers.records import Message


class Told(NamedTuple):
    """An answer to rate."""

    question: Sequence[Message]
    text: str
    finish_reason: str
    """One that was cut (`length`) is read where it stops."""


class Rater:
    """A reward model at the trainer's side; made by `alone` or `beside`.

    Args:
        scorer: the reward model.
        tokenizer: of the base that it is on.
    """

    def __init__(self, scorer: Scorer, tokenizer: PreTrainedTokenizerBase) -> None:
        self.scorer, self._tokenizer = scorer, tokenizer

    @classmethod
    def alone(cls, job: ScoreJob) -> Self:
        """On a base of its own.

        A policy that TRL trains has no room for it: TRL calls that adapter "default", and
        transformers forgets an adapter of that name on resume once there is another.
        """
        return cls(Scorer.alone(job.base, job.adapter, job.device), models.tokenizer_of(job.base))

    @classmethod
    def beside(cls, policy: PeftModel, job: ScoreJob) -> Self:
        """On the policy's base, beside its adapter.

        Raises:
            TrainingError: it was trained on another base.
        """
        return cls(Scorer.on(policy, job.adapter), models.tokenizer_of(job.base))

    def rate(self, answers: Sequence[Told]) -> list[float]:
        """Each answer's value as a term, from 0 to 1."""
        sides = [self._side(one) for one in answers]
        return [beats_the_usual(score) for score in self.scorer.scores(sides)]

    def _side(self, one: Told) -> Row:
        said = Message(role="assistant", content=one.text)
        side = answered(self._tokenizer, one.question, [said])
        cut = one.finish_reason == "length" and side[-1] == self._tokenizer.eos_token_id
        return (side[:-1] if cut else side, ())


def shares_its_base(job: PolicyJob) -> bool:
    """Whether the reward model was trained on the very base of the policy."""
    if job.reward_model is None:
        return False
    origin = Origin.read(job.reward_model.adapter)
    return (origin.base, origin.adapter) == (job.base_weights, job.adapter)
