"""Policy, critic and reference on one base: what each of them says of answers.

The base is loaded once. Each role is an adapter on it, the reference is the base alone, and the
critic has besides a head in float32 that turns a hidden state into a value.

Everything here imports torch and belongs in a child process.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Linear, Parameter
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head, disable_dropout_in_model

from pipelines.training import models
from pipelines.training.experience import Asked
from pipelines.training.job import Job
from pipelines.training.labelled import score_labelled_only
from pipelines.training.on_cpu import adapted, attention
from pipelines.training.roles import POLICY, REWARD, VALUE, Roles
from pipelines.training.scoring import Scorer
from pipelines.training.shared_prompts import prompts_once
from teachers.errors import TrainingError

_HEAD = "value_head.safetensors"


class ActorCritic:
    """One base and its roles.

    Args:
        job: names the base and says what the adapters are.
    """

    def __init__(self, job: Job) -> None:
        base = scoring_base(job)
        self.model: PeftModel = models.with_adapter(base, job)
        self.model.add_adapter(VALUE, models.adapter_config(job))
        models.in_float32(self.model)
        if base.device.type == "cpu":
            adapted.quicken(self.model)
        self.head = Linear(base.config.get_text_config().hidden_size, 1).to(base.device)
        # Of a critic that knows nothing yet, advantages are what the rewards alone say.
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        # A part of the model, so that whatever moves that moves this.
        self.model.value_head = self.head
        self.roles = Roles(self.model)
        self._backbone: Any = base.base_model

    def weights(self, role: str) -> list[Parameter]:
        """What a role learns with: its adapter, and the critic's head."""
        head = [*self.head.parameters()] if role == VALUE else []
        return [*self.roles.weights(role), *head]

    def log_probabilities(self, asked: Asked) -> tuple[Tensor, Tensor]:
        """Of each answer's tokens by whoever acts, in nats, and the entropy there; [answers, T].

        0 where there is no answer.
        """
        with self._sharing(asked):
            said = cast("Any", self.model)(
                input_ids=asked.ids,
                attention_mask=asked.mask,
                position_ids=asked.positions,
                labels=asked.labels,
                fused_lm_head=True,
            )
        width = asked.answers.size(1)
        return said.log_probs[:, -width:], said.entropy[:, -width:]

    def values(self, asked: Asked) -> Tensor:
        """The critic's values before each token of the answers, [answers, T]."""
        with self._sharing(asked):
            said = self._backbone(
                input_ids=asked.ids,
                attention_mask=asked.mask,
                position_ids=asked.positions,
                use_cache=False,
            )
        width = asked.answers.size(1)
        before = said.last_hidden_state[:, -width - 1 : -1]
        found: Tensor = self.head(before.float())[..., 0]
        return found * asked.answered

    def foresee(self, scorer: Scorer, weight: float) -> None:
        """Let the critic begin as the reward model that is mounted here.

        Its adapter is copied, and its head at the scale of the reward: a term's value is
        1 / (1 + exp(-score)), and the critic begins with the tangent of that at 0.

        Args:
            weight: how much that term counts in the reward.

        Raises:
            TrainingError: the adapters are of different shapes.
        """
        pairs = [*zip(*map(self.roles.weights, (VALUE, REWARD)), strict=False)]
        here, there = (self.model.peft_config[role] for role in (VALUE, REWARD))
        as_large = all(mine.shape == its.shape for mine, its in pairs)
        if not as_large or _strength(here) != _strength(there):
            raise TrainingError(
                "The critic cannot begin as a reward model whose adapter has another rank, alpha "
                "or other layers than train gives the student's."
            )
        weights, offset = scorer.line
        with torch.no_grad():
            for mine, its in pairs:
                mine.copy_(its)
            self.head.weight.copy_(weight / 4 * weights[None])
            self.head.bias.fill_(weight * (0.5 + offset / 4))

    def save(self, folder: Path) -> None:
        """What is learned, each adapter in a folder of its own; the reward model is not."""
        self.model.save_pretrained(str(folder), selected_adapters=[POLICY, VALUE])
        weights = {name: one.detach() for name, one in self.head.state_dict().items()}
        save_file(weights, folder / _HEAD)

    def load_head(self, folder: Path) -> None:
        self.head.load_state_dict(load_file(folder / _HEAD))

    @contextmanager
    def _sharing(self, asked: Asked) -> Iterator[None]:
        with prompts_once(self._backbone, asked.prompts.size(1)):
            yield


def _strength(config: Any) -> tuple[float, frozenset[str]]:
    """What makes an adapter of given weights what it is."""
    return config.lora_alpha / config.r, frozenset(config.target_modules)


def scoring_base(job: Job) -> PreTrainedModel:
    """A job's base that gives log-probabilities and entropies of labels, and never drops out."""
    base = models.base_model(job)
    _end_dropout(base)
    attention.quicken(base)
    add_fused_lm_head(base, outputs=("log_probs", "entropy"))
    score_labelled_only(base)
    return base


def _end_dropout(model: PreTrainedModel) -> None:
    """With dropout a policy would differ from itself, and the first ratio from 1."""
    disable_dropout_in_model(model)
    # Attention has no module for it, but a number that it reads while it is trained.
    for module in model.modules():
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
