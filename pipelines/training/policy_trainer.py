"""TRL's GRPO trainer, with answers sampled elsewhere and corrected for it.

Everything here imports torch and belongs in a child process.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from pipelines.training import importance
from pipelines.training.arguments import common
from pipelines.training.callbacks import Live
from pipelines.training.gae import mean
from pipelines.training.job import PolicyJob
from pipelines.training.labelled import score_labelled_only
from pipelines.training.shared_prompts import prompts_once

Batch = dict[str, Any]

# Answers of a step that are held against the reference: a look costs a forward pass.
COMPARED = 16


def settings(job: PolicyJob, output: Path) -> GRPOConfig:
    """What TRL is told. Rewards arrive as advantages, so it is not to scale them."""
    rollouts = job.rollouts
    loss = job.losses[0] if job.losses else "dr_grpo"
    usual = common(job, output) | {
        "max_steps": rollouts.batches * rollouts.updates,
        "gradient_accumulation_steps": job.accumulation_steps,
    }
    return GRPOConfig(
        **usual,
        num_generations=rollouts.group,
        steps_per_generation=job.accumulation_steps * rollouts.updates,
        max_completion_length=rollouts.max_tokens,
        temperature=1.0,
        shuffle_dataset=False,
        # GSPO (arXiv 2507.18071) is the loss of grpo on ratios of whole answers. RLOO's is a plain
        # sum over tokens: dr_grpo's, which divides by a constant.
        loss_type="grpo" if loss == "gspo" else loss,
        importance_sampling_level="sequence" if loss in ("gspo", "luspo") else "token",
        scale_rewards="none",
        beta=job.kl,
        epsilon=job.clips[0],
        epsilon_high=job.clips[1],
        mask_truncated_completions=job.leave_out_cut,
    )


class PolicyTrainer(GRPOTrainer):
    """Weighs each token by how likely the trainer finds it against the engine that sampled it.

    Relied on are the names of the tensors in a batch, advantages of shape (answers, tokens), which
    TRL keeps open for subclasses, and the fused head (`log_probs` of the labels).
    """

    def __init__(self, job: PolicyJob, live: Live, **how: Any) -> None:
        super().__init__(**how, callbacks=[live])
        base = cast("Any", self.model).get_base_model()
        score_labelled_only(base)
        self._backbone = base.base_model
        self._most = job.rollouts.truncate
        self._live = live
        self._compared_at = -1
        """The step whose first answers were held against the reference."""

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """The loss of a micro-batch of answers, weighted as `importance` says."""
        batch = _trimmed(inputs)
        sampled = batch.pop("sampling_per_token_logps", None)
        # Until the policy moves, the trainer's probabilities are those that the loss is made of:
        # they are taken from its own forward pass, which ends before the advantages are used.
        earned = batch["advantages"].unsqueeze(1) * torch.ones_like(batch["completion_ids"])
        batch["advantages"] = earned
        with prompts_once(self._backbone, batch["prompt_ids"].size(1)):
            with _heard(model, batch) as now:
                if sampled is not None:
                    now.then = lambda said: earned.mul_(
                        self._weights(batch.get("old_per_token_logps", said), sampled, batch)
                    )
                loss: Tensor = super().compute_loss(
                    model, batch, return_outputs, num_items_in_batch
                )
            self._compare(model, batch, now.logprobs)
        return loss

    def _weights(self, old: Tensor, sampled: Tensor, batch: Batch) -> Tensor:
        return importance.weights(old, sampled, batch["completion_mask"], self._most, self._live)

    def _compare(self, model: Any, batch: Batch, said: Tensor) -> None:
        """How far the policy is from the base, on a step's first answers: k1, in nats a token."""
        if self._compared_at == self.state.global_step:
            return
        self._compared_at = self.state.global_step
        few = {name: batch[name][:COMPARED] for name in (*_PROMPT, *_ANSWER)}
        with torch.no_grad(), cast("PeftModel", self.model).disable_adapter():
            reference = model(**_asked(few), fused_lm_head=True).log_probs
        width = batch["completion_ids"].size(1)
        self._live.note(kl=mean(said[:COMPARED] - reference[:, -width:], few["completion_mask"]))


class _Heard:
    """The log-probabilities of a micro-batch's answers, once a forward pass has given them."""

    logprobs: Tensor
    then: Callable[[Tensor], object] = staticmethod(lambda said: None)


@contextmanager
def _heard(model: Any, batch: Batch) -> Iterator[_Heard]:
    heard, width = _Heard(), batch["completion_ids"].size(1)

    def listen(_module: object, _inputs: object, said: Any) -> None:
        heard.logprobs = said.log_probs[:, -width:].detach()
        heard.then(heard.logprobs)

    handle = model.register_forward_hook(listen)
    try:
        yield heard
    finally:
        handle.remove()


def _trimmed(batch: Batch) -> Batch:
    """A micro-batch without the columns that are padding in all its rows.

    TRL pads to the longest prompt and answer of a whole batch, of which this is a small part.
    """
    begin = int(batch["prompt_mask"].any(0).int().argmax())
    end = max(1, int(batch["completion_mask"].sum(1).max()))
    kept = {name: batch[name][:, begin:] for name in _PROMPT}
    answers = (*_ANSWER, *(name for name in _LOGPROBS if batch.get(name) is not None))
    return {**batch, **kept, **{name: batch[name][:, :end] for name in answers}}


_PROMPT = ("prompt_ids", "prompt_mask")
_ANSWER = ("completion_ids", "completion_mask")
_LOGPROBS = ("old_per_token_logps", "ref_per_token_logps", "sampling_per_token_logps")


def _asked(batch: Batch) -> Batch:
    answers = batch["completion_ids"]
    ids = torch.cat([batch["prompt_ids"], answers], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, : -answers.size(1)] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
