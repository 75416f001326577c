"""A reward model at work: mounted on a policy's own base, or on one of its own.

Everything here imports torch and belongs in a child process.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTuner
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from pipelines.training.heads import ADAPTER, headed_base
from pipelines.training.reward_notes import Norm, Origin
from teachers.errors import TrainingError
from teachers.weights import checked

Row = tuple[Sequence[int], Sequence[int]]
"""Tokens of a prompt and of an answer, the end of its turn with it."""

_HEAD = "base_model.model.score.weight"
BATCH_TOKENS = 4096
"""Most tokens of a batch, padding included."""


class Scorer:
    """Gives answers their scores; made by `on` or `alone`.

    Args:
        model: a base with the reward adapter among its own.
        head: shape (1, width), float32.
        norm: None leaves the scores as they are.
    """

    def __init__(self, model: PeftModel, head: Tensor, norm: Norm | None) -> None:
        self._model, self._head, self._norm = model, head, norm

    @classmethod
    def on(cls, model: PeftModel, folder: Path) -> "Scorer":
        """Mount a reward adapter, frozen, on the base of a policy.

        Raises:
            TrainingError: it was trained on another base, or on the same in other precision.
        """
        _check_base(_base_of(model), Origin.read(folder))
        with undisturbed(model):
            model.load_adapter(str(folder), ADAPTER, is_trainable=False)
        return cls._with_head(model, folder)

    @classmethod
    def alone(cls, base: Path, folder: Path, device: str) -> "Scorer":
        """Load base and adapter anew.

        Args:
            device: `cpu` or `gpu`, as in a job.

        Raises:
            TrainingError: it was trained on another base.
        """
        origin = Origin.read(folder)
        quantized = origin.adapter == "qlora"
        loaded = headed_base(base, device, quantized=quantized)
        _check_base(loaded, origin)
        model = PeftModel.from_pretrained(loaded, str(folder), adapter_name=ADAPTER)
        return cls._with_head(model, folder)

    @classmethod
    def _with_head(cls, model: PeftModel, folder: Path) -> "Scorer":
        with safe_open(folder / "adapter_model.safetensors", "pt") as weights:
            head = weights.get_tensor(_HEAD).float().to(model.device)
        return cls(model, head, Norm.of(folder))

    def scores(self, rows: Sequence[Row]) -> list[float]:
        """In deviations from the mean of usual answers, where an appraisal has measured that; else
        as `raw` has them."""
        raw = self.raw(rows)
        return [self._norm.apply(score) for score in raw] if self._norm else raw

    @property
    def line(self) -> tuple[Tensor, float]:
        """How `scores` reads an answer's last hidden state: its product with these, and an offset.

        Shape (width,), float32.
        """
        mean, deviation = (self._norm.mean, self._norm.deviation) if self._norm else (0.0, 1.0)
        return self._head[0] / deviation, -mean / deviation

    def raw(self, rows: Sequence[Row]) -> list[float]:
        """The head's number at each answer's last token."""
        sides = [[*prompt, *answer] for prompt, answer in rows]
        found = dict[int, float]()
        with undisturbed(self._model), torch.no_grad():
            self._model.set_adapter(ADAPTER, inference_mode=True)
            self._model.eval()
            for batch in _batches(sides):
                scores = self._read([sides[at] for at in batch])
                found.update(zip(batch, scores, strict=True))
        return [found[at] for at in range(len(rows))]

    def _read(self, sides: Sequence[Sequence[int]]) -> list[float]:
        # Padded behind: what stands before a token cannot see it, and positions stay as they are.
        length, device = max(map(len, sides)), self._model.device
        ids = torch.tensor([[*side, *[0] * (length - len(side))] for side in sides], device=device)
        ends = torch.tensor([len(side) for side in sides], device=device)
        mask = (torch.arange(length, device=device) < ends[:, None]).long()
        base = _base_of(self._model)
        backbone = getattr(base, base.base_model_prefix)
        hidden = backbone(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        last = hidden[torch.arange(len(sides), device=device), ends - 1]
        with torch.autocast(device.type, enabled=False):
            read: list[float] = (last.float() @ self._head[0]).tolist()
        return read


@contextmanager
def undisturbed(model: PeftModel) -> Iterator[None]:
    """Active adapter, gradients and train mode are afterwards what they were before.

    Every switch of PEFT's freezes the adapters that it leaves.
    """
    active = model.active_adapter
    learning = {id(weight) for weight in model.parameters() if weight.requires_grad}
    training = [module for module in model.modules() if module.training]
    try:
        yield
    finally:
        cast("BaseTuner", model.base_model).set_adapter(active)
        model.active_adapter = active
        for weight in model.parameters():
            weight.requires_grad_(id(weight) in learning)
        for module in training:
            module.training = True


def _base_of(model: PeftModel) -> PreTrainedModel:
    return cast("PreTrainedModel", model.get_base_model())


def _batches(sides: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Places of rows that are scored together, of like lengths."""
    batch: list[int] = []
    for at in sorted(range(len(sides)), key=lambda one: len(sides[one])):
        # The longest so far: it says how far the others are padded.
        if batch and len(sides[at]) * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


def _check_base(base: PreTrainedModel, origin: Origin) -> None:
    where = Path(str(base.name_or_path))
    if checked(where).fingerprint != origin.base:
        raise TrainingError(
            f"The reward model was trained on another base than {where}.",
            hint="Its scores mean nothing there. Train one on this base.",
        )
    if bool(getattr(base, "is_loaded_in_4bit", False)) != (origin.adapter == "qlora"):
        raise TrainingError(
            f"The reward model was trained as {origin.adapter}, and this base is held otherwise.",
            hint="Give both runs the same train.adapter.",
        )
