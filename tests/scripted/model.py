"""Which weights the scripted model pretends to have, and what log-probabilities they give."""

import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from teachers.sync import Probe
from teachers.weights import fingerprint


class Said(NamedTuple):
    """An answer as tokens."""

    tokens: list[int]
    logprobs: list[float]
    finish_reason: str


class Model:
    """Weights that are never opened; only their fingerprint and the probes about them are read.

    Args:
        folder: the weights it starts from.
        probes: where to look for `probe.json` files besides the folder and the one above it.
        stuck: say yes to other weights and keep the old ones, as a broken server would.
    """

    def __init__(self, folder: Path, probes: Path | None, stuck: bool) -> None:
        self.started_from = self.folder = folder
        self._probes = probes
        self._stuck = stuck

    def reload(self, folder: Path) -> bool:
        """Take other weights; False if there are none."""
        if not folder.is_dir():
            return False
        if not self._stuck:
            self.folder = folder
        return True

    def adapted(self, adapter: Path) -> "Model":
        """The same with an adapter, which is what the merged copy beside it is."""
        changed = Model(self.folder, self._probes, self._stuck)
        changed.reload(adapter.parent / "merged")
        return changed

    def restart(self) -> None:
        """Have the weights again that it started from."""
        self.reload(self.started_from)

    @property
    def trained(self) -> bool:
        """Whether these are a student's weights. A probe beside them says so also after a restart,
        when the server starts from them."""
        return self.folder != self.started_from or any(p.is_file() for p in self._beside())

    def logprobs(self, tokens: Sequence[int]) -> list[float]:
        """T - 1 values: the trainer's where a probe has them, else made from tokens and weights."""
        name = fingerprint(self.folder) if self.folder.is_dir() else ""
        for path in self._known():
            probe = Probe.read(path)
            if name in probe.logprobs and probe.tokens == tuple(tokens):
                return list(probe.logprobs[name])
        return [-(zlib.crc32(f"{name} {token}".encode()) % 1000) / 100 for token in tokens[1:]]

    def sample(self, prompt: Sequence[int], n: int, max_tokens: int) -> list[Said]:
        """No answers: weights that are never opened have none."""
        return []

    def _beside(self) -> tuple[Path, Path]:
        return self.folder / "probe.json", self.folder.parent / "probe.json"

    def _known(self) -> Iterable[Path]:
        yield from (path for path in self._beside() if path.is_file())
        if self._probes:
            yield from sorted(self._probes.rglob("probe.json"))
