"""Which prompts are worth sampling: those that the student sometimes gets right.

A group of answers that are all right, or all wrong, has no spread and teaches nothing. So prompts
are drawn by how likely their next answers are to differ, and left alone where they no longer do.

Nothing here has a random state: a draw is a function of the seed, its numbers and the tallies, so
a killed run that replays its updates draws what it would have drawn.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from teachers.records import content_id

Standing = Literal["open", "retired", "parked"]
"""Worth sampling; solved; or out of reach for now."""


class Task(NamedTuple):
    """A prompt and how its newest tries went."""

    prompt_id: str
    tries: int = 0
    """Answers that a rule decided; what it left undecided is no try."""
    hits: int = 0
    rounds_ago: int = 0
    """How many rounds ago it was last tried; 0 is the present one."""


class Group(NamedTuple):
    """What came of sampling a prompt."""

    prompt_id: str
    tries: int
    hits: int


class Pacing(BaseModel):
    """When a prompt is left alone.

    The usual filter keeps what is right between 0.1 and 0.9 of the time and centres on 0.5, with 8
    answers a prompt; 0.9 is where open-instruct stops sampling a prompt again
    (`no_resampling_pass_rate`), and DAPO (arXiv 2503.14476) drops groups at either end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    retire_above: float = Field(default=0.9, gt=0, le=1)
    """A prompt that is right more often than this is retired."""
    retire_after: int = Field(default=8, ge=1)
    """Not before so many tries."""
    # 0 of 16 says with 95 % confidence that the rate is below 1 - 0.05 ** (1 / 16) = 17 %; 0 of 8
    # would leave 31 % possible.
    park_after: int = Field(default=16, ge=1)
    """A prompt that was never right in so many tries is parked."""
    park_rounds: int = Field(default=2, ge=0)
    """Rounds that a parked prompt sits out, beside the rest of the one that parked it."""
    remember: int = Field(default=32, ge=1)
    """About so many of a prompt's newest tries count: older ones were another student's."""


def standing(task: Task, pacing: Pacing) -> Standing:
    """Whether a prompt is worth sampling."""
    if task.tries >= pacing.retire_after and task.hits > pacing.retire_above * task.tries:
        return "retired"
    never = task.tries >= pacing.park_after and not task.hits
    return "parked" if never and task.rounds_ago <= pacing.park_rounds else "open"


def weight(task: Task) -> float:
    """How likely two more tries are to differ, halved: the mean of p(1 - p), p the pass rate.

    Under Beta(1 + hits, 1 + misses), the posterior of an even prior. It is largest at half right,
    and a prompt known to be half right comes before one that was never tried.
    """
    right, wrong = task.hits + 1, task.tries - task.hits + 1
    both = right + wrong
    return right * wrong / (both * (both + 1))


def draw(tasks: Iterable[Task], many: int, key: Sequence[int], pacing: Pacing) -> tuple[str, ...]:
    """Draw prompts without replacement, each with a chance in proportion to its weight.

    Each open prompt draws an arrival time from the exponential distribution whose rate is its
    weight, and the first ones win (Efraimidis and Spirakis 2006). The time is a hash of the key
    and the prompt, so the order of `tasks` does not matter. Where there are not enough, retired
    and parked prompts fill the places that are left.

    Args:
        key: the numbers of this draw; the same key draws the same.
    """
    places = sorted((standing(task, pacing) != "open", _arrival(task, key), task) for task in tasks)
    return tuple(task.prompt_id for _, _, task in places[:many])


def _arrival(task: Task, key: Sequence[int]) -> float:
    uniform = (int(content_id("draw", [*key, task.prompt_id])[:13], 16) + 0.5) / 16**13
    return -math.log(uniform) / weight(task)


class Curriculum:
    """The prompts of a run with their tallies.

    Args:
        tasks: every prompt of the run, with what earlier rounds know of it.
        seed: of the draws.
    """

    def __init__(self, tasks: Iterable[Task], seed: int, pacing: Pacing | None = None) -> None:
        self._seed, self._pacing = seed, pacing or Pacing()
        self._tasks = {task.prompt_id: task for task in tasks}
        self._groups = {
            task.prompt_id: [Group(*task[:3])] if task.tries else []
            for task in self._tasks.values()
        }

    def draw(
        self, many: int, batch: int, number: int = 0, but: Collection[str] = ()
    ) -> tuple[str, ...]:
        """The prompts of a batch; fewer than asked for if there are no more.

        Args:
            number: which draw of the batch: groups without spread are replaced by a further one.
            but: prompts that the batch has had already.
        """
        tasks = (task for task in self._tasks.values() if task.prompt_id not in but)
        return draw(tasks, many, (self._seed, batch, number), self._pacing)

    def update(self, groups: Iterable[Group]) -> None:
        """Count what came of sampling; the order of a prompt's groups matters, nothing else does.

        Raises:
            KeyError: a prompt that is not of this run.
        """
        for group in groups:
            kept = self._groups[group.prompt_id]
            if not group.tries:
                continue
            kept.append(group)
            while sum(one.tries for one in kept[1:]) >= self._pacing.remember:
                del kept[0]
            tries, hits = sum(one.tries for one in kept), sum(one.hits for one in kept)
            self._tasks[group.prompt_id] = Task(group.prompt_id, tries, hits)

    def standings(self) -> dict[Standing, int]:
        """How many prompts are open, retired and parked."""
        found: dict[Standing, int] = {"open": 0, "retired": 0, "parked": 0}
        for task in self._tasks.values():
            found[standing(task, self._pacing)] += 1
        return found
