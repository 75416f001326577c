"""Who answers for the policy in training: a vLLM server that is given it, or the trainer itself.

Everything here imports torch and belongs in a child process.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from pipelines.training.policy import Handed, ServedPolicy
from pipelines.training.served_adapter import Adapters
from pipelines.training.served_merged import Merged
from teachers.client import Client, Endpoint, Tokens
from teachers.errors import CallUncertain, EndpointBusy, EngineDied

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
    """transformers' own generation, in the training process: exact, and for any adapter.

    Args:
        model: the policy in training, its adapter on.
        tokenizer: its tokenizer.
        max_tokens: an answer is cut after so many.
    """

    together = True

    def __init__(
        self, model: PeftModel, tokenizer: PreTrainedTokenizerBase, max_tokens: int
    ) -> None:
        self._model, self._tokenizer, self._max_tokens = model, tokenizer, max_tokens
        ends = model.generation_config.eos_token_id
        self._ends = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id}

    async def begin(self, version: int) -> Handed:
        return Handed(f"policy-{version}", 0.0)

    async def sample(
        self, prompts: Sequence[Sequence[int]], group: int, seed: int
    ) -> AsyncIterator[tuple[int, list[Tokens]]]:
        rows = [row for row in prompts for _ in range(group)]
        # Training's own random numbers stay what they would be without this.
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            said = self._generate(rows)
        for place in range(len(prompts)):
            yield place, said[place * group : (place + 1) * group]

    async def would_say(self, prompt: Sequence[int], answers: Sequence[Tokens]) -> bool:
        return True  # there never was another

    async def end(self) -> None:
        return None

    async def close(self) -> None:
        return None

    def _generate(self, rows: Sequence[Sequence[int]]) -> list[Tokens]:
        pad = self._tokenizer.pad_token_id
        width = max(map(len, rows))
        ids = torch.tensor([[*[pad] * (width - len(row)), *row] for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        was_training = self._model.training
        self._model.eval()
        with torch.no_grad():
            out = cast("Any", self._model).generate(
                input_ids=ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                max_new_tokens=self._max_tokens,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                # A model's folder may say otherwise, and what it says would be obeyed.
                min_p=None,
                typical_p=1.0,
                repetition_penalty=1.0,
                no_repeat_ngram_size=0,
                pad_token_id=pad,
            )
        self._model.train(was_training)
        return [self._whole(row) for row in out[:, width:].tolist()]

    def _whole(self, row: list[int]) -> Tokens:
        """An answer up to its end token; log-probabilities are the trainer's to compute."""
        end = next((at for at, token in enumerate(row) if token in self._ends), None)
        if end is None:
            return Tokens(tuple(row), (), "length")
        return Tokens(tuple(row[: end + 1]), (), "stop")
