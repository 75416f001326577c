"""One rollout: what the policy answered, what each rule said of it, and what came of that."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from judges.rewards import TermValue
from teachers.records import content_id

Fate = Literal["used", "no_spread", "unrewarded"]
"""Trained on; its group's rewards are all the same; or a rule could not decide: it left its group,
and a score of 0 it is not."""


class Rollout(BaseModel):
    """An answer of the policy in training, with the tokens that an update needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch: int
    """Which batch of rollouts, from 0; the policy is the same throughout it."""
    draw: int
    """Which draw of the batch, from 0: groups without spread are replaced by a further draw."""
    prompt_id: str
    position: int
    """Which of its group's answers."""
    policy: str
    """Which weights answered: the version of the policy."""
    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]
    """The answer as sampled, its end token included if there is one."""
    logprobs: tuple[float, ...]
    """Of each token, in nats, by the engine that sampled it."""
    text: str
    finish_reason: str
    terms: dict[str, TermValue] = {}
    """What each reward term says, by its name; those that only watch included."""
    reward: float | None = None
    """None if a rule could not decide."""
    advantage: float | None = None
    """None unless it is trained on; none with a critic either, which finds one for each token."""
    fate: Fate = "used"

    def id(self, training_run_id: str) -> str:
        """Known before it is sampled: run, batch, draw, prompt and position."""
        where = [training_run_id, self.batch, self.draw, self.prompt_id, self.position]
        return content_id("rollout", where)
