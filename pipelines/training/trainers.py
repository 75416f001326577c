"""Trainers whose loss is ours; loop, checkpoints and resume are those of `transformers.Trainer`.

Everything here imports torch and belongs in a child process.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.reward_trainer import RewardTrainer

from pipelines.training import losses
from pipelines.training.callbacks import Live
from pipelines.training.job import JudgeJob, PreferenceJob, RewardJob

Batch = dict[str, Any]
Collator = Callable[[list[dict[str, Any]]], Batch]


class PairTrainer(DPOTrainer):
    """TRL's DPO trainer with a loss of ours: conservative DPO, ORPO or SimPO.

    Relied on are its dataset and collator (chosen sides first, then the rejected ones), its fused
    head (`fused_lm_head=True` answers with `log_probs`), and `compute_ref_log_probs`.
    """

    def __init__(self, job: PreferenceJob, live: Live, **how: Any) -> None:
        super().__init__(**how, callbacks=[live])
        # Not passed in: TRL makes its collator, and may make up a padding token for it.
        self.data_collator = _with(self.data_collator, "flipped", self._flip)
        self._job = job
        self._live = live

    def _flip(self, row: Mapping[str, Any]) -> float:
        """How likely a pair is labelled the wrong way round."""
        return float(1 - row["p"]) if self._job.soft_labels else self._job.label_smoothing

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """Mean loss of a batch of pairs, in nats."""
        batch = dict(inputs)
        flipped = batch.pop("flipped")
        spoken = batch["completion_mask"][:, 1:]
        labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
        said = model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            labels=labels,
            use_cache=False,
            fused_lm_head=True,
        )
        logps = said.log_probs.sum(1)
        loss, rewards = self._scored(model, batch, logps, logps / spoken.sum(1), flipped)
        self._note(rewards.chunk(2), logps.chunk(2))
        return loss.mean()

    def _scored(
        self, model: Any, batch: Batch, logps: Tensor, means: Tensor, flipped: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss of each pair, and the reward of each answer, chosen ones first."""
        job = self._job
        if job.objective == "dpo":
            ratios = logps - torch.cat(self._reference(model, batch))
            chosen, rejected = ratios.chunk(2)
            return losses.dpo(chosen, rejected, job.beta, flipped), job.beta * ratios
        chosen, rejected = means.chunk(2)
        if job.objective == "simpo":
            loss = losses.simpo(chosen, rejected, job.beta, job.margin, flipped)
        else:
            loss = losses.orpo(chosen, rejected, job.beta, flipped)
        return loss, job.beta * means

    def _reference(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-probabilities under the base: the same model with its adapter off."""
        if self._job.precompute_reference:
            return batch["ref_chosen_logps"], batch["ref_rejected_logps"]
        ask: Callable[..., tuple[Tensor, Tensor]] = self.compute_ref_log_probs
        return ask(model, batch)

    def _note(self, rewards: Sequence[Tensor], logps: Sequence[Tensor]) -> None:
        margins = rewards[0] - rewards[1]
        figures = {
            "rewards/chosen": rewards[0],
            "rewards/rejected": rewards[1],
            "rewards/margins": margins,
            "rewards/accuracies": margins > 0,
            "logps/chosen": logps[0],
            "logps/rejected": logps[1],
        }
        self._live.note(**figures)


def _with(collate: Collator, name: str, value: Callable[[Mapping[str, Any]], float]) -> Collator:
    """Adds a number of each row to the batches of TRL's collator."""

    def collated(rows: list[dict[str, Any]]) -> Batch:
        return {**collate(rows), name: torch.tensor([value(row) for row in rows])}

    return collated


class JudgeTrainer(Trainer):
    """Trains what a judge says at the beginning of its turn: the score is one word's log odds.

    Args:
        words: tokens of the verdicts good and bad.
    """

    loss_is_scaled_for_ga = False  # a mean over the rows of a batch, not over those of a step

    def __init__(self, job: JudgeJob, words: tuple[int, int], live: Live, **how: Any) -> None:
        super().__init__(**how, callbacks=[live])
        self._words = list(words)
        self._center = job.center_coefficient
        self._live = live

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """Weighted mean loss of a batch of pairs, in nats."""
        batch = dict(inputs)
        weight = batch.pop("weight")
        said = model(**batch, logits_to_keep=1, use_cache=False).logits[:, -1]
        good, bad = said[:, self._words].float().unbind(1)
        better, worse = (good - bad).chunk(2)
        _note_scores(self._live, better, worse)
        return losses.bradley_terry(better, worse, weight, self._center).mean()


class ScoreTrainer(RewardTrainer):
    """TRL's reward trainer with a weight for each pair.

    Relied on are its collator (chosen sides first, then the rejected ones, and the margin), and
    that it tells the model which token pads.
    """

    def __init__(self, job: RewardJob, live: Live, **how: Any) -> None:
        super().__init__(**how, callbacks=[live])
        self.data_collator = _with(self.data_collator, "weight", lambda row: float(row["weight"]))
        self._center = job.center_coefficient
        self._live = live

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """Weighted mean loss of a batch of pairs, in nats."""
        batch = dict(inputs)
        weight, margin = batch.pop("weight"), batch.pop("margin")
        better, worse = model(**batch, use_cache=False).logits[:, 0].chunk(2)
        _note_scores(self._live, better, worse)
        return losses.bradley_terry(better, worse, weight, self._center, margin).mean()


def _note_scores(live: Live, better: Tensor, worse: Tensor) -> None:
    live.note(accuracy=better > worse, margin=better - worse, center=(better + worse) / 2)


def judged_batch(padding: int) -> Collator:
    """Better prompts first, then the worse ones, padded on the left: all end where a verdict is."""

    def collated(rows: list[dict[str, Any]]) -> Batch:
        sides = [row[side] for side in ("better", "worse") for row in rows]
        length = max(map(len, sides))
        ids = torch.tensor([[padding] * (length - len(side)) + side for side in sides])
        mask = torch.tensor([[0] * (length - len(side)) + [1] * len(side) for side in sides])
        return {
            "input_ids": ids,
            "attention_mask": mask,
            # Else the padding would count: positions are to be those that a server gives them.
            "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
            "weight": torch.tensor([row["weight"] for row in rows]),
        }

    return collated
