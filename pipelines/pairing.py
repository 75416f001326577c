"""Which comparisons are pairs, by everything that is known of them: what pair building goes by, and
what a preview of an edit does.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from judges.aggregate import MOST_SURE, Decision, Preference, prefer
from judges.constitution import Principle
from judges.guidance import guiding
from judges.records import Judgement, VerificationState
from judges.revision import evasive
from pipelines.hygiene.decontaminate import HeldOut
from pipelines.recipe import Pairs
from pipelines.revising import PURPOSE as REVISED
from pipelines.stages import sample
from pipelines.stages.compare import Candidate, SideBySide
from pipelines.store.pairs import Authority, PairRejection
from teachers.records import Sample

_AUTHORITY: tuple[Authority, ...] = ("human", "verifier", "construction", "judge")


class Pair(NamedTuple):
    """A comparison with its better side."""

    compared: SideBySide
    first_is_better: bool
    source: Authority
    p: float
    """Probability that the better side is the better one."""
    decisions: tuple[Decision, ...] = ()
    vetoed_by: str | None = None

    @property
    def sides(self) -> tuple[Candidate, Candidate]:
        """The better one first."""
        both = (self.compared.first, self.compared.second)
        return both if self.first_is_better else both[::-1]

    @property
    def chosen(self) -> Sample:
        return self.sides[0].sample

    @property
    def rejected(self) -> Sample:
        return self.sides[1].sample


class Evidence(NamedTuple):
    """Everything that is known of a round's comparisons, by comparison id and by sample id."""

    people: Mapping[str, Judgement]
    verified: Mapping[str, VerificationState]
    judged: Mapping[str, Mapping[str, Judgement]]


def preference_of(
    rules: Pairs, principles: Sequence[Principle], one: SideBySide, evidence: Evidence
) -> Preference:
    """What the judges say of a comparison by the principles that are about its prompt."""
    said = evidence.judged.get(one.compared.comparison.id, {})
    return prefer(principles, said, rules.min_margin)


def labelled(
    rules: Pairs,
    principles: Sequence[Principle],
    one: SideBySide,
    evidence: Evidence,
    preference: Preference,
) -> Pair | PairRejection:
    """Who is better by the highest authority that has spoken."""
    comparison = one.compared.comparison
    if comparison.identical:
        return PairRejection(comparison.id, "identical")
    person = evidence.people.get(comparison.id)
    if person is not None:
        if not person.labels or person.p is None:
            return PairRejection(comparison.id, "tie", "people see no better one")
        votes = min(max(person.p, 1 - person.p), MOST_SURE)
        return Pair(one, person.state == "win", "human", votes)
    if one.prompt.verifier != "none":
        return _by_verifier(one, evidence, preference)
    if rules.source == "construction":
        return _constructed(principles, one)
    if not principles:
        return PairRejection(comparison.id, "no-principle", "none is about its prompt")
    return _by_judge(rules, one, preference)


def _constructed(principles: Sequence[Principle], one: SideBySide) -> Pair:
    """The better one is that which was asked for under the principle."""
    principle = guiding(principles, one.prompt.id)
    decisions = (Decision(principle=principle.id, p=1.0, pull=0.0),) if principle else ()
    return Pair(one, one.first.purpose == sample.UNDER, "construction", 1.0, decisions)


def _by_verifier(
    one: SideBySide, evidence: Evidence, preference: Preference
) -> Pair | PairRejection:
    name = one.compared.comparison.id
    first, second = (
        evidence.verified.get(side.sample.id, "error") for side in (one.first, one.second)
    )
    if {first, second} != {"verified", "refuted"}:
        return PairRejection(name, "not-told-apart", f"verifier: {first} and {second}")
    better = first == "verified"
    if preference.state == ("second" if better else "first"):
        return PairRejection(name, "vetoed-by-judge", "the judge prefers the wrong answer")
    return Pair(one, better, "verifier", 1.0)


def _by_judge(rules: Pairs, one: SideBySide, preference: Preference) -> Pair | PairRejection:
    name = one.compared.comparison.id
    if preference.state not in ("first", "second") or preference.p is None:
        return PairRejection(name, preference.state, f"margin {preference.margin:.2f}")
    if preference.margin > rules.max_margin:
        return PairRejection(name, "too-clear", f"margin {preference.margin:.2f}")
    better = preference.state == "first"
    sign = 1.0 if better else -1.0
    decisions = tuple(
        made.model_copy(update={"pull": sign * made.pull, "p": made.p if better else 1 - made.p})
        for made in preference.decisions
    )
    p = max(preference.p, 1 - preference.p)
    return Pair(one, better, "judge", p, decisions, preference.vetoed_by)


def best(rules: Pairs, held_out: HeldOut, found: Sequence[Pair]) -> Iterator[Pair | PairRejection]:
    """The best pairs of each prompt that nothing speaks against, in the prompts' order.

    The highest authority's come first, then the clearest.
    """
    taken: Counter[str] = Counter()
    order = {pair.compared.prompt.id: at for at, pair in reversed(list(enumerate(found)))}

    def rank(pair: Pair) -> tuple[int, int, float]:
        return order[pair.compared.prompt.id], _AUTHORITY.index(pair.source), -pair.p

    for pair in sorted(found, key=rank):
        name, prompt = pair.compared.compared.comparison.id, pair.compared.prompt
        if fault := _fault(rules, pair):
            yield PairRejection(name, *fault)
        elif hit := held_out.find(prompt.question, pair.chosen.text):
            yield PairRejection(name, "contaminated", f"{hit.rule} of held-out {hit.item_id}")
        elif taken[prompt.id] == rules.per_prompt:
            yield PairRejection(name, "surplus", "its prompt has enough pairs (per_prompt)")
        else:
            taken[prompt.id] += 1
            yield pair


def _fault(rules: Pairs, pair: Pair) -> tuple[str, str] | None:
    """Why a pair may not be learned from."""
    if pair.chosen.finish_reason == "length" and not rules.allow_cut:
        return "truncated", "the better answer was cut at max_tokens"
    if not pair.chosen.text.strip():
        return "empty", "the better answer says nothing"
    better, worse = pair.sides
    if better.purpose == REVISED and evasive(better.sample.text):
        return "evasive", "the better answer is a revision that only declines"
    if rules.anchor is not None and worse.purpose != sample.ANCHOR:
        return "anchor-preferred", "the older model's answer is the better one"
    lengths = sorted(len(side.text) for side in (pair.chosen, pair.rejected))
    if rules.length_ratio is not None and lengths[1] > rules.length_ratio * lengths[0]:
        return "length-ratio", f"{lengths[1]} against {lengths[0]} characters"
    return None
