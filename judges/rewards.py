"""How findings about an answer become one reward. Pure: nothing here asks, reads or writes.

A recipe names terms; each gives a value from 0 to 1, and the total is their weighted sum. What is
not decided never becomes a number: a sample without a value for some term has no total, and its
group goes on without it. Term values are kept, so totals under other weights need no new sample.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from judges.records import Parser, Verification, VerificationState
from teachers.errors import ConfigError

JUDGE, EFFICIENCY, OWN, REWARD_MODEL = "judge", "efficiency", "own", "reward_model"
Unit = Literal["lines", "tokens"]


class RewardTerm(BaseModel):
    """One part of a reward."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """What the term is called in reports; each has another name."""
    verifier: str
    """A verifier's name or `module:function`; `own` for each prompt's own; `judge` for a certified
    judge's score; `reward_model` for an appraised reward model's; or `efficiency`: a right answer
    that is shorter than its group's right ones earns more."""
    # Not below 0: a gate that is missed makes 0, and that has to be the least there is.
    weight: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    """What the term's value (0 to 1) is multiplied by; 0 for a gate that is nothing but a gate."""
    gate: bool = False
    """Nothing counts unless this term passes: if it is refuted, the whole reward is 0."""
    parser: Parser = "strict"
    """How the final answer is found in the text."""
    entry: dict[str, Any] = {}
    """The verifier's parameters, put over the prompt's own. `judge` and `reward_model`: `at_least`,
    the score that passes (0.5). `efficiency`: `of`, the term that says what is right (the first
    verifier that is no mere gate), and `unit`, `lines` or `tokens`."""

    @property
    def verified(self) -> bool:
        """Whether a verifier gives its value."""
        return self.verifier not in (JUDGE, EFFICIENCY, REWARD_MODEL)

    def entry_over(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters for one prompt."""
        return {**own, **self.entry}


class TermValue(BaseModel):
    """What one term says of one sample."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float | None
    """0 to 1; none if nothing was decided."""
    state: VerificationState
    reason: str
    jail: str | None = None
    """The kind of jail that the sample's code ran in, if the term is about code."""


class Reward(BaseModel):
    """One sample's reward, and what it is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    total: float | None
    """None: the sample is left out of its group."""
    terms: dict[str, TermValue]


class Finding(NamedTuple):
    """What is known of one sample of a group."""

    text: str
    tokens: int
    said: Mapping[str, Verification | float | None]
    """By term: what its verifier found, or a score (0 to 1; None if none was given)."""


def beats_the_usual(score: float) -> float:
    """A reward model's normalised score as a term's value: 1 / (1 + exp(-score)).

    By Bradley and Terry's model that is how probably the answer beats a usual one, at the scale on
    which usual answers have a deviation of 1. It is bounded, and grows ever more slowly: the
    farther a score lies from what the model was trained on the less it means, and a policy that is
    paid for it without bound goes just there (arXiv 2502.18770).
    """
    low = math.exp(-abs(score))
    return (1.0 if score >= 0 else low) / (1.0 + low)


def check_terms(terms: Sequence[RewardTerm]) -> None:
    """See whether terms make a reward together.

    Raises:
        ConfigError: there are none, two have one name, or an efficiency has nothing to go by.
    """
    if not terms:
        raise ConfigError("A reward needs at least one term.")
    names = [term.name for term in terms]
    if len(set(names)) < len(names):
        raise ConfigError("Two terms of a reward have the same name.", hint=", ".join(names))
    for term in terms:
        if term.verifier == EFFICIENCY:
            _right_by(term, terms)
            _unit(term)


def main_term(terms: Sequence[RewardTerm]) -> str:
    """The name of the term that says which answers are right: the first verifier's that is no mere
    gate, or else the first of all."""
    return next((term for term in terms if term.verified and term.weight), terms[0]).name


def rewarded(terms: Sequence[RewardTerm], group: Sequence[Finding]) -> list[Reward]:
    """The rewards of one prompt's samples, in order.

    Raises:
        ConfigError: the terms make no reward.
        KeyError: a finding lacks a term.
    """
    check_terms(terms)
    valued = [
        {
            term.name: _value(term, one.said[term.name])
            for term in terms
            if term.verifier != EFFICIENCY
        }
        for one in group
    ]
    for term in terms:
        if term.verifier == EFFICIENCY:
            right = [values[_right_by(term, terms)] for values in valued]
            costs = [_cost(one, _unit(term)) for one in group]
            for values, value in zip(valued, efficiency(right, costs), strict=True):
                values[term.name] = value
    return [Reward(total=_total(terms, values), terms=values) for values in valued]


def recombined(terms: Sequence[RewardTerm], stored: Sequence[Reward]) -> list[Reward]:
    """The same values under other weights and gates; nothing is sampled or verified again.

    Raises:
        ConfigError: a term's value was never stored.
    """
    for term in terms:
        if any(term.name not in reward.terms for reward in stored):
            raise ConfigError(
                f"No value of {term.name!r} is stored for every sample.",
                hint="Only weights and gates can change without verifying again.",
            )
    return [Reward(total=_total(terms, one.terms), terms=one.terms) for one in stored]


def efficiency(right: Sequence[TermValue], costs: Sequence[float]) -> list[TermValue]:
    """How short the right answers are among the right ones of their group.

    1 - sigmoid((cost - mean) / deviation) over the right answers, 0 for wrong ones: Arora and
    Zanette 2025 (arXiv:2502.04463), their length penalty by itself. So it lies between 0 and 1, is
    0.5 at the mean, and no wrong answer gains by being short.

    Args:
        right: what is known of each answer's rightness.
        costs: its lines or tokens.
    """
    of_right = [cost for one, cost in zip(right, costs, strict=True) if one.state == "verified"]
    mean = fmean(of_right) if of_right else 0.0
    # A group of equals has no deviation, and nobody in it is shorter.
    deviation = (pstdev(of_right) if of_right else 0.0) or 1.0
    return [
        _efficient(one, (cost - mean) / deviation) for one, cost in zip(right, costs, strict=True)
    ]


def _efficient(right: TermValue, deviations: float) -> TermValue:
    if right.state == "refuted":
        return TermValue(value=0.0, state="refuted", reason="not right")
    if right.state != "verified":
        return TermValue(value=None, state=right.state, reason=f"not known: {right.reason}")
    reason = f"{deviations:+.2f} deviations from the mean of the right ones"
    return TermValue(value=1 / (1 + math.exp(deviations)), state="verified", reason=reason)


def _value(term: RewardTerm, said: Verification | float | None) -> TermValue:
    if isinstance(said, Verification):
        value = None
        if said.decided:
            value = said.score if said.score is not None else float(said.state == "verified")
        return TermValue(value=value, state=said.state, reason=said.reason, jail=said.jail)
    if said is None:
        return TermValue(value=None, state="error", reason="no score was given")
    if not 0.0 <= said <= 1.0:
        raise ValueError(f"{term.name}: a score of {said} is not between 0 and 1")
    passed = said >= float(term.entry.get("at_least", 0.5))
    return TermValue(
        value=said, state="verified" if passed else "refuted", reason=f"score {said:.2f}"
    )


def _total(terms: Sequence[RewardTerm], values: Mapping[str, TermValue]) -> float | None:
    """The weighted sum; 0 behind a missed gate, none if a term is undecided.

    A term that does not apply is left out: what makes it so lies in the prompt (no reference, no
    schema), so it says the same of the whole group and adds nothing to any difference within it.
    A missed gate outweighs an undecided term: an answer without the form that was asked for often
    has no answer to be read either, and dropping it would spare the student the lesson.
    """
    known = [(term, values[term.name]) for term in terms]
    if any(term.gate and one.state == "refuted" for term, one in known):
        return 0.0
    counted = [(term, one.value) for term, one in known if one.state != "not_applicable"]
    if not counted:
        return None
    total = 0.0
    for term, value in counted:
        if value is None:
            return None
        total += term.weight * value
    return total


def _right_by(term: RewardTerm, terms: Sequence[RewardTerm]) -> str:
    """The name of the term that says which answers are right."""
    others = [one.name for one in terms if one.verifier != EFFICIENCY]
    name = term.entry.get("of", main_term(terms))
    if name not in others:
        raise ConfigError(
            f"The term {term.name!r} needs another one that says which answers are right.",
            hint="entry: {of: NAME}, of: " + ", ".join(others),
        )
    return str(name)


def _unit(term: RewardTerm) -> Unit:
    unit = term.entry.get("unit", "lines")
    if unit not in ("lines", "tokens"):
        raise ConfigError(f"The term {term.name!r} counts 'lines' or 'tokens', not {unit!r}.")
    return "tokens" if unit == "tokens" else "lines"


def _cost(one: Finding, unit: Unit) -> float:
    if unit == "tokens":
        return float(one.tokens)
    return float(sum(bool(line.strip()) for line in one.text.splitlines()))
