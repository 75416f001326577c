"""Between a trainer and the rollouts: it asks for a batch, and is given answers with their rewards.

Everything here imports torch and belongs in a child process.
"""

import asyncio
import json
import statistics
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self, cast

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from judges.rewards import main_term
from judges.verifiers.pool import Pool
from judges.verifiers.repetition import repeated
from pipelines.training import models
from pipelines.training.callbacks import Live
from pipelines.training.collecting import Collector, Exercise, tallies
from pipelines.training.curriculum import Curriculum, Task
from pipelines.training.dataset import fitting, rendered, rows_of
from pipelines.training.grader import Charge, Grader
from pipelines.training.guards import Figures, tripped
from pipelines.training.job import PolicyJob, RunFolder
from pipelines.training.journal import Journal
from pipelines.training.kept import Batches, Sampled, WholeBatch
from pipelines.training.on_cpu import attention
from pipelines.training.policy import Handed
from pipelines.training.rater import Rater
from pipelines.training.rollout import Rollout
from pipelines.training.sampling import EngineSampler, Sampler, TrainerSampler
from teachers.errors import (
    CallUncertain,
    EndpointBusy,
    GuardTripped,
    SyncMismatch,
    TrainingError,
)
from teachers.files import write_whole

VERIFIER_PROCESSES = 2
NGRAM = 4
TRIES = 3
"""How often a batch is sampled whose server lost the policy meanwhile."""


class Feed:
    """The batches of one training run. Use it as a context manager.

    Args:
        runner: the event loop that everything here runs in.
    """

    def __init__(
        self,
        job: PolicyJob,
        run: RunFolder,
        journal: Journal,
        live: Live,
        tokenizer: PreTrainedTokenizerBase,
        runner: asyncio.Runner,
    ) -> None:
        self.job = job
        """What is trained, and how."""
        self._run, self._journal, self._live = run, journal, live
        self._tokenizer, self._runner = tokenizer, runner
        self._exercises = _exercises(job, journal, tokenizer)
        self._model: PeftModel | None = None
        self._sampler: Sampler | None = None
        self._grader = Grader(Charge.read(run.charge)) if job.judged else None
        self._rater: Rater | None = None

    def __enter__(self) -> Self:
        self._pool = self._runner.run(Pool(VERIFIER_PROCESSES).__aenter__())
        self._sampled, self._batches = Sampled(self._run.sampled), Batches(self._run.rollouts)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._sampler is not None:
            self._runner.run(self._sampler.close())
        if self._grader is not None:
            self._runner.run(self._grader.close())
        self._sampled.close()
        self._batches.close()
        self._runner.run(self._pool.__aexit__(kind, error, trace))

    def serve(self, model: PeftModel, rater: Rater | None) -> None:
        """Answers are this model's, with the adapter on that acts.

        Args:
            rater: the reward model that a term asks for.
        """
        self._model, self._rater = model, rater

    def batch(self, number: int) -> list[Rollout]:
        """The answers to learn from next, group by group.

        Raises:
            GuardTripped: the figures of this batch say that the reward may be hacked.
            SyncMismatch: the server does not answer from the policy.
        """
        if self._sampler is None:
            assert self._model is not None, "nobody is there to answer"
            self._begin(number, self._model)
        rollouts = self._runner.run(self._batch(number))
        self._guard(number)
        return rollouts[: self.job.rollouts.size]

    def kept(self, number: int) -> list[Rollout]:
        """The answers of a batch that is done.

        Raises:
            TrainingError: it is missing.
        """
        batch = self._batches.all().get(number)
        if batch is None:
            raise TrainingError(f"Batch {number} is missing in {self._run.rollouts}.")
        return batch.rollouts[: self.job.rollouts.size]

    def _begin(self, number: int, model: PeftModel) -> None:
        """Everything as it was before batch `number`.

        Raises:
            TrainingError: a batch before it is missing.
        """
        job, run = self.job, self._run
        tasks = (_task(one) for one, _ in self._exercises.values())
        self._curriculum = Curriculum(tasks, job.seed, job.pacing)
        self._figures = list[Figures]()
        self._whole = self._batches.all()
        for before in range(number):
            if before not in self._whole:
                raise TrainingError(f"Batch {before} is missing in {run.rollouts}.")
            self._settle(self._whole[before])
        most = job.rollouts.max_tokens
        if job.rollouts.sampler == "transformers":
            apart = job.served_as == "merged"
            copy = models.loaded(job.base, job.device) if apart else None
            if copy is not None:
                attention.quicken(copy)
            self._sampler = TrainerSampler(model, self._tokenizer, most, copy)
        else:
            self._sampler = EngineSampler(model, job.base, run.engine, run.policy, most)
        self._collector = Collector(
            job,
            self._exercises,
            self._curriculum,
            self._sampler,
            self._text,
            self._sampled,
            self._pool,
            self._grader,
            self._rater,
        )

    def _settle(self, batch: WholeBatch) -> None:
        self._curriculum.update(tallies(batch.rollouts, main_term(self.job.rewards)))
        self._figures.append(batch.figures)

    def _text(self, tokens: Sequence[int]) -> str:
        return cast("str", self._tokenizer.decode(list(tokens), skip_special_tokens=True))

    async def _batch(self, number: int) -> list[Rollout]:
        """A batch that was whole before a kill, or a new one."""
        batch = self._whole.get(number) or await self._made(number)
        self._settle(batch)
        return batch.rollouts

    async def _made(self, number: int) -> WholeBatch:
        assert self._sampler is not None
        cause = ""
        for attempt in range(TRIES):
            began = time.monotonic()
            try:
                handed = await self._sampler.begin(number)
                await self._doubt(number)
                rollouts = await self._collector.batch(number, handed.name)
                await self._sampler.end()
            except (SyncMismatch, EndpointBusy, CallUncertain) as lost:
                # Nobody knows which policy it was. A server that died is started again meanwhile.
                cause = lost.message
                self._journal.phase(f"batch {number} once more: {cause}")
                self._sampled.forget(number)
                continue
            if all(one.reward is None for one in rollouts):
                raise TrainingError(
                    f"Nothing of batch {number} could be rewarded: {_first_reason(rollouts)}"
                )
            batch = WholeBatch(self._figures_of(number, rollouts, handed), rollouts)
            self._batches.add(*batch)
            self._tell(batch, handed, time.monotonic() - began)
            if attempt:
                self._journal.phase("train", self.job.rollouts.batches * self.job.steps)
            return batch
        raise SyncMismatch(f"Batch {number} failed {TRIES} times. The last time: {cause}")

    async def _doubt(self, number: int) -> None:
        """Throw away what a killed process kept of a batch, if it is not the policy's.

        It was written down before anybody asked whether the server still had the policy.
        """
        assert self._sampler is not None
        for place, answers in self._sampled.of(number).items():
            prompt = self._exercises[place.prompt_id][1]
            if not await self._sampler.would_say(prompt, answers):
                self._journal.phase(f"batch {number} is sampled anew: another policy answered")
                self._sampled.forget(number)
                return

    def _figures_of(self, number: int, rollouts: Sequence[Rollout], handed: Handed) -> Figures:
        """Entropy, divergence and gap are those of the update before this batch."""
        watched = [one.terms[term.name].value for term in self.job.watched for one in rollouts]
        known = [value for value in watched if value is not None]
        form = next((one.name for one in self.job.rewards if one.verifier == "format"), "")
        return Figures(
            batch=number,
            n=len(rollouts),
            reward=_mean(one.reward for one in rollouts),
            watched=_mean(known),
            watched_n=len(known),
            main=_mean(one.terms[main_term(self.job.rewards)].value for one in rollouts),
            format=_mean(one.terms[form].value for one in rollouts if form),
            length=_mean(float(len(one.tokens)) for one in rollouts),
            repetition=_mean(repeated(one.text.split(), NGRAM) for one in rollouts),
            entropy=self._live.latest.get("entropy"),
            kl=self._live.latest.get("kl"),
            engine_gap=self._live.latest.get("engine_gap"),
            surviving_share=handed.surviving_share,
        )

    def _tell(self, batch: WholeBatch, handed: Handed, seconds: float) -> None:
        """Figures of the batch, with the first update that learns from it."""
        figures, rollouts = batch
        flat = sum(one.fate == "no_spread" for one in rollouts)
        told = figures._asdict() | {
            "tokens": sum(len(one.tokens) for one in rollouts),
            "groups_without_spread": flat / self.job.rollouts.group,
            "sync_seconds": handed.seconds,
            "sync_proven": handed.proven,
            "rounding_noise": handed.noise,
            "rollout_seconds": seconds,
        }
        step = figures.batch * self.job.steps + 1
        for name in _TOLD:
            if told.get(name) is not None:
                self._journal.metric(step, name, float(told[name]))

    def _guard(self, number: int) -> None:
        found = tripped(self._figures, self.job.guards)
        if not found:
            return
        write_whole(self._run.paused, json.dumps([one._asdict() for one in found]))
        told = "\n".join(f"  {one.name}: {one.evidence} {one.todo}" for one in found)
        raise GuardTripped(f"A guard paused the training after batch {number}:\n{told}")


_TOLD = (
    *("reward", "watched", "main", "length", "repetition", "surviving_share"),
    *("tokens", "groups_without_spread", "rollout_seconds"),
    *("sync_seconds", "sync_proven", "rounding_noise"),
)


def _exercises(
    job: PolicyJob, journal: Journal, tokenizer: PreTrainedTokenizerBase
) -> dict[str, tuple[Exercise, list[int]]]:
    rows = list(rows_of(job.dataset, Exercise))
    asked = [(one, rendered(tokenizer, one.messages, answer_follows=True)) for one in rows]
    kept = fitting(job.dataset, [(one, len(one[1])) for one in asked], job.max_length)
    journal.rows(len(kept), len(rows) - len(kept))
    if len(kept) < job.rollouts.prompts:
        raise TrainingError(
            f"{len(kept)} prompts are no longer than {job.max_length} tokens, and a batch takes "
            f"{job.rollouts.prompts}."
        )
    return {exercise.prompt.id: (exercise, tokens) for exercise, tokens in kept}


def _task(exercise: Exercise) -> Task:
    return Task(exercise.prompt.id, exercise.tries, exercise.hits, exercise.rounds_ago)


def _first_reason(rollouts: Sequence[Rollout]) -> str:
    values = (value for one in rollouts for value in one.terms.values() if value.value is None)
    return next((f"{value.state}, {value.reason}" for value in values), "no term applies")


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
