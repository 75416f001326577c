"""A reward model's score of an answer, as one term of a policy's reward.

Everything here imports torch and belongs in a child process.
"""

from collections.abc import Sequence

from judges.rewards import beats_the_usual
from pipelines.training import models
from pipelines.training.dataset import answered
from pipelines.training.score_job import ScoreJob
from pipelines.training.scoring import Scorer
from teachers.records import Message


class Rater:
    """A reward model with a base of its own, whatever the policy's is.

    It is not mounted on the policy: TRL calls that adapter "default", and transformers forgets an
    adapter of that name on resume once there is another.
    """

    def __init__(self, job: ScoreJob) -> None:
        self._tokenizer = models.tokenizer_of(job.base)
        self._scorer = Scorer.alone(job.base, job.adapter, job.device)

    def rate(
        self, question: Sequence[Message], texts: Sequence[str], whole: Sequence[bool]
    ) -> list[float]:
        """Each answer's value as a term, from 0 to 1.

        Args:
            whole: whether the answer came to its end; one that was cut is read where it stops.
        """
        sides = []
        for text, ended in zip(texts, whole, strict=True):
            side = answered(self._tokenizer, question, [Message(role="assistant", content=text)])
            cut = not ended and side[-1] == self._tokenizer.eos_token_id
            sides.append((side[:-1] if cut else side, ()))
        return [beats_the_usual(score) for score in self._scorer.scores(sides)]
