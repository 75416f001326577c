"""Memory of PPO with all roles on one base, against a model for each role.

    make bench NAME=ppo-memory

A Llama of half a billion random weights, the same answers, two batches. (a): policy, critic,
reference and reward model are four models, of which two learn with all their weights, in bf16,
states of the optimizer too. (b): adapters for policy and critic, and a base in bf16 for each of
policy, critic and reward model; the reference is the policy's base. Each arm is a process of its
own; counted is what it holds resident while it trains, weights, gradients, optimizer and
activations, without what it held before a model was there. Nobody samples: an engine's copy would
be the same for all.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.ppo_arms import ARMS
from benchmarks.verdict import conclude, show
from teachers.weights import child_environment

BAR_MODELS, BAR_COPIES = 0.45, 0.6
TURNS = 2
RANK = 16


class Size(NamedTuple):
    """A model's shapes: those of Qwen3 (arXiv 2505.09388, table 1, and its configurations)."""

    name: str
    weights: float
    """In thousands of millions."""
    hidden: int
    inner: int
    layers: int
    queries: int
    keys: int

    @property
    def adapter(self) -> float:
        """Weights of an adapter on all linear layers, in thousands of millions."""
        attention = 2 * (self.hidden + self.queries) + 2 * (self.hidden + self.keys)
        inner = 3 * (self.hidden + self.inner)
        return RANK * self.layers * (attention + inner) / 1e9


SIZES = (
    Size("0.6B", 0.6, 1024, 3072, 28, 2048, 1024),
    Size("1.7B", 1.7, 2048, 6144, 28, 2048, 1024),
    Size("4B", 4.0, 2560, 9728, 36, 4096, 1024),
    Size("8B", 8.2, 4096, 12288, 36, 4096, 1024),
    Size("32B", 32.8, 5120, 25600, 64, 8192, 1024),
)
# Bytes a weight: bf16; its gradient and two states of Adam beside it; and all four in float32.
FROZEN, LEARNED, ADAPTED = 2, 8, 16


def main() -> None:
    peaks: dict[str, list[tuple[int, int]]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as place:
        base = Path(place, "base")
        _run("benchmarks.ppo_base", str(base))
        for turn in range(TURNS):
            for arm in ARMS:
                result = Path(place, f"{arm}-{turn}.json")
                _run("benchmarks.ppo_arms", arm, str(base), str(result))
                told = json.loads(result.read_text())
                peaks[arm].append((told["loaded"], told["peak"]))
                print(f"turn {turn + 1} of {TURNS}: {arm}, {_gib(told['peak'])} GiB", flush=True)
    ours, models, copies = (statistics.median(peak for _, peak in peaks[arm]) for arm in ARMS)
    rows = [
        [arm, *(_gib(statistics.median(column)) for column in zip(*peaks[arm], strict=True))]
        for arm in ARMS
    ]
    show("half a billion weights, measured, GiB", ["arm", "loaded", "peak"], rows)
    _show_larger()
    print(f"of four models {ours / models:.3f} (bar {BAR_MODELS}); of copies {ours / copies:.3f}")
    also = ours / copies <= BAR_COPIES
    print(f"the bar against copies of the base: {BAR_COPIES}, {'holds' if also else 'missed'}")
    conclude("ppo-memory", ours / models, BAR_MODELS, at_least=False, also=also)


def _show_larger() -> None:
    """Weights, gradients and optimizer by arithmetic."""
    rows = []
    for size in SIZES:
        one = FROZEN * size.weights + (2 * ADAPTED + 4) * size.adapter
        models = (2 * LEARNED + 2 * FROZEN) * size.weights
        copies = 3 * FROZEN * size.weights + 2 * ADAPTED * size.adapter
        rows.append([size.name, *(f"{gb:.1f}" for gb in (one, models, copies))])
    show("larger models, computed, no activations, GB", ["weights", *ARMS], rows)


def _run(module: str, *how: str) -> None:
    command = [sys.executable, "-m", module, *how]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{module} {how[0]} failed:\n{done.stderr[-3000:]}")


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f}"


if __name__ == "__main__":
    main()
