"""The head of a reward model, and the base that it sits on.

Everything here imports torch and belongs in a child process.
"""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from pipelines.training import models
from pipelines.training.job import Job
from teachers.errors import TrainingError

# As PPO mounts it beside the policy and the value.
ADAPTER = "reward"


class Head(torch.nn.Linear):
    """One number from a hidden state, in float32 whatever surrounds it.

    bf16 has three digits: two good answers would often score the same.
    """

    def forward(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return super().forward(hidden.float())


def headed(job: Job) -> PeftModel:
    """The base with a new head and a new adapter; torch's seed decides their first weights."""
    model = headed_base(job.base, job.device, quantized=job.adapter == "qlora")
    return models.with_adapter(model, job, "SEQ_CLS", ADAPTER)


def headed_base(base: Path, device: str, *, quantized: bool) -> PreTrainedModel:
    """A base model with a float32 head of random weights as its `score`."""
    model: Any = models.loaded(
        base,
        device,
        models.nf4("score") if quantized else None,
        AutoModelForSequenceClassification,
        num_labels=1,
    )
    old = model.score
    head = Head(old.in_features, 1, bias=False, device=old.weight.device, dtype=torch.float32)
    head.weight.data.copy_(old.weight.data)
    model.score = head
    headed: PreTrainedModel = model
    return headed


def pad_apart(tokenizer: Tokenizer) -> None:
    """Let the tokenizer pad with a token that ends no answer.

    transformers reads a score at the last token that is no padding. Where the end of a turn pads,
    as in many chat models, that would be one too early.

    Raises:
        TrainingError: there is no token for it.
    """
    if tokenizer.pad_token_id not in (None, tokenizer.eos_token_id):
        return
    spare = set(tokenizer.all_special_tokens) - {tokenizer.eos_token}
    if not spare:
        raise TrainingError("The tokenizer has no special token to pad with but the end of a turn.")
    tokenizer.pad_token = min(spare, key=tokenizer.convert_tokens_to_ids)
