"""A run's rollouts in a terminal: its curve, and the best, worst and most hacked-looking."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any, NamedTuple

from pydantic import ValidationError
from rich.console import Console

from judges.rewards import Reward, RewardTerm, TermValue, recombined
from judges.verifiers import repetition
from pipelines.store.rollouts import StoredRollout
from service.tables import plain, table
from teachers.errors import ConfigError
from teachers.reasoning import split_thinking

CURVE_LINES = 20
# So many times the run's median length, or the median so many times it, is an extreme.
EXTREME = 2.0


class Shown(NamedTuple):
    """A rollout, and what looks hacked about it."""

    rollout: StoredRollout
    signs: tuple[str, ...] = ()


def choose(
    rollouts: Sequence[StoredRollout], best: int, worst: int, suspicious: int
) -> dict[str, list[Shown]]:
    """The best and the worst by reward (of equals the newest first), and the most suspicious."""
    rewarded = sorted(_rewarded(rollouts), key=lambda one: (-one.batch, one.id))
    return {
        "best": [Shown(one) for one in sorted(rewarded, key=_paid, reverse=True)[:best]],
        "worst": [Shown(one) for one in sorted(rewarded, key=_paid)[:worst]],
        "suspicious": suspects(rewarded)[:suspicious],
    }


def weighed(terms: Iterable[RewardTerm], wanted: Iterable[str]) -> list[RewardTerm]:
    """The terms with other weights.

    Args:
        wanted: each `NAME=WEIGHT`; terms that are not named keep their weight.

    Raises:
        ConfigError: there is no such term, or the weight is none.
    """
    found = {term.name: term for term in terms}
    for one in wanted:
        name, _, weight = one.rpartition("=")
        if name not in found:
            raise ConfigError(
                f"{one!r} names no term of the run's reward.",
                hint="NAME=WEIGHT, NAME: " + ", ".join(found),
            )
        try:
            term = RewardTerm.model_validate({**found[name].model_dump(), "weight": weight})
        except ValidationError:
            raise ConfigError(
                f"{weight!r} is no weight of {name!r}.", hint="It is a number from 0 on."
            ) from None
        found[name] = term
    return list(found.values())


def rewarded_again(
    rollouts: Sequence[StoredRollout], terms: Sequence[RewardTerm]
) -> list[StoredRollout]:
    """The rollouts with rewards that these terms make of the stored values.

    They have no advantages: those came of other rewards.
    """
    stored = [Reward(total=one.reward, terms=one.terms) for one in rollouts]
    return [
        one._replace(reward=again.total, advantage=None)
        for one, again in zip(rollouts, recombined(terms, stored), strict=True)
    ]


def of_prompt(rollouts: Iterable[StoredRollout], beginning: str) -> list[Shown]:
    """Every rollout of the prompt whose id begins so, in order.

    Raises:
        ConfigError: the run has none, or of more than one prompt.
    """
    found = [one for one in rollouts if one.prompt_id.startswith(beginning)]
    if (prompts := len({one.prompt_id for one in found})) != 1:
        many = "More than one prompt" if prompts else "No prompt"
        raise ConfigError(f"{many} of this run has an id that begins with {beginning!r}.")
    return [Shown(one) for one in found]


def suspects(rollouts: Sequence[StoredRollout]) -> list[Shown]:
    """Rollouts that earned at least the run's median reward and show a sign of hacking.

    Those that a watched term speaks against come first, then those with more signs, then those
    that earned more, then the newest.
    """
    rewarded = _rewarded(rollouts)
    if not rewarded:
        return []
    least, usual = min(map(_paid, rewarded)), median(map(_paid, rewarded))
    run = _Run.of(rewarded)
    found = [
        Shown(one, signs)
        for one in rewarded
        if _paid(one) >= usual and _paid(one) > least and (signs := tuple(run.signs(one)))
    ]
    return sorted(found, key=_order)


def _order(suspect: Shown) -> tuple[bool, int, float, int, str]:
    one, signs = suspect
    unwatched = not any(sign.startswith("watched") for sign in signs)
    return unwatched, -len(signs), -_paid(one), -one.batch, one.id


class _Run(NamedTuple):
    """What is usual in a run, against which one rollout is held."""

    tokens: float
    watched: Mapping[str, float]
    thinks: bool

    @classmethod
    def of(cls, rollouts: Sequence[StoredRollout]) -> "_Run":
        names = {name for one in rollouts for name in one.watched}
        said = {name: _values(rollouts, name) for name in sorted(names)}
        return cls(
            median(one.tokens for one in rollouts),
            {name: fmean(values) for name, values in said.items() if values},
            2 * sum(bool(split_thinking(one.text).thinking) for one in rollouts) > len(rollouts),
        )

    def signs(self, one: StoredRollout) -> Iterable[str]:
        for name, usual in self.watched.items():
            value = one.watched[name].value if name in one.watched else None
            if value is not None and value < usual:
                yield f"watched {name} says {value:.2g}, on average {usual:.2g}"
        if one.tokens > EXTREME * self.tokens:
            yield f"long: {one.tokens} tokens, the median is {self.tokens:g}"
        if EXTREME * one.tokens < self.tokens:
            yield f"short: {one.tokens} tokens, the median is {self.tokens:g}"
        if (repeats := repetition.check(one.text, None, {})).state == "refuted":
            yield f"repeats itself: {repeats.reason}"
        if self.thinks and not split_thinking(one.text).thinking:
            yield "no reasoning, where most have some"


def curve(rollouts: Sequence[StoredRollout]) -> list[dict[str, Any]]:
    """Means by batch; of long runs, by several neighbouring batches at a time."""
    batches = sorted({one.batch for one in rollouts})
    width = -(-len(batches) // CURVE_LINES)
    line_of = {batch: place // width for place, batch in enumerate(batches)}
    lines: dict[int, list[StoredRollout]] = {}
    for one in rollouts:
        lines.setdefault(line_of[one.batch], []).append(one)
    names = sorted({name for one in rollouts for name in one.watched})
    return [
        {
            "first": min(one.batch for one in its),
            "last": max(one.batch for one in its),
            "rollouts": len(its),
            "reward": _mean([_paid(one) for one in _rewarded(its)]),
            "watched": {name: _mean(_values(its, name)) for name in names},
            "tokens": fmean(one.tokens for one in its),
        }
        for _, its in sorted(lines.items())
    ]


def show_curve(console: Console, lines: Sequence[Mapping[str, Any]]) -> None:
    """A line for each batch, or for several."""
    rows = [
        (_span(one), one["rollouts"], _figure(one["reward"]))
        + tuple(_figure(value) for value in one["watched"].values())
        + (f"{one['tokens']:.0f}",)
        for one in lines
    ]
    watched = [f"watched: {name}" for name in lines[0]["watched"]]
    columns = ["batch", "rollouts", "reward", *watched, "tokens"]
    console.print(table(columns, rows, "means by batch"))


def show(
    console: Console, heading: str, rollouts: Iterable[Shown], questions: Mapping[str, str]
) -> None:
    """Rollouts, each with its prompt, its text, and what was said of it."""
    for place, (one, signs) in enumerate(rollouts, 1):
        console.print()
        reward = f"reward {_figure(one.reward)}, advantage {_figure(one.advantage)}"
        console.print(plain(f"{heading} {place}: {reward}"), style="bold", soft_wrap=True)
        told = f"batch {one.batch}, draw {one.draw}, answer {one.position}, {one.tokens} tokens"
        facts = [f"{told}, ended by {one.finish_reason}, {one.fate.replace('_', ' ')}"]
        facts += [f"policy {one.policy}, rollout {one.id[:16]}, prompt {one.prompt_id[:16]}"]
        facts += [f"suspicious: {sign}" for sign in signs]
        facts += [_term(name, said) for name, said in one.terms.items()]
        facts += [f"watched, {_term(name, said)}" for name, said in one.watched.items()]
        for fact in facts:
            console.print(plain(f"  {fact}"), style="dim", soft_wrap=True)
        console.print(plain(questions.get(one.prompt_id, "")), style="italic", soft_wrap=True)
        console.print(plain(one.text), soft_wrap=True)


def as_json(shown: Shown, questions: Mapping[str, str]) -> dict[str, Any]:
    """The same for scripts."""
    one = shown.rollout
    said = {
        field: {name: value.model_dump() for name, value in getattr(one, field).items()}
        for field in ("terms", "watched")
    }
    more = {"question": questions.get(one.prompt_id, ""), "signs": list(shown.signs)}
    return {**one._asdict(), **said, **more}


def _rewarded(rollouts: Iterable[StoredRollout]) -> list[StoredRollout]:
    return [one for one in rollouts if one.reward is not None]


def _paid(one: StoredRollout) -> float:
    """What one of `_rewarded` earned."""
    return one.reward or 0.0


def _values(rollouts: Iterable[StoredRollout], watched: str) -> list[float]:
    said = (one.watched.get(watched) for one in rollouts)
    return [one.value for one in said if one is not None and one.value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _span(line: Mapping[str, Any]) -> str:
    first, last = line["first"], line["last"]
    return str(first) if first == last else f"{first} to {last}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _term(name: str, said: TermValue) -> str:
    jail = f", in {said.jail}" if said.jail else ""
    return f"{name}: {_figure(said.value)} ({said.state}: {said.reason}{jail})"
