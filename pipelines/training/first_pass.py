"""Forward passes that are learned from as well: what was said of a batch is not computed again.

The first update begins where the batch was read, with the same weights and the same rows. What
policy and critic say then is what they have said already, bit by bit; all that is missing is what a
gradient needs, and that is kept of as many forward passes as there is room for.

Everything here imports torch and belongs in a child process.
"""

from collections.abc import Callable, Hashable
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import Module

Said = TypeVar("Said", Tensor, tuple[Tensor, Tensor])
# Who speaks, and of which rows.
Key = tuple[str, Hashable]


class FirstPass:
    """What has been said and can be learned from; each is taken once.

    Args:
        model: its weights are there anyway, and count for nothing.
        room: for activations, in bytes.
    """

    def __init__(self, model: Module, room: float) -> None:
        self._model, self._room = model, room
        self._kept: dict[Key, Tensor | tuple[Tensor, ...]] = {}
        self._size = self._largest = 0

    def hear(self, key: Key, say: Callable[[], Said]) -> Said:
        """What is said, without a gradient; with one it is kept, if there is room."""
        if self._size + max(self._largest, 1) > self._room:
            return say()
        counted = _Counted(self._model)
        with torch.enable_grad(), saved_tensors_hooks(counted.pack, _itself):
            said = say()
        self._largest = max(self._largest, counted.size)
        if self._size + counted.size <= self._room:
            self._size += counted.size
            self._kept[key] = said
        if isinstance(said, Tensor):
            return said.detach()
        return said[0].detach(), said[1].detach()

    def again(self, key: Key, say: Callable[[], Said]) -> Said:
        """The same with a gradient: what was kept, or said anew."""
        kept = self._kept.pop(key, None)
        return say() if kept is None else cast("Said", kept)

    def forget(self) -> None:
        """The weights are about to be others."""
        self._kept.clear()
        self._size = 0


class _Counted:
    """Counts the memory that a gradient will need."""

    def __init__(self, model: Module) -> None:
        self._seen = {one.untyped_storage().data_ptr() for one in model.parameters()}
        self.size = 0

    def pack(self, saved: Tensor) -> Tensor:
        memory = saved.untyped_storage()
        if memory.data_ptr() not in self._seen:
            self._seen.add(memory.data_ptr())
            self.size += memory.nbytes()
        return saved


def _itself(saved: Tensor) -> Tensor:
    return saved
