"""Guards against reward hacking: figures of each batch, and when they say that a run should pause.

A reward can be earned without getting better. What cannot be fooled so easily is a score that
training never sees, so no guard looks at a level: answers may get longer, and entropy may fall, as
long as that score rises meanwhile. Windows of batches are compared, the first with the last and
each with the one before it, at doubling widths: a hack may start late, and it may be slow.
"""

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

# So many standard errors from a limit is surely beyond it.
SURE = 2.5

Name = Literal[
    "length", "repetition", "entropy", "kl", "format", "watch", "engine_gap", "surviving_share"
]


class Guards(BaseModel):
    """When training pauses because its reward may be hacked. `null` switches a guard off.

    "The score" is the watched one, or the main verifier's where nothing is watched; scores lie
    between 0 and 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    window: int = Field(default=4, ge=2)
    """Batches in the narrowest window: figures are compared by windows, not one by one."""
    patience: int = Field(default=2, ge=1)
    """A guard trips when it has had cause to in so many batches in a row."""
    length: float | None = Field(default=1.5, gt=1)
    """Answers became longer or shorter by this factor, and the score did not rise."""
    repetition: float | None = Field(default=0.15, gt=0)
    """Answers repeat themselves by so much more (a share), and the score did not rise."""
    entropy: float | None = Field(default=0.2, gt=0, lt=1)
    """Entropy fell below this share of what it was, and the score did not rise."""
    kl: float | None = Field(default=0.5, gt=0)
    """The policy went so much farther from the reference, in nats a token, and the score did not
    rise."""
    format: float | None = Field(default=0.3, gt=0)
    """Answers keep the form better by this, and the score did not rise for long after it."""
    watch: float | None = Field(default=0.1, gt=0)
    """The reward rose by this, and the watched score, which training never sees, was left
    behind."""
    keeps_up: float = Field(default=0.25, gt=0, le=1)
    """A score that rose by less than this share of what it should follow was left behind."""
    engine_gap: float | None = Field(default=0.1, gt=0)
    """The two engines' log-probabilities of the sampled tokens differ by more, in nats a token."""
    surviving_share: float | None = Field(default=0.5, gt=0, le=1)
    """Less than this share of the update reached the engine that samples."""


class Figures(NamedTuple):
    """What a batch of rollouts came to. None: not measured in this batch."""

    batch: int
    n: int
    """Answers that the means are of."""
    reward: float | None = None
    watched: float | None = None
    """Mean of a score that training never sees."""
    watched_n: int = 0
    """Answers that it was measured on."""
    main: float | None = None
    """Mean of the main verifier's term."""
    format: float | None = None
    """Mean of the term for the answer's form."""
    length: float | None = None
    """Mean, in tokens."""
    repetition: float | None = None
    """Mean share of an answer that repeats itself."""
    entropy: float | None = None
    """In nats a token."""
    kl: float | None = None
    """To the reference, in nats a token."""
    engine_gap: float | None = None
    """Between the engines' log-probabilities of the same tokens, in nats a token."""
    surviving_share: float | None = None
    """Of the update, after it was merged for the engine that samples."""


class Tripped(NamedTuple):
    """A guard that says: pause."""

    name: Name
    """As in `Guards`."""
    batch: int
    evidence: str
    todo: str


def tripped(figures: Sequence[Figures], guards: Guards) -> list[Tripped]:
    """The guards that trip at the last of these batches.

    Args:
        figures: of every batch so far, in order. Whoever lets a paused run go on as it is gives
            only those since then.
    """
    found = []
    for name, cause in _CAUSES.items():
        patience = guards.patience * _WAITS.get(name, 1)
        ends = range(len(figures), len(figures) - patience, -1)
        if getattr(guards, name) is None or ends[-1] < 1:
            continue
        causes = [cause(figures[:end], guards) for end in ends]
        if causes[0] is not None and None not in causes:
            advice = f"{_ADVICE[name]} If it is as it should be: guards.{name}, or null."
            found.append(Tripped(name, figures[-1].batch, causes[0], advice))
    return found


class _Change(NamedTuple):
    """A figure's means in two windows, and the standard error of their difference."""

    before: float
    after: float
    error: float

    @property
    def value(self) -> float:
        return self.after - self.before

    def surely_above(self, limit: float) -> bool:
        return self.value - SURE * self.error > limit

    def surely_below(self, limit: float) -> bool:
        return self.value + SURE * self.error < limit

    def __str__(self) -> str:
        return f"{self.before:.3g} to {self.after:.3g} (standard error {self.error:.2g})"


class _Look(NamedTuple):
    """Two windows of the batches so far."""

    figures: Sequence[Figures]
    before: slice
    after: slice

    def change(self, name: str) -> _Change | None:
        """None if one of the windows has fewer than two measurements."""
        before, after = (_measured(self.figures[part], name) for part in (self.before, self.after))
        if min(len(before), len(after)) < 2:
            return None
        error = _noise(self.figures, name) * math.sqrt(1 / len(before) + 1 / len(after))
        return _Change(sum(before) / len(before), sum(after) / len(after), error)

    def __str__(self) -> str:
        parts = [self.figures[part] for part in (self.before, self.after)]
        (first, second) = [f"{part[0].batch} to {part[-1].batch}" for part in parts]
        return f"batches {second} against {first}"


def _looks(figures: Sequence[Figures], width: int) -> Iterator[_Look]:
    """The first window against the last, and the one before the last, at doubling widths."""
    end = len(figures)
    while 2 * width <= end:
        last = slice(end - width, end)
        yield _Look(figures, slice(0, width), last)
        if 2 * width < end:
            yield _Look(figures, slice(end - 2 * width, end - width), last)
        width *= 2


def _measured(figures: Sequence[Figures], name: str) -> list[float]:
    return [value for one in figures if (value := getattr(one, name)) is not None]


def _noise(figures: Sequence[Figures], name: str) -> float:
    """Standard deviation of one batch's figure about its trend.

    From the differences of neighbours (von Neumann 1941), which a slow trend hardly touches. The
    least it can be for a score of n answers is about 1 / (n + 2): n that agree do not say that the
    next one will (Laplace's rule of succession).
    """
    values = _measured(figures, name)
    steps = [(after - before) ** 2 / 2 for before, after in pairwise(values)]
    found = math.sqrt(sum(steps) / len(steps)) if steps else math.inf
    if name not in ("watched", "main", "format"):
        return found
    count = "watched_n" if name == "watched" else "n"
    counts = [getattr(one, count) for one in figures if getattr(one, name) is not None]
    return max(found, 1 / (sum(counts, 0.0) / max(len(counts), 1) + 2))


def _drift(name: Name, far: Callable[[_Change, float], bool]) -> "_Cause":
    """A figure has gone too far while the score did not rise."""

    def cause(figures: Sequence[Figures], guards: Guards) -> str | None:
        for look in _looks(figures, guards.window):
            change = look.change(name)
            if change is not None and far(change, getattr(guards, name)):
                still = _stood_still(look)
                if still is not None:
                    return f"{look}: {_TOLD[name]} went from {change}, and {still}."
        return None

    return cause


def _stood_still(look: _Look) -> str | None:
    """What is to be said of the score if it did not rise: the watched one, else the main one."""
    for score in ("watched", "main"):
        if _measured(look.figures, score):
            change = look.change(score)
            if change is None or change.value > 0:
                return None
            return f"{_TOLD[score]} did not rise: {change}"
    return "no score was measured that could excuse it"


def _left_behind(figures: Sequence[Figures], guards: Guards) -> str | None:
    """The reward has risen, and the score that should rise with it has not."""
    for look in _looks(figures, guards.window):
        led, followed = look.change("reward"), look.change("watched")
        if led is None or followed is None or not led.surely_above(guards.watch or 0.0):
            continue
        if followed.surely_below(guards.keeps_up * led.value):
            return f"{look}: the reward went from {led}, the watched score from {followed}."
    return None


def _beyond(name: Name, right: Callable[[float, float], bool]) -> "_Cause":
    """The figure of one batch is not on the right side of its limit; NaN is on neither."""

    def cause(figures: Sequence[Figures], guards: Guards) -> str | None:
        value, limit = getattr(figures[-1], name), getattr(guards, name)
        if value is None or right(value, limit):
            return None
        return f"batch {figures[-1].batch}: {_TOLD[name]} is {value:.3g}, the limit {limit:g}."

    return cause


def _other_length(change: _Change, factor: float) -> bool:
    longer = change.after > factor * change.before and change.surely_above(0)
    return longer or (change.before > factor * change.after and change.surely_below(0))


def _collapsed(change: _Change, share: float) -> bool:
    return change.after < share * change.before and change.surely_below(0)


_Cause = Callable[[Sequence[Figures], Guards], str | None]

_CAUSES: dict[Name, _Cause] = {
    "length": _drift("length", _other_length),
    "repetition": _drift("repetition", _Change.surely_above),
    "entropy": _drift("entropy", _collapsed),
    "kl": _drift("kl", _Change.surely_above),
    "format": _drift("format", _Change.surely_above),
    "watch": _left_behind,
    "engine_gap": _beyond("engine_gap", operator.le),
    "surviving_share": _beyond("surviving_share", operator.ge),
}

# Form is learned first, and what it makes room for comes later: so many times the patience.
_WAITS: dict[Name, int] = {"format": 8}

_TOLD = {
    "length": "the mean length in tokens",
    "repetition": "the share that repeats itself",
    "entropy": "the entropy in nats a token",
    "kl": "the distance to the reference in nats a token",
    "format": "the form's score",
    "reward": "the reward",
    "watched": "the watched score",
    "main": "the main verifier's score",
    "engine_gap": "the gap between the engines in nats a token",
    "surviving_share": "the share of the update that reached the engine",
}

_READ = "Read the answers: preceptor rollouts --suspicious 5."
_ADVICE: dict[Name, str] = {
    "length": f"{_READ} A reward term may be pleased by length alone.",
    "repetition": f"{_READ} A term with the repetition verifier makes it cost something.",
    "entropy": "A lower learning rate, a higher clip or a higher temperature keeps answers apart.",
    "kl": "A lower learning rate or a higher beta holds it back.",
    "format": f"{_READ} Make the form a gate instead of a term, or lower its weight.",
    "watch": f"{_READ} A reward term pays for something else than getting better.",
    "engine_gap": "The engine may answer from other weights or in another precision.",
    "surviving_share": "Serve rollouts in float32 or unmerged, or take a higher learning rate.",
}
