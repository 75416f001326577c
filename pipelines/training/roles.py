"""Several adapters on one base, each a role: the policy, its critic, a reward model.

The reference is the base with none of them.

PEFT knows one active adapter, and freezes the others whenever another becomes active or adapters
come back on. What is trained is set free again after each change: a weight that is frozen when the
loss is made gets no gradient, and nobody says so.

Everything here imports torch and belongs in a child process.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from peft import PeftModel
from torch.nn import Parameter

from pipelines.training import heads, models

POLICY, VALUE, REWARD = models.ADAPTER, "value", heads.ADAPTER


class Roles:
    """Who acts on a model. Outside of any context it is the policy.

    Args:
        model: its adapters are named by their roles.
        trained: those that learn; any other stays frozen.
    """

    def __init__(self, model: PeftModel, trained: Sequence[str] = (POLICY, VALUE)) -> None:
        self._model, self._trained = model, tuple(trained)
        self._switch(POLICY)

    @contextmanager
    def acting(self, role: str) -> Iterator[None]:
        """The model with this adapter.

        A loss is made and taken back (`backward`) within one context: with gradient checkpointing
        the layers are computed again on the way back, by whatever adapter is active then.
        """
        self._become(role)
        try:
            yield
        finally:
            self._become(POLICY)

    @contextmanager
    def nobody(self) -> Iterator[None]:
        """The model with its adapters off: bit by bit the base."""
        try:
            with self._model.disable_adapter():
                yield
        finally:
            self.free()

    def free(self) -> None:
        """What is trained can be learned from again."""
        self._model.set_requires_grad(self._trained)

    def weights(self, role: str) -> list[Parameter]:
        """The weights of one adapter."""
        return [one for name, one in self._model.named_parameters() if f".{role}." in name]

    def _become(self, role: str) -> None:
        if self._model.active_adapter != role:
            self._switch(role)

    def _switch(self, role: str) -> None:
        self._model.set_adapter(role, inference_mode=role not in self._trained)
        self.free()
