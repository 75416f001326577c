"""The policy in training as a server has it: handed over, proven to have arrived, and asked.

Everything here imports torch and belongs in a child process.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from peft import PeftModel

from pipelines.training.models import logprobs, probe_tokens
from teachers.client import Client, Tokens
from teachers.errors import CallRefused, CallUnfit, SyncMismatch
from teachers.sync import MIN_CHANGE, agree, mean_difference

# A server that is asked the same of the same weights says the same, batching aside.
MAX_WANDERING = 0.02
# Drawing tokens one by one and reading them at once are two ways of adding up.
MAX_DOUBT = 0.05


class Handed(NamedTuple):
    """What came of giving a server the policy."""

    name: str
    """Of this version of the policy."""
    seconds: float
    surviving_share: float = 1.0
    """Share of the update since the base that survives the rounding to bf16; 1 if there is none."""
    noise: float = 0.0
    """What rounding did besides, by the size of the update (root of the sum of squares of each)."""
    proven: bool = True
    """Whether these tokens could tell the policy from the one before."""


class Given(NamedTuple):
    """What a server was given, before anybody knows that it has it."""

    model: str
    """The name to ask the server for."""
    surviving_share: float = 1.0
    noise: float = 0.0
    """Both as `Handed` has them."""


class Said(NamedTuple):
    """Log-probabilities of the probe under one version of the policy."""

    trainer: list[float]
    server: list[float] | None
    """None as long as it was not asked."""


class Delivery(Protocol):
    """One way of giving a server the policy."""

    async def take_back(self) -> str:
        """Have it answer from the base again; returns the name to ask it for."""

    async def give(self, version: int) -> Given:
        """Give it the policy as it is now."""

    async def settle(self) -> None:
        """The newest has arrived: nobody asks for those before it again."""

    def forget(self) -> None:
        """Remove what was written for the server."""


class ServedPolicy:
    """Gives a server the policy, version by version, and knows which one it has.

    Args:
        model: the policy in training, its adapter on.
        base: folder of the model that the adapter is on.
        client: the server.
        delivery: how the policy gets there.
    """

    def __init__(self, model: PeftModel, base: Path, client: Client, delivery: Delivery) -> None:
        self._model, self._client, self._delivery = model, client, delivery
        self._tokens = probe_tokens(base)
        self._asked = ""
        """The name that the server knows the policy by."""
        with model.disable_adapter():
            self._newest = Said(logprobs(model, self._tokens), None)
        """Of the policy that was handed over last,"""
        self._proven = self._newest
        """and of the last one that was seen to arrive: small steps add up to one that is seen."""

    async def hand_over(self, version: int) -> Handed:
        """Make the server answer from the policy as it is now.

        Raises:
            SyncMismatch: it does not.
        """
        began, name = time.monotonic(), f"policy-{version}"
        if self._newest.server is None:
            await self._begin()
        wanted = logprobs(self._model, self._tokens)
        self._asked, surviving_share, noise = await self._delivery.give(version)
        after = await self._said()
        self._check_moved(wanted, after)
        seen = agree(name, wanted, self._proven.trainer, self._proven.server, after)
        await self._delivery.settle()
        self._newest = Said(wanted, after)
        if seen:
            self._proven = self._newest
        return Handed(name, time.monotonic() - began, surviving_share, noise, seen)

    async def sample(self, prompt: Sequence[int], n: int, max_tokens: int) -> list[Tokens]:
        """Answers of the policy that was handed over, as `Client.sample` draws them.

        Raises:
            SyncMismatch: the server no longer has it.
        """
        with _expected():
            return await self._client.sample(prompt, n, max_tokens, model=self._asked)

    async def would_say(self, prompt: Sequence[int], answers: Sequence[Tokens]) -> bool:
        """Whether answers, and how likely they were when they were drawn, can be the policy's."""
        were, are = list[float](), list[float]()
        for answer in answers:
            with _expected():
                said = await self._client.logprobs([*prompt, *answer.ids], model=self._asked)
            were += answer.logprobs
            are += said[len(prompt) - 1 :]
        return mean_difference(were, are) <= MAX_DOUBT

    async def still_there(self) -> None:
        """The server still has what it was given: it may have died and come back with the base.

        Raises:
            SyncMismatch: it has something else.
        """
        served = self._newest.server
        assert served is not None, "nothing was handed over"
        if (off := mean_difference(await self._said(), served)) > MAX_WANDERING:
            raise SyncMismatch(
                f"The server's weights changed while it was sampled from ({off:.3f} nats a token)."
            )

    def forget(self) -> None:
        """Remove what was written for the server."""
        self._delivery.forget()

    async def _begin(self) -> None:
        """Start from the base, wherever the server stands.

        It may have outlived a trainer that was killed, and have a policy of that one's. Were it
        stuck on that, it would seem to have come most of the way to the next one.
        """
        self._asked = await self._delivery.take_back()
        base, said = self._newest.trainer, await self._said()
        agree("base", base, None, None, said)
        self._newest = self._proven = Said(base, said)

    def _check_moved(self, wanted: list[float], after: list[float]) -> None:
        """However small a step is, only a server that is stuck says the very same after it."""
        served = self._newest.server
        assert served is not None, "it began with the base"
        moved = mean_difference(wanted, self._newest.trainer) >= MIN_CHANGE
        if moved and after == served:
            raise SyncMismatch("The swap changed nothing: the server still serves the old policy.")
        if not moved and (off := mean_difference(after, served)) > MAX_DOUBT:
            raise SyncMismatch(
                f"Given the same policy again, the server says something else ({off:.3f} nats a "
                "token): it has other weights."
            )

    async def _said(self) -> list[float]:
        """What the server says of the probe."""
        with _expected():
            return await self._client.logprobs(self._tokens, model=self._asked)


@contextlib.contextmanager
def _expected() -> Iterator[None]:
    """A server refuses a policy that it was given if it was started anew and does not know it."""
    try:
        yield
    except CallUnfit:
        raise
    except CallRefused as refused:
        raise SyncMismatch(f"The server lost the policy: {refused.message}") from refused
