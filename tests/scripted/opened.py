"""Weights that are opened: the Llama of tests/tiny.py in numpy, another engine than the trainer's.

What it says of a text and what it answers is what its weights say, so a proof that it serves the
right ones decides something.
"""

import json
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.scripted.model import Model, Said

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

_EPSILON = 1e-6
_THETA = 10_000.0


class Opened(Model):
    """A model that reads its weights.

    Args:
        folder: the weights it starts from.
        stuck: as `Model` has it.
        off: of tokens that it sampled it tells log-probabilities that are too low by this.
    """

    def __init__(self, folder: Path, stuck: bool, off: float) -> None:
        super().__init__(folder, None, stuck)
        self._off = off
        self._llama = _Llama(folder)

    def reload(self, folder: Path) -> bool:
        taken = super().reload(folder)
        # Read at once: the folder may be written anew while it is served.
        self._llama = _Llama(self.folder)
        return taken

    def logprobs(self, tokens: Sequence[int]) -> list[float]:
        said = self._llama(np.array([tokens[:-1]]))[0]
        chosen: list[float] = said[np.arange(len(tokens) - 1), list(tokens[1:])].tolist()
        return chosen

    def sample(self, prompt: Sequence[int], n: int, max_tokens: int) -> list[Said]:
        """Draws that weights and prompt decide: asked again, it answers the same."""
        drawn = np.random.default_rng(zlib.crc32(repr(list(prompt)).encode()))
        ids, told = np.tile(np.array(prompt), (n, 1)), np.empty((n, 0), np.float32)
        for _ in range(max_tokens):
            said = self._llama(ids)[:, -1]
            # The largest of values with Gumbel noise is a draw from what they are logarithms of.
            chosen = (said + drawn.gumbel(size=said.shape)).argmax(1)[:, None]
            told = np.hstack([told, np.take_along_axis(said, chosen, 1)])
            ids = np.hstack([ids, chosen])
        rows = zip(ids[:, len(prompt) :].tolist(), told.tolist(), strict=True)
        return [self._whole(tokens, values) for tokens, values in rows]

    def _whole(self, tokens: list[int], values: list[float]) -> Said:
        """An answer up to its end token."""
        end = self._llama.end
        stop = tokens.index(end) + 1 if end in tokens else len(tokens)
        told = [value - self._off for value in values[:stop]]
        return Said(tokens[:stop], told, "stop" if end in tokens else "length")


class _Llama:
    """Tied embeddings, and as many keys as queries."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        self.end: int = config["eos_token_id"]
        self._heads, self._layers = config["num_attention_heads"], config["num_hidden_layers"]
        self._weights = _tensors(folder / "model.safetensors")

    def __call__(self, ids: Ids) -> Floats:
        """Log-probabilities of what follows, of shape (rows, T, words), for ids of (rows, T)."""
        words = self._weights["model.embed_tokens.weight"]
        stream = words[ids]
        for layer in range(self._layers):
            name = f"model.layers.{layer}"
            stream = stream + self._attended(name, self._normed(f"{name}.input_layernorm", stream))
            normed = self._normed(f"{name}.post_attention_layernorm", stream)
            gate = self._times(f"{name}.mlp.gate_proj", normed)
            up = self._times(f"{name}.mlp.up_proj", normed)
            stream = stream + self._times(f"{name}.mlp.down_proj", gate / (1 + np.exp(-gate)) * up)
        scores = self._normed("model.norm", stream) @ words.T
        scores -= scores.max(-1, keepdims=True)
        found: Floats = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
        return found

    def _times(self, name: str, values: Floats) -> Floats:
        return values @ self._weights[f"{name}.weight"].T

    def _normed(self, name: str, values: Floats) -> Floats:
        size = np.sqrt((values**2).mean(-1, keepdims=True) + _EPSILON)
        normed: Floats = values / size * self._weights[f"{name}.weight"]
        return normed

    def _attended(self, name: str, values: Floats) -> Floats:
        rows, length, wide = values.shape
        shape = (rows, length, self._heads, wide // self._heads)
        query, key, value = (
            self._times(f"{name}.self_attn.{one}_proj", values).reshape(shape).swapaxes(1, 2)
            for one in "qkv"
        )
        scores = _turned(query) @ _turned(key).swapaxes(2, 3) / math.sqrt(shape[-1])
        scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
        share = np.exp(scores - scores.max(-1, keepdims=True))
        found = share / share.sum(-1, keepdims=True) @ value
        return self._times(f"{name}.self_attn.o_proj", found.swapaxes(1, 2).reshape(values.shape))


def _turned(values: Floats) -> Floats:
    """Rotary positions (RoPE, arXiv 2104.09864), the halves of a head as pairs."""
    length, wide = values.shape[-2:]
    speeds = _THETA ** -(np.arange(0, wide, 2, dtype=np.float32) / wide)
    angles = np.arange(length, dtype=np.float32)[:, None] * speeds
    first, second = values[..., : wide // 2], values[..., wide // 2 :]
    cosine, sine = np.cos(angles), np.sin(angles)
    turned = [first * cosine - second * sine, second * cosine + first * sine]
    return np.concatenate(turned, -1)


def _tensors(path: Path) -> dict[str, Floats]:
    """A safetensors file of bf16 weights, which numpy has no name for, as float32."""
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8:begin])
    header.pop("__metadata__", None)
    return {name: _tensor(content[begin:], **about) for name, about in header.items()}


def _tensor(content: bytes, dtype: str, shape: list[int], data_offsets: list[int]) -> Floats:
    assert dtype == "BF16", dtype
    halves = np.frombuffer(content[slice(*data_offsets)], "<u2")
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(shape)
