"""What people say of two answers, and what their labels say of them: habits, bias, agreement."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from statistics import median
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from judges.agreement import Agreement, agreement
from judges.records import Judgement, Order
from teachers.records import content_id

Choice = Literal["first", "second", "tie", "skip", "both_bad"]
"""Of a comparison's answers, whichever was shown as A. A skip says nothing of them."""


class Label(BaseModel):
    """One person's word on a comparison, by one principle or overall."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    comparison_id: str
    annotator: str
    principle_id: str | None = None
    """Of the principle's text; None: which answer is better, all things considered."""
    choice: Choice
    shown: Order
    """Which answer was shown as A."""
    seconds: float = Field(ge=0)
    """From seeing the answers to choosing."""
    note: str = ""
    ranking_id: str | None = None
    """Of the ranking that it was part of."""

    @property
    def id(self) -> str:
        """Names the question, not the choice: who changes their mind has one label all the same."""
        return content_id("label", [self.comparison_id, self.annotator, self.principle_id])

    @property
    def chose_shown_first(self) -> bool | None:
        """Whether the answer shown as A was preferred; None if neither was."""
        if self.choice not in ("first", "second"):
            return None
        return (self.choice == "first") == (self.shown == "forward")


class Ranked(NamedTuple):
    """Two answers of a ranking; `choice` is of the one named first here."""

    first: str
    second: str
    choice: Choice


def pairs_of_ranking(ranked: Sequence[Sequence[str]]) -> list[Ranked]:
    """Every pair of a ranking, the best group first; within a group all are tied.

    Raises:
        ValueError: an answer stands there twice.
    """
    places = [(name, place) for place, group in enumerate(ranked) for name in group]
    if len({name for name, _ in places}) < len(places):
        raise ValueError("an answer is ranked twice")
    return [
        Ranked(one, other, "tie" if place == lower else "first")
        for (one, place), (other, lower) in combinations(places, 2)
    ]


def peoples_word(choices: Iterable[Choice]) -> Judgement | None:
    """What most people say of a comparison, a tie where no more than half agree; None if all skip.

    p is the share of votes for the first answer; a tie and two bad answers are half a vote each.
    """
    votes = Counter(choice for choice in choices if choice != "skip")
    n = votes.total()
    if not n:
        return None
    p = (votes["first"] + (votes["tie"] + votes["both_bad"]) / 2) / n
    if votes["first"] * 2 > n:
        return Judgement(state="win", p=p)
    return Judgement(state="loss" if votes["second"] * 2 > n else "tie", p=p)


class Labelled(NamedTuple):
    """A label and how long the two answers are, in characters."""

    label: Label
    first_length: int
    second_length: int

    @property
    def chose_longer(self) -> bool | None:
        """Whether the longer answer was preferred; None if neither was, or none is longer."""
        if self.label.choice not in ("first", "second") or self.first_length == self.second_length:
            return None
        return (self.label.choice == "first") == (self.first_length > self.second_length)


class Annotator(NamedTuple):
    """A person's labels in figures. An honest coin has a first slot of 0.5."""

    name: str
    labels: int
    skipped: int
    first_slot: float | None
    """Share of choices for the answer shown as A,"""
    picks_longer: float | None
    """and for the longer one."""
    seconds: float
    """Median time for a label."""
    against: dict[str, Agreement]
    """With each other annotator, on what both have labelled."""


def annotators(labelled: Sequence[Labelled]) -> list[Annotator]:
    """Figures of everybody who has labelled, by name."""
    of: dict[str, list[Labelled]] = {}
    for one in labelled:
        of.setdefault(one.label.annotator, []).append(one)
    said = {name: _said(mine) for name, mine in of.items()}
    return [_figures(name, of[name], said) for name in sorted(of)]


def _figures(
    name: str, mine: Sequence[Labelled], said: dict[str, dict[tuple[str, str | None], str]]
) -> Annotator:
    together = {
        other: [(word, theirs[thing]) for thing, word in said[name].items() if thing in theirs]
        for other, theirs in sorted(said.items())
        if other != name
    }
    return Annotator(
        name,
        len(mine),
        sum(one.label.choice == "skip" for one in mine),
        _share(one.label.chose_shown_first for one in mine),
        _share(one.chose_longer for one in mine),
        median(one.label.seconds for one in mine),
        {other: agreement(named) for other, named in together.items() if named},
    )


def _said(mine: Sequence[Labelled]) -> dict[tuple[str, str | None], str]:
    """What was said of each comparison by each principle; two bad answers are no preference."""
    return {
        (label.comparison_id, label.principle_id): "tie"
        if label.choice == "both_bad"
        else label.choice
        for label, _, _ in mine
        if label.choice != "skip"
    }


def _share(outcomes: Iterable[bool | None]) -> float | None:
    decided = [one for one in outcomes if one is not None]
    return sum(decided) / len(decided) if decided else None
