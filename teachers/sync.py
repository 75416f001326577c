"""Proof that a server answers from the weights it was given.

Rollouts silently served by the wrong weights are the field's worst bug: nothing fails, and training
seems to work. So after every swap the server scores a fixed text, and the result is held against
what the trainer measured on the very same weights.
"""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from teachers.errors import SyncMismatch

PROBE_TEXT = (Path(__file__).parent / "probe.txt").read_text()
MIN_TOKENS = 512
# Two engines never agree to the bit. In bf16 on the CPU the mean difference between vLLM and
# transformers was 0.044 to 0.048 nats a token on eight versions of the packaged model.
MAX_MEAN_DIFFERENCE = 0.1
# Weights closer than this, by the trainer's own measure, count as the same.
MIN_CHANGE = 1e-3
# How far the server has come from the old weights to the new ones, in standard errors from half of
# the way. The trainer's own noise pulls both ends towards the middle, and neither beyond it: of the
# first two steps of a policy, a server with the new weights was seen at 0.49, give or take 0.04.
SURE = 3.0
# That noise hides the shape of small changes: the right weights correlated 0.32 at a change of 0.06
# nats a token, 0.88 at 0.13 and 0.98 at 0.33; wrong ones never above 0.17.
CLEAR_CHANGE = 0.25
MIN_CORRELATION = 0.9


class Probe(NamedTuple):
    """A text of T tokens and each model's T - 1 log-probabilities of it, by the trainer."""

    tokens: tuple[int, ...]
    logprobs: Mapping[str, tuple[float, ...]]
    """By the weights' fingerprint."""

    @classmethod
    def read(cls, path: Path) -> "Probe":
        kept = json.loads(path.read_text())
        logprobs = {name: tuple(row) for name, row in kept["logprobs"].items()}
        return cls(tuple(kept["tokens"]), logprobs)


def prove(
    probe: Probe, before: Sequence[float], after: Sequence[float], *, old: str, new: str
) -> None:
    """Check that the server moved from the weights `old` to the weights `new`.

    Args:
        probe: the trainer's log-probabilities, of `new` and, where it has them, of `old`.
        before: the server's T - 1 log-probabilities before the swap.
        after: the same after it.
        old: fingerprint of the weights before.
        new: fingerprint of the weights after.

    Raises:
        SyncMismatch: the values are off, nothing changed, the old weights fit better, or a clear
            change is not the trainer's.
    """
    wanted = probe.logprobs.get(new)
    if wanted is None:
        raise SyncMismatch(f"The trainer measured nothing on the weights {new[:12]}.")
    agree(new[:12], wanted, probe.logprobs.get(old), before, after)


def agree(
    name: str,
    wanted: Sequence[float],
    was: Sequence[float] | None,
    before: Sequence[float] | None,
    after: Sequence[float],
) -> bool:
    """Check that the server moved as the trainer did, and say whether that was to be seen.

    Args:
        name: of the new weights, for the error.
        wanted: the trainer's log-probabilities under the new weights.
        was: the same under earlier weights, if they were measured.
        before: the server's under those; None if it may have had others, these for example.
        after: the server's after it.

    Returns:
        False if old and new are too near to each other for these tokens to tell them apart.

    Raises:
        SyncMismatch: as in `prove`.
    """
    if (off := mean_difference(after, wanted)) > MAX_MEAN_DIFFERENCE:
        raise SyncMismatch(
            f"The server's log-probabilities differ from the trainer's by {off:.3f} nats a token "
            f"(at most {MAX_MEAN_DIFFERENCE}): it does not serve the weights {name}."
        )
    if was is None or (change := mean_difference(wanted, was)) < MIN_CHANGE:
        return was is None
    if before is not None and mean_difference(after, before) == 0.0:
        raise SyncMismatch("The swap changed nothing: the server still serves the old weights.")
    went = way(was, wanted, after)
    if abs(went.share - 0.5) <= SURE * went.error:
        return False
    if went.share < 0.5:
        raise SyncMismatch(
            f"The server is nearer to the old weights than to the new ones (it came "
            f"{went.share:.2f} of the way, give or take {went.error:.2f}): it does not serve the "
            f"weights {name}."
        )
    if change < CLEAR_CHANGE or before is None:
        return True
    moved = [a - b for a, b in zip(after, before, strict=True)]
    meant = [w - o for w, o in zip(wanted, was, strict=True)]
    if (agreed := statistics.correlation(moved, meant)) < MIN_CORRELATION:
        raise SyncMismatch(
            f"The server changed, but not as the trainer did (correlation {agreed:.2f}, at least "
            f"{MIN_CORRELATION}): it does not serve the weights {name}."
        )
    return True


class Way(NamedTuple):
    """How far a server has come from old weights to new ones: below half it is still there."""

    share: float
    error: float
    """Standard error of the share; infinite if old and new say the same."""


def way(was: Sequence[float], wanted: Sequence[float], found: Sequence[float]) -> Way:
    """Least squares of what the server says on what the trainer says before and after.

    Args:
        was: the trainer's log-probabilities of N tokens under the old weights.
        wanted: the same under the new ones.
        found: the server's.
    """
    meant = [new - old for new, old in zip(wanted, was, strict=True)]
    came = [now - old for now, old in zip(found, was, strict=True)]
    square = sum(one * one for one in meant)
    if square == 0.0:
        return Way(0.0, math.inf)
    share = sum(one * other for one, other in zip(came, meant, strict=True)) / square
    rest = sum((one - share * other) ** 2 for one, other in zip(came, meant, strict=True))
    return Way(share, math.sqrt(rest / (len(meant) - 1) / square))


def mean_difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Mean absolute difference of two rows of log-probabilities, in nats a token."""
    return statistics.fmean(abs(a - b) for a, b in zip(ours, theirs, strict=True))
