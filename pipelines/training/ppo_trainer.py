"""Proximal policy optimization (arXiv 1707.06347) with adapters as roles on one base.

The loop is that of `transformers.Trainer`: callbacks, checkpoints, schedules and resume come with
it. What is ours is where a batch comes from, what it is worth, and the two losses.

Everything here imports torch and belongs in a child process.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from transformers import Trainer, TrainingArguments

from pipelines.training import clipped, gae, importance, ranks
from pipelines.training.actor_critic import ActorCritic
from pipelines.training.arguments import common
from pipelines.training.callbacks import Live
from pipelines.training.experience import Asked, Experience, joined, log_probabilities
from pipelines.training.first_pass import FirstPass
from pipelines.training.job import PpoJob
from pipelines.training.kl_control import KlControl
from pipelines.training.roles import POLICY, VALUE
from pipelines.training.rollout import Rollout
from teachers.errors import TrainingError
from teachers.files import write_whole
from teachers.records import content_id

_STATE = "ppo.json"
EPSILON = 1e-5
"""Of Adam: detail 3 of "The 37 Implementation Details of PPO" (Huang et al. 2022)."""


class Source(Protocol):
    """Where answers come from, by the number of their batch."""

    def batch(self, number: int) -> Sequence[Rollout]:
        """The next batch, from the policy as it is."""

    def kept(self, number: int) -> Sequence[Rollout]:
        """One that was learned from already."""


class Part(NamedTuple):
    """A micro-batch of an update."""

    experience: Experience
    tokens: int
    """That the whole update learns from: losses are means over those."""
    policy: bool
    """Whether the policy learns, and not only its critic."""
    rows: tuple[int, ...]
    """Which of the batch's answers it has."""


class State(BaseModel):
    """What a checkpoint keeps besides weights, optimizer and generators."""

    model_config = ConfigDict(extra="forbid")

    batch: int
    """The batch that was learned from last."""
    answers: str
    """Its identity."""
    control: KlControl


def settings(job: PpoJob, output: Path) -> TrainingArguments:
    """What the loop is told."""
    usual = common(job, output) | {
        "max_steps": job.rollouts.batches * job.steps,
        "gradient_accumulation_steps": job.accumulation_steps,
        "train_sampling_strategy": "sequential",
    }
    return TrainingArguments(**usual, adam_epsilon=EPSILON, remove_unused_columns=False)


class PpoTrainer(Trainer):
    """Trains policy and critic on batches of the policy's own answers.

    Relied on are `training_step`, `create_optimizer`, `_clip_grad_norm`, `_save_checkpoint`,
    `_save` and `_load_from_checkpoint`, which `Trainer` keeps open for subclasses. Where there are
    several processes accelerate wraps the model (DDP), and nobody calls it by that wrapper: it does
    not expect two backward passes. Gradients are added up here, before they are clipped.

    Args:
        job: what to do.
        actors: policy, critic and reference.
        source: gives the answers of a batch; the first process has one, and all are given them.
        live: the journal.
    """

    def __init__(
        self, job: PpoJob, actors: ActorCritic, source: Source | None, live: Live, **how: Any
    ) -> None:
        # Nothing is read from it: it says how many micro-batches a pass has.
        rows = [{"row": row} for row in range(job.rollouts.size)]
        super().__init__(model=actors.model, train_dataset=rows, callbacks=[live], **how)
        self._job, self._actors, self._source, self._live = job, actors, source, live
        self._control = KlControl(coefficient=job.kl_coefficient, target=job.kl_target)
        self._parts = self._plan()
        self._answers = ""
        self._first_pass = FirstPass(actors.model, job.first_pass_gib * 2**30)
        self._moved: list[float] = []
        """How far the policy went in this pass: of each update, in nats a token."""

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """One micro-batch: forward and backward of the policy, then of its critic."""
        self._actors.model.train()
        part = next(self._parts)
        total = torch.zeros((), device=self.args.device)
        for role, loss_of in ((POLICY, self._policy_loss), (VALUE, self._value_loss)):
            if role == VALUE or part.policy:
                with self._actors.roles.acting(role):
                    loss = loss_of(part)
                    self.accelerator.backward(loss)
                total += loss.detach()
        # It is logged as the mean over the processes, and each has a share of it.
        return total * ranks.world()

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Adam, with a learning rate for each role."""
        if self.optimizer is None:
            rates = {POLICY: self._job.learning_rate, VALUE: self._job.value_rate}
            groups = [{"params": self._actors.weights(r), "lr": lr} for r, lr in rates.items()]
            self.optimizer = torch.optim.AdamW(groups, eps=EPSILON, weight_decay=0.0)
        return self.optimizer

    def _clip_grad_norm(self, model: Any) -> Tensor:
        """Each role by itself: a critic that errs shall not slow the policy down."""
        for role in (POLICY, VALUE):
            ranks.add_gradients(self._actors.weights(role))
        norms = {
            role: clip_grad_norm_(self._actors.weights(role), self.args.max_grad_norm)
            for role in (POLICY, VALUE)
        }
        self._live.note(value_grad_norm=norms[VALUE])
        return norms[POLICY]

    # --- A batch --------------------------------------------------------------------------------

    def _plan(self) -> Iterator[Part]:
        """Micro-batch by micro-batch, for ever; a checkpoint lies where a batch ends."""
        while True:
            number = self.state.global_step // self._job.steps
            learns = number >= self._job.value_warmup
            experience = self._experienced(number, learns)
            for again in range(self._job.ppo_epochs):
                yield from self._pass(experience, self._order(number, again), learns)
                moved = [one for share in ranks.gathered(self._moved) for one in share]
                self._moved = []
                most = self._job.stop_kl
                if learns and most is not None and sum(moved) > most * len(moved):
                    learns = False  # the critic may go on: its answers are still what they were

    def _pass(self, experience: Experience, order: Tensor, learns: bool) -> Iterator[Part]:
        """Every answer once."""
        for update in order.chunk(self._job.rollouts.updates):
            tokens = max(1, int(experience.asked.spoken[update].sum()))
            for rows in _mine(torch.split(update, self._job.batch_size)):
                yield Part(experience.rows(rows), tokens, learns, (*rows.tolist(),))
            self._first_pass.forget()

    def _order(self, number: int, again: int) -> Tensor:
        """The answers' order in a pass over them.

        In the first it is that in which they were scored: the same rows meet, so the first update
        begins at a ratio of exactly 1. Later ones draw who meets in an update; in it, answers to
        one prompt stay together.
        """
        size = self._job.rollouts.size
        if again == 0:
            return torch.arange(size)
        seed = (self._job.seed * 1_000_003 + number) * 101 + again
        drawn = torch.Generator().manual_seed(seed)
        order = torch.randperm(size, generator=drawn)
        return torch.cat([one.sort().values for one in order.chunk(self._job.rollouts.updates)])

    @torch.no_grad()
    def _experienced(self, number: int, learns: bool = True) -> Experience:
        """A batch with its advantages.

        Args:
            learns: whether the policy will learn from it, and not only its critic.
        """
        job, rollouts = self._job, ranks.shared(lambda: self._given().batch(number))
        self._answers = _identity(rollouts)
        asked = Asked.of(rollouts, self.args.device)
        old, reference, values = self._said(asked, learns)
        apart = (old - reference) * asked.spoken
        scores = torch.tensor([self._score(one) for one in rollouts], device=self.args.device)
        rewards = gae.token_rewards(scores, apart, asked.spoken, self._control.coefficient)
        if job.whiten_rewards:
            rewards = gae.whitened(rewards, asked.spoken, centred=False)
        found = gae.advantages(rewards, values, asked.spoken, job.discount, job.gae_lambda)
        engine = log_probabilities(rollouts, old)
        correction = torch.ones_like(old)
        if engine is not None:
            correction = importance.weights(
                old, engine, asked.spoken, job.rollouts.truncate, self._live
            )
        whole = Experience(
            asked, old, values, gae.whitened(found, asked.spoken), found + values, correction
        )
        self._tell(rollouts, whole, apart, rewards, scores)
        self._control.saw(float(_of_answers(apart, asked.spoken)))
        return whole

    def _said(self, asked: Asked, learns: bool) -> list[Tensor]:
        """What policy, reference and critic say of a batch, by the micro-batches of an update.

        Each process reads those that it will learn from.
        """
        actors, found = self._actors, list[list[Tensor]]([[], [], []])
        actors.model.train()  # nothing is drawn, and what an update computes is the same
        size = len(asked.answers)
        self._first_pass.forget()
        for rows in _mine(torch.split(torch.arange(size), self._job.batch_size)):
            some, key = asked.rows(rows), (*rows.tolist(),)
            first = key[-1] < size // self._job.rollouts.updates
            with actors.roles.acting(POLICY):
                say = partial(actors.log_probabilities, some)
                heard = self._first_pass.hear((POLICY, key), say) if first and learns else say()
                found[0].append(heard[0])
            with actors.roles.nobody():
                found[1].append(actors.log_probabilities(some)[0])
            with actors.roles.acting(VALUE):
                value = partial(actors.values, some)
                found[2].append(self._first_pass.hear((VALUE, key), value) if first else value())
        width = asked.answers.size(1)
        shares = ranks.gathered([[part.cpu() for part in parts] for parts in found])
        return [
            joined([part for turn in zip(*parts, strict=True) for part in turn], width).to(
                self.args.device
            )
            for parts in zip(*shares, strict=True)
        ]

    def _score(self, one: Rollout) -> float:
        """An answer's reward, less what it costs not to come to an end."""
        unended = self._job.missing_end_penalty if one.finish_reason == "length" else 0.0
        return (one.reward or 0.0) - unended

    def _given(self) -> Source:
        assert self._source is not None, "the first process is asked alone"
        return self._source

    # --- Losses ---------------------------------------------------------------------------------

    def _policy_loss(self, part: Part) -> Tensor:
        job, one = self._job, part.experience
        spoken = one.asked.spoken
        say = partial(self._actors.log_probabilities, one.asked)
        new, entropy = self._first_pass.again((POLICY, part.rows), say)
        found = clipped.policy(new, one.old, one.advantages * one.correction, *job.clips)
        moved = (new.detach() - one.old) * spoken
        # k3 of "Approximating KL divergence" (Schulman 2020): unbiased, and never below 0.
        divergence = gae.mean(torch.expm1(-moved) + moved, spoken)
        self._moved.append(float(divergence))
        self._live.note(
            policy_loss=gae.mean(found.loss, spoken),
            clip_fraction=gae.mean(found.clipped.float(), spoken),
            approx_kl=divergence,
            ratio=gae.mean(moved.exp(), spoken),
            entropy=gae.mean(entropy, spoken),
        )
        losses = found.loss
        if job.entropy_bonus:
            losses = losses - job.entropy_bonus * entropy
        return (losses * spoken).sum() / part.tokens

    def _value_loss(self, part: Part) -> Tensor:
        one, spoken = part.experience, part.experience.asked.spoken
        say = partial(self._actors.values, one.asked)
        new = self._first_pass.again((VALUE, part.rows), say)
        found = clipped.value(new, one.values, one.returns, self._job.clip_value)
        self._live.note(
            value_loss=gae.mean(found.loss, spoken),
            value_clip_fraction=gae.mean(found.clipped.float(), spoken),
        )
        return (found.loss * spoken).sum() / part.tokens

    def _tell(
        self,
        rollouts: Sequence[Rollout],
        whole: Experience,
        apart: Tensor,
        rewards: Tensor,
        scores: Tensor,
    ) -> None:
        spoken = whole.asked.spoken
        ended = [float(one.finish_reason != "length") for one in rollouts]
        self._live.note(
            score=scores[spoken.any(1)],
            kl=gae.mean(apart, spoken),
            kl_answer=_of_answers(apart, spoken),
            kl_coefficient=torch.tensor(self._control.coefficient),
            rlhf_reward=_of_answers(rewards, spoken),
            explained_variance=gae.explained_variance(whole.values, whole.returns, spoken),
            eos_rate=torch.tensor(ended),
        )

    # --- Checkpoints ----------------------------------------------------------------------------

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        # It is sealed next, and every process has a file in it.
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(str(output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        self._actors.save(folder)
        number = self.state.global_step // self._job.steps - 1
        state = State(batch=number, answers=self._answers, control=self._control)
        write_whole(folder / _STATE, state.model_dump_json())

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        folder = Path(resume_from_checkpoint)
        self._actors.load_head(folder)
        self._actors.roles.free()
        state = State.model_validate_json((folder / _STATE).read_text())
        if ranks.shared(lambda: _identity(self._given().kept(state.batch))) != state.answers:
            raise TrainingError(
                f"{folder} was made after other answers than those that are kept of batch "
                f"{state.batch}."
            )
        self._control = state.control


def _identity(rollouts: Sequence[Rollout]) -> str:
    """Of a batch, so that a run goes on from no other."""
    return content_id("answers", [one.model_dump(mode="json") for one in rollouts])


def _mine(parts: Sequence[Tensor]) -> Sequence[Tensor]:
    """This process's share of an update's micro-batches."""
    return parts[ranks.rank() :: ranks.world()]


def _of_answers(values: Tensor, spoken: Tensor) -> Tensor:
    """Mean over the answers that are learned from of their tokens' sum."""
    return (values * spoken).sum() / spoken.any(1).sum().clamp(min=1)
