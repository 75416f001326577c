"""A batch of rollouts: prompts drawn, answered by the policy, rewarded, and drawn again where a
group teaches nothing.

Each group is written down as it comes, before anything is learned from it: a training process that
was killed goes on with the answers that it had, and ends with the very same adapter.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from judges.records import Verification
from judges.rewards import JUDGE, OWN, REWARD_MODEL, Finding, Reward, RewardTerm, rewarded
from judges.verifiers.pool import Pool
from pipelines.training import advantages
from pipelines.training.curriculum import Curriculum, Group
from pipelines.training.grader import Grader
from pipelines.training.job import PolicyJob
from pipelines.training.kept import Place, Sampled
from pipelines.training.rater import Rater, Told
from pipelines.training.rollout import Fate, Rollout
from pipelines.training.sampling import Sampler
from teachers.client import Tokens
from teachers.records import Message, Prompt

Decode = Callable[[Sequence[int]], str]

_UNWATCHED = Reward(total=None, terms={})


class Exercise(BaseModel):
    """A prompt to practise on: a line of the frozen dataset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Prompt
    messages: tuple[Message, ...]
    """What the policy is asked."""
    tries: int = 0
    hits: int = 0
    """How earlier rounds went, as `curriculum.Task` has it."""
    rounds_ago: int = 0


class Checked(NamedTuple):
    """A group with what rules and judges say of it."""

    place: Place
    answers: list[Tokens]
    texts: list[str]
    said: list[dict[str, Verification | float | None]]
    """Of each answer, by the term."""


class Answers(NamedTuple):
    """A group with what it earned."""

    place: Place
    answers: list[Tokens]
    texts: list[str]
    rewards: list[Reward]
    """By the terms that are learned from."""
    watched: list[Reward]
    """By those that only watch."""

    @property
    def totals(self) -> list[float | None]:
        return [reward.total for reward in self.rewards]


class Collector:
    """Makes batches of rollouts. What it does is the same again after a kill.

    Args:
        exercises: every prompt of the run, by id, with its tokens.
        sampler: who answers.
        decode: tokens to text, special ones left out.
        sampled: where answers are kept as they come.
        pool: where verifiers run.
        grader: who gives a judge's score, if a term wants one.
        rater: who gives a reward model's.
    """

    def __init__(
        self,
        job: PolicyJob,
        exercises: dict[str, tuple[Exercise, list[int]]],
        curriculum: Curriculum,
        sampler: Sampler,
        decode: Decode,
        sampled: Sampled,
        pool: Pool,
        grader: Grader | None = None,
        rater: Rater | None = None,
    ) -> None:
        self._job, self._exercises, self._curriculum = job, exercises, curriculum
        self._sampler, self._decode, self._sampled, self._pool = sampler, decode, sampled, pool
        self._grader, self._rater = grader, rater

    async def batch(self, number: int, policy: str) -> list[Rollout]:
        """The rollouts of a batch: those to train on first, group by group, then the others."""
        groups = await self._groups(number)
        if not self._job.compares:
            return [row for one in groups for row in self._rows(one, policy)]
        # Stable: those without spread come last, and are trained on only where others are missing.
        groups.sort(key=lambda one: not advantages.spread(one.totals))
        wanted = self._job.rollouts.prompts
        earned = self._advantages([one.totals for one in groups[:wanted]])
        earned += [[None] * self._job.rollouts.group for _ in groups[wanted:]]
        rows = [self._rows(one, policy, row) for one, row in zip(groups, earned, strict=True)]
        return [row for group in rows for row in group]

    def _advantages(self, totals: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
        if self._job.objective == "rloo":
            return advantages.rloo(totals)
        return advantages.grpo(totals, self._job.scale)

    async def _groups(self, batch: int) -> list[Answers]:
        """Groups until enough of them teach something, or the draws are used up."""
        wanted, found = self._job.rollouts.prompts, list[Answers]()
        for draw in range(self._job.rollouts.draws):
            missing = wanted - sum(self._teaches(one) for one in found)
            if not missing:
                break
            had = [one.place.prompt_id for one in found]
            drawn = self._curriculum.draw(missing, batch, draw, had)
            if not drawn:
                break
            found += await self._answered([Place(batch, draw, name) for name in drawn])
        return found

    def _teaches(self, group: Answers) -> bool:
        return advantages.spread(group.totals) or not self._job.compares

    async def _answered(self, places: Sequence[Place]) -> list[Answers]:
        """Each place's group, verified while others are still being sampled; in the order given."""
        missing = [place for place in places if self._sampled.get(place) is None]
        if missing and self._sampler.together:
            missing = list(places)
        prompts = [self._exercises[place.prompt_id][1] for place in missing]
        seed = self._job.seed * 1_000_003 + places[0].batch * 101 + places[0].draw
        try:
            async with asyncio.TaskGroup() as group:
                checks = [
                    group.create_task(self._checked(place, answers))
                    for place in places
                    if place not in missing and (answers := self._sampled.get(place)) is not None
                ]
                if missing:
                    size = self._job.rollouts.group
                    async for at, answers in self._sampler.sample(prompts, size, seed):
                        self._sampled.add(missing[at], answers)
                        checks.append(group.create_task(self._checked(missing[at], answers)))
        except ExceptionGroup as several:
            raise several.exceptions[0] from several
        done = {one.place: one for one in (check.result() for check in checks)}
        return self._rewarded([done[place] for place in places])

    async def _checked(self, place: Place, answers: list[Tokens]) -> Checked:
        texts = [self._decode(answer.ids) for answer in answers]
        exercise = self._exercises[place.prompt_id][0]
        said = await asyncio.gather(*(self._said(text, exercise) for text in texts))
        return Checked(place, answers, texts, said)

    def _rewarded(self, groups: Sequence[Checked]) -> list[Answers]:
        rated = self._rated(groups)
        found = []
        for one in groups:
            findings = [
                Finding(text, len(answer.ids), said | next(rated))
                for text, answer, said in zip(one.texts, one.answers, one.said, strict=True)
            ]
            watched = (
                rewarded(self._job.watched, findings)
                if self._job.watched
                else [_UNWATCHED] * len(findings)
            )
            rewards = rewarded(self._job.rewards, findings)
            found.append(Answers(one.place, one.answers, one.texts, rewards, watched))
        return found

    def _rated(self, groups: Sequence[Checked]) -> Iterator[dict[str, float]]:
        """The reward model's score of each answer, by the terms that ask for it.

        All are read together: one at a time takes a model thrice as long.
        """
        terms = (*self._job.rewards, *self._job.watched)
        names = [one.name for one in terms if one.verifier == REWARD_MODEL]
        if not names:
            return itertools.repeat({})
        assert self._rater is not None, "whoever asks for a reward model names one"
        asked = [
            Told(self._exercises[one.place.prompt_id][0].messages, text, answer.finish_reason)
            for one in groups
            for text, answer in zip(one.texts, one.answers, strict=True)
        ]
        return iter([dict.fromkeys(names, score) for score in self._rater.rate(asked)])

    async def _said(self, text: str, exercise: Exercise) -> dict[str, Verification | float | None]:
        """What each term's rule says of an answer; an efficiency is the group's own affair."""
        terms = [
            one
            for one in (*self._job.rewards, *self._job.watched)
            if one.verified or one.verifier == JUDGE
        ]
        found = await asyncio.gather(*(self._by(one, text, exercise) for one in terms))
        return {term.name: one for term, one in zip(terms, found, strict=True)}

    async def _by(
        self, term: RewardTerm, text: str, exercise: Exercise
    ) -> Verification | float | None:
        prompt = exercise.prompt
        if term.verifier == JUDGE:
            assert self._grader is not None, "whoever asks for a judge names one"
            return await self._grader.grade(prompt, exercise.messages, text)
        return await self._pool.check(
            text,
            prompt.verifier if term.verifier == OWN else term.verifier,
            term.parser,
            prompt.reference,
            term.entry_over(prompt.entry),
        )

    def _rows(
        self, group: Answers, policy: str, earned: Sequence[float | None] | None = None
    ) -> list[Rollout]:
        prompt_tokens = tuple(self._exercises[group.place.prompt_id][1])
        flat = not self._teaches(group)
        return [
            Rollout(
                **group.place._asdict(),
                position=at,
                policy=policy,
                prompt_tokens=prompt_tokens,
                tokens=answer.ids,
                logprobs=answer.logprobs,
                text=group.texts[at],
                finish_reason=answer.finish_reason,
                terms={**group.rewards[at].terms, **group.watched[at].terms},
                reward=group.rewards[at].total,
                advantage=earned[at] if earned else None,
                fate=_fate(group.rewards[at], flat),
            )
            for at, answer in enumerate(group.answers)
        ]


def _fate(reward: Reward, flat: bool) -> Fate:
    if reward.total is None:
        return "unrewarded"
    return "no_spread" if flat else "used"


def tallies(rollouts: Iterable[Rollout], term: str) -> list[Group]:
    """How each group went: the answers that a term verified among those that it decided."""
    groups = dict[tuple[int, int, str], list[bool]]()
    for one in rollouts:
        state = one.terms[term].state
        decided = groups.setdefault((one.batch, one.draw, one.prompt_id), [])
        if state in ("verified", "refuted"):
            decided.append(state == "verified")
    return [
        Group(prompt_id, len(decided), sum(decided))
        for (_, _, prompt_id), decided in groups.items()
    ]
