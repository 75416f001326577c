"""Who answers for the policy in training: a vLLM server that is given it, or the trainer itself.

Everything here imports torch and belongs in a child process.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipelines.training.decoding import Drawn, draw
from pipelines.training.merged_policy import merged
from pipelines.training.policy import Handed, ServedPolicy
from pipelines.training.served_adapter import Adapters
from pipelines.training.served_merged import Merged
from teachers.client import Client, Endpoint, Tokens
from teachers.errors import CallUncertain, EndpointBusy, EngineDied, TrainingError

# The service starts a dead server again, which takes a minute or so.
PATIENCE_S = 300.0
_RETRY_S = 2.0
# All groups of a batch wait in the server's own queue.
ANSWER_S = 3600.0


class Address(NamedTuple):
    """Where a server of ours listens."""

    url: str
    model: str
    key: str
    takes_adapters: bool = False
    """Whether it is given the policy as an adapter, or merged."""

    @classmethod
    def read(cls, path: Path) -> "Address":
        return cls(**json.loads(path.read_text()))


class Sampler(Protocol):
    """Answers from the policy as it is."""

    together: bool
    """Whether an answer depends on what else is asked: then a part of a batch is no part of it."""

    async def begin(self, version: int) -> Handed:
        """Sample from the policy as it is now, under this version's name."""

    def sample(
        self, prompts: Sequence[Sequence[int]], group: int, seed: int
    ) -> AsyncIterator[tuple[int, list[Tokens]]]:
        """Each prompt's place and its group of answers, as they come."""

    async def would_say(self, prompt: Sequence[int], answers: Sequence[Tokens]) -> bool:
        """Whether the policy, as it was begun with, finds its answers as likely as they say."""

    async def end(self) -> None:
        """Make sure that the policy was the same throughout.

        Raises:
            SyncMismatch: it was not.
        """

    async def close(self) -> None:
        """There is nothing more to sample."""


class EngineSampler:
    """A vLLM server, reached over HTTP. It may be started anew meanwhile, at the same address.

    Args:
        model: the policy in training, its adapter on.
        base: folder of the model that the adapter is on.
        address: file that says where the server listens.
        folder: where the policy is written for it.
        max_tokens: an answer is cut after so many.
    """

    together = False

    def __init__(
        self, model: PeftModel, base: Path, address: Path, folder: Path, max_tokens: int
    ) -> None:
        self._address, self._found = address, Address.read(address)
        found = self._found
        # More waiting than places is the server's business: it has a queue.
        endpoint = Endpoint(url=found.url, model=found.model, concurrency=256, timeout_s=ANSWER_S)
        self._client = Client(endpoint, key=found.key)
        adapters, client = found.takes_adapters, self._client
        delivery = (
            Adapters(model, folder, client) if adapters else Merged(model, base, folder, client)
        )
        self._policy = ServedPolicy(model, base, client, delivery)
        self._max_tokens = max_tokens

    async def begin(self, version: int) -> Handed:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await self._policy.hand_over(version)
            except (EndpointBusy, CallUncertain) as away:
                if time.monotonic() > until or Address.read(self._address) != self._found:
                    raise EngineDied(
                        "The model server did not come back where it was.", hint=away.message
                    ) from away
            await asyncio.sleep(_RETRY_S)

    async def sample(
        self, prompts: Sequence[Sequence[int]], group: int, seed: int
    ) -> AsyncIterator[tuple[int, list[Tokens]]]:
        # The server takes no seed: what it once answered is kept instead.
        async def one(place: int) -> tuple[int, list[Tokens]]:
            return place, await self._policy.sample(prompts[place], group, self._max_tokens)

        asked = [asyncio.create_task(one(place)) for place in range(len(prompts))]
        try:
            for answered in asyncio.as_completed(asked):
                yield await answered
        finally:
            for task in asked:
                task.cancel()

    async def would_say(self, prompt: Sequence[int], answers: Sequence[Tokens]) -> bool:
        return await self._policy.would_say(prompt, answers)

    async def end(self) -> None:
        await self._policy.still_there()

    async def close(self) -> None:
        self._policy.forget()
        await self._client.__aexit__()


class TrainerSampler:
    """The training process itself: with the adapter, exact, and for any adapter; or merged, faster.

    Args:
        model: the policy in training, its adapter on.
        tokenizer: its tokenizer.
        max_tokens: an answer is cut after so many.
        copy: a model like its base, that is given the merged policy before each batch; without one
            the policy itself answers.
    """

    together = True

    def __init__(
        self,
        model: PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        copy: PreTrainedModel | None = None,
    ) -> None:
        self._model, self._copy, self._max_tokens = model, copy, max_tokens
        ends = model.generation_config.eos_token_id
        known = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id}
        self._ends = known - {None}

    async def begin(self, version: int) -> Handed:
        name, began = f"policy-{version}", time.monotonic()
        if self._copy is None:
            return Handed(name, 0.0)
        found = merged(self._model, version)
        weights = {key: one.to(self._copy.device) for key, one in found.weights.items()}
        _replace(self._copy, weights)
        return Handed(name, time.monotonic() - began, found.surviving_share, found.noise)

    async def sample(
        self, prompts: Sequence[Sequence[int]], group: int, seed: int
    ) -> AsyncIterator[tuple[int, list[Tokens]]]:
        said = self._answers([row for row in prompts for _ in range(group)], seed)
        for place in range(len(prompts)):
            yield place, said[place * group : (place + 1) * group]

    async def would_say(self, prompt: Sequence[int], answers: Sequence[Tokens]) -> bool:
        return True  # there never was another

    async def end(self) -> None:
        return None

    async def close(self) -> None:
        return None

    def _answers(self, rows: Sequence[Sequence[int]], seed: int) -> list[Tokens]:
        model = self._copy or self._model
        was_training = model.training
        model.eval()
        said = draw(model, rows, self._max_tokens, self._ends, seed)
        model.train(was_training)
        return [self._whole(one) for one in said]

    def _whole(self, one: Drawn) -> Tokens:
        # What the policy itself said is the trainer's to compute.
        logprobs = tuple(one.logprobs) if self._copy else ()
        ended = "stop" if one.tokens[-1] in self._ends else "length"
        return Tokens(tuple(one.tokens), logprobs, ended)


def _replace(copy: PreTrainedModel, weights: dict[str, Tensor]) -> None:
    """Give a model all of its weights anew.

    Raises:
        TrainingError: they are another model's.
    """
    found = copy.load_state_dict(weights, strict=False, assign=True)
    missing = {*found.missing_keys} - {*(copy.all_tied_weights_keys or ())}
    if wrong := [*sorted(missing), *found.unexpected_keys]:
        raise TrainingError(
            f"The merged policy does not fit a model like its base: {wrong[0]} is "
            + ("missing." if wrong[0] in missing else "unknown to it.")
        )
    copy.tie_weights()
