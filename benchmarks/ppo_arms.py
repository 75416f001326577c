"""One way of holding PPO's four models, for two batches: what it takes of memory.

    python -m benchmarks.ppo_arms ARM BASE RESULT

Each arm goes through our trainer, on the same answers and with the same losses; they differ in what
is loaded and what learns. Memory is what this process holds resident besides what it held before a
model was there.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil

from judges.rewards import RewardTerm
from pipelines.recipe import Rollouts
from pipelines.training.job import PpoJob
from pipelines.training.rollout import Rollout

if TYPE_CHECKING:
    from torch import Tensor

Arm = Literal["one base", "four models", "copies of the base"]
ARMS: tuple[Arm, ...] = ("one base", "four models", "copies of the base")
PROMPTS, GROUP, PROMPT_TOKENS, ANSWER_TOKENS, BATCH = 4, 2, 32, 96, 4


def job_of(base: Path) -> PpoJob:
    """Two batches, one update each."""
    return PpoJob(
        base=base,
        base_weights="random",
        dataset=base / "none",
        objective="ppo",
        ppo_epochs=1,
        batch_size=BATCH,
        rewards=(RewardTerm(name="any", verifier="exact"),),
        rollouts=Rollouts(batches=2, prompts=PROMPTS, group=GROUP, sampler="transformers"),
    )


class Answers:
    """The same answers for every arm; the reward model is asked about them.

    Args:
        score: gives the scores of a batch.
    """

    def __init__(self, words: int, score: "Callable[[Sequence[Rollout]], list[float]]") -> None:
        self._words, self._score = words, score

    def batch(self, number: int) -> list[Rollout]:
        """Tokens that were drawn once."""
        import torch

        drawn = torch.Generator().manual_seed(number)

        def some(count: int) -> tuple[int, ...]:
            return tuple(torch.randint(3, self._words, (count,), generator=drawn).tolist())

        prompts = [some(PROMPT_TOKENS) for _ in range(PROMPTS)]
        made = [
            Rollout(
                batch=number,
                draw=0,
                prompt_id=str(at // GROUP),
                position=at % GROUP,
                policy="any",
                prompt_tokens=prompts[at // GROUP],
                tokens=some(ANSWER_TOKENS),
                logprobs=(),
                text="",
                finish_reason="stop",
                reward=0.0,
            )
            for at in range(PROMPTS * GROUP)
        ]
        scores = self._score(made)
        return [
            one.model_copy(update={"reward": score})
            for one, score in zip(made, scores, strict=True)
        ]

    def kept(self, number: int) -> list[Rollout]:
        return self.batch(number)


class Copies:
    """What `ActorCritic` is, with a model for each role.

    Args:
        whole: policy and critic learn with all their weights, and the reference is a model too;
            else they have adapters, and the reference is the policy's base.
    """

    def __init__(self, job: PpoJob, *, whole: bool) -> None:
        import torch

        from pipelines.training.actor_critic import scoring_base
        from pipelines.training.models import with_adapter

        def learning() -> Any:
            base = scoring_base(job)
            return base.requires_grad_(True) if whole else with_adapter(base, job)

        self.model, self._critic = learning(), learning()
        self._reference = scoring_base(job).requires_grad_(False) if whole else None
        self.head = torch.nn.Linear(self.model.config.hidden_size, 1)
        self.roles = self
        self._whole, self._nobody = whole, False

    @contextmanager
    def acting(self, _role: str) -> Iterator[None]:
        yield

    @contextmanager
    def nobody(self) -> Iterator[None]:
        self._nobody = True
        yield
        self._nobody = False

    def weights(self, role: str) -> list[Any]:
        model = self.model if role == "policy" else self._critic
        learned = [one for one in model.parameters() if one.requires_grad]
        return learned if role == "policy" else [*learned, *self.head.parameters()]

    def log_probabilities(self, asked: Any) -> "tuple[Tensor, Tensor]":
        model, off = self.model, self._nobody
        if off and self._reference is not None:
            model = self._reference
        read = {"input_ids": asked.ids, "attention_mask": asked.mask, "labels": asked.labels}
        if off and self._reference is None:
            with model.disable_adapter():
                said = model(**read, fused_lm_head=True)
        else:
            said = model(**read, fused_lm_head=True)
        width = asked.answers.size(1)
        return said.log_probs[:, -width:], said.entropy[:, -width:]

    def values(self, asked: Any) -> "Tensor":
        backbone = (self._critic if self._whole else self._critic.get_base_model()).base_model
        said = backbone(input_ids=asked.ids, attention_mask=asked.mask, use_cache=False)
        before = said.last_hidden_state[:, -asked.answers.size(1) - 1 : -1]
        found: Tensor = self.head(before.float())[..., 0]
        return found


def scored(backbone: Any, rollouts: Sequence[Rollout]) -> list[float]:
    """A reward model's forward pass; what it says does not matter here."""
    import torch

    rows = torch.tensor([[*one.prompt_tokens, *one.tokens] for one in rollouts])
    with torch.no_grad():
        hidden = backbone(input_ids=rows, use_cache=False).last_hidden_state[:, -1]
    means: list[float] = hidden.float().mean(1).tolist()
    return means


def actors_of(arm: Arm, job: PpoJob) -> tuple[Any, Callable[[Sequence[Rollout]], list[float]]]:
    """Policy, critic and reference, and who scores."""
    from pipelines.training.actor_critic import ActorCritic, scoring_base
    from pipelines.training.models import adapter_config
    from pipelines.training.roles import REWARD

    if arm != "one base":
        rewarding = scoring_base(job).requires_grad_(False).base_model
        copies = Copies(job, whole=arm == "four models")
        return copies, lambda rollouts: scored(rewarding, rollouts)
    actors = ActorCritic(job)
    actors.model.add_adapter(REWARD, adapter_config(job))
    backbone = actors.model.get_base_model().base_model

    def score(rollouts: Sequence[Rollout]) -> list[float]:
        with actors.roles.acting(REWARD):
            return scored(backbone, rollouts)

    return actors, score


class Peak:
    """The most that this process holds resident meanwhile, in bytes."""

    def __init__(self) -> None:
        self.most, self._over = 0, threading.Event()
        self._watch = threading.Thread(target=self._look)

    def __enter__(self) -> "Peak":
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._over.is_set():
            self.most = max(self.most, resident())
            time.sleep(0.005)


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


def main(arm: Arm, base: Path, result: Path) -> None:
    from pipelines.training.callbacks import Live
    from pipelines.training.journal import Journal
    from pipelines.training.ppo_trainer import PpoTrainer, settings

    job, resting = job_of(base), resident()
    actors, score = actors_of(arm, job)
    loaded = resident()
    with Journal(result.with_suffix(".journal")) as journal, Peak() as peak:
        args = settings(job, result.with_suffix(".out"))
        args.save_strategy = "no"
        words = actors.model.config.vocab_size
        PpoTrainer(job, actors, Answers(words, score), Live(journal), args=args).train()
    told = {"loaded": loaded - resting, "peak": peak.most - resting}
    result.write_text(json.dumps(told))


if __name__ == "__main__":
    main(next(arm for arm in ARMS if arm == sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
