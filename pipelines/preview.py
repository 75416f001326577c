"""What an edited constitution would change, before it is committed: on comparisons that are stored.

Exact where verdicts exist; where an edit has reworded a principle, judged on a sample of the
prompts, with an interval, after saying what that costs.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import Literal, NamedTuple, get_args

from judges.aggregate import Preference
from judges.constitution import Constitution, about
from judges.constitution_diff import Kind, diff
from judges.judge import Judge
from judges.records import Judgement
from judges.share import Share, share
from pipelines.decided import Contest, Terms, contests, questions, unspoken
from pipelines.freeze import held_out_of
from pipelines.judging import Question, Spoken, by_comparison, missing_calls
from pipelines.jury import asked_of, settled_by
from pipelines.pairing import Evidence, Pair, best, labelled, preference_of
from pipelines.seat import Seat
from pipelines.stages.compare import SideBySide
from pipelines.store import calls
from pipelines.store.judgements import Compared
from pipelines.store.pairs import PairRejection
from pipelines.workbench import Workbench

Effect = Literal["same", "flips", "appears", "vanishes"]
"""Of a pair: the other answer is chosen now, there was none before, there is none any more."""

EFFECTS: tuple[Effect, ...] = get_args(Effect)
_DECIDES: tuple[Kind, ...] = ("added", "removed", "reworded", "reweighted", "rescoped", "veto")
"""Kinds of edits that can change what is preferred."""


class Shift(NamedTuple):
    """How an edited principle pulls at a comparison: log-odds, positive for the first answer."""

    principle: str
    before: float
    after: float

    @property
    def by(self) -> float:
        return self.after - self.before


class Changed(NamedTuple):
    """A comparison whose pair the edit changes."""

    compared: Compared
    effect: Effect
    before: Preference
    after: Preference
    by: tuple[Shift, ...] = ()
    """The principles of the edit that decide it, the strongest first."""
    reason: str = ""
    """Why it was no pair or is none, as pair building would record it."""


class Touched(NamedTuple):
    """What becomes of the comparisons that an edited principle is about."""

    edits: tuple[Kind, ...]
    pairs: dict[Effect, int]
    """Pairs that it changes, alone or with others; the rest are the same."""
    affected: Share | None
    """Share of those prompts of which it changes a pair; None if it is about none."""
    verdicts: dict[Effect, int] | None
    """Reworded: how many verdicts are decided otherwise under the new text."""


class Preview(NamedTuple):
    """What an edit would do."""

    comparisons: int
    exact: bool
    """Whether every stored comparison was looked at; else the figures are of a sample."""
    effects: dict[Effect, int]
    affected: Share | None
    """Share of prompts whose pairs change, with its interval; None without prompts."""
    by_principle: dict[str, Touched]
    """Of each principle that was edited."""
    changed: list[Changed]


class Plan(NamedTuple):
    """The comparisons that a preview looks at, and what the missing verdicts cost."""

    contests: list[Contest]
    evidence: Evidence
    exact: bool
    """Whether these are all; else they are a sample."""
    missing: list[Question]
    """What the judges were not asked yet."""
    calls: int
    seconds: float | None
    """From the pace of these judges' stored calls; None if one of them has none."""


def plan(
    bench: Workbench, terms: Terms, current: Constitution, edited: Constitution, most: int
) -> Plan:
    """What a preview will look at: comparisons that become pairs by what the judges say.

    Args:
        most: judge no more comparisons than these, of whole prompts drawn at random; all are used
            where every verdict is stored.

    Raises:
        ConfigError: there are none.
    """
    every, evidence = contests(bench, terms, current, edited)
    new = _new_questions(every, current, edited)
    if not any(missing_calls(bench, judge, new) for judge in terms.judges):
        return Plan(every, evidence, True, [], 0, 0.0)
    drawn = _drawn(every, most)
    new = _new_questions(drawn, current, edited)
    wanted = {judge: missing_calls(bench, judge, new) for judge in terms.judges}
    seconds = _seconds(bench, wanted)
    exact = len(drawn) == len(every)
    return Plan(drawn, evidence, exact, new, sum(wanted.values()), seconds)


def plan_from_stored(
    bench: Workbench, terms: Terms, current: Constitution, edited: Constitution, most: int
) -> Plan:
    """The same where nobody is to be asked: prompts of which enough judges have said everything.

    `missing`, `calls` and `seconds` are what the others would cost.

    Raises:
        ConfigError: there is no comparison at all that the edit could change.
    """
    every, evidence = contests(bench, terms, current, edited)
    new = _new_questions(every, current, edited)
    lacking = unspoken(bench, terms, new)
    known = [one for one in every if not any(_name(side) in lacking for side in one.open)]
    drawn = _drawn(known, most)
    missing = [one for one in new if one.compared.comparison.id in lacking]
    wanted = {judge: missing_calls(bench, judge, missing) for judge in terms.judges}
    exact = len(drawn) == len(every)
    return Plan(drawn, evidence, exact, missing, sum(wanted.values()), _seconds(bench, wanted))


async def fetch(bench: Workbench, seats: Sequence[Seat], terms: Terms, planned: Plan) -> None:
    """Ask the judges for what is missing.

    Raises:
        EndpointError: they cannot be asked.
    """
    if planned.calls:
        await asked_of(bench, seats, planned.missing, "judge the edit", terms.quorum)


def preview(
    bench: Workbench, terms: Terms, current: Constitution, edited: Constitution, planned: Plan
) -> Preview:
    """Build the pairs by both versions, from what is stored."""
    old, new = (_Version(bench, terms, by, planned) for by in (current, edited))
    edits = _edits(current, edited)
    compared = [(contest, one) for contest in planned.contests for one in contest.open]
    effects = {_name(one): _effect(old, new, one) for _, one in compared}
    changed = [
        _changed(one, effects[_name(one)], old, new, edits)
        for _, one in compared
        if effects[_name(one)] != "same"
    ]
    return Preview(
        comparisons=len(compared),
        exact=planned.exact,
        effects=_counted(list(effects.values())),
        affected=_affected(planned.contests, {one.compared.comparison.id for one in changed}),
        by_principle={
            name: _touched(name, kinds, planned.contests, changed, old, new)
            for name, kinds in edits.items()
        },
        changed=changed,
    )


def _new_questions(
    drawn: Sequence[Contest], current: Constitution, edited: Constitution
) -> list[Question]:
    """What only the edited version asks; what was lost by the current one is lost to both."""
    compared = [one for contest in drawn for one in contest.open]
    asked = {_asks(one) for one in questions(compared, current)}
    return [one for one in questions(compared, edited) if _asks(one) not in asked]


def _asks(one: Question) -> tuple[str, str]:
    return one.compared.comparison.id, one.principle.text_id


def _drawn(every: Sequence[Contest], most: int) -> list[Contest]:
    """Whole prompts, as only all comparisons of one say which of them are its pairs."""
    drawn: list[Contest] = []
    left = most
    for contest in Random(0).sample(every, len(every)):
        left -= len(contest.open)
        if left < 0 and drawn:
            break
        drawn.append(contest)
    return drawn


def _seconds(bench: Workbench, wanted: Mapping[Judge, int]) -> float | None:
    total = 0.0
    for judge, count in wanted.items():
        pace = calls.pace(bench.db, judge.weights)
        if count and not pace:
            return None
        total += count / pace if pace else 0.0
    return total


class _Version:
    """What one version of a constitution makes of the comparisons."""

    def __init__(self, bench: Workbench, terms: Terms, by: Constitution, planned: Plan) -> None:
        self._by, self._rules = by, terms.pairs
        asked = questions([one for contest in planned.contests for one in contest.open], by)
        said = settled_by(bench, terms.judges, asked, terms.quorum)
        self.spoken: Spoken = by_comparison(asked, said)
        self._evidence = planned.evidence._replace(judged=self.spoken)
        self.preferences: dict[str, Preference] = {}
        self.outcomes: dict[str, Pair | PairRejection] = {}
        rounds = {contest.round_id for contest in planned.contests}
        held_out = {name: held_out_of(bench.db, name) for name in rounds}
        for contest in planned.contests:
            found = [self._labelled(one) for one in (*contest.closed, *contest.open)]
            pairs = [one for one in found if isinstance(one, Pair)]
            last = best(self._rules, held_out[contest.round_id], pairs)
            for outcome in (*found, *last):
                self.outcomes[_outcome_name(outcome)] = outcome

    def about(self, one: SideBySide) -> set[str]:
        """The principles that are about a comparison's prompt."""
        return {principle.id for principle in about(self._by.principles, one.prompt)}

    def better(self, one: SideBySide) -> str | None:
        """Which answer is the pair's chosen one; None if there is no pair."""
        outcome = self.outcomes[_name(one)]
        if isinstance(outcome, PairRejection):
            return None
        return "first" if outcome.first_is_better else "second"

    def reason(self, one: SideBySide) -> str:
        """Why a comparison is no pair; empty if it is one."""
        outcome = self.outcomes[_name(one)]
        return outcome.reason if isinstance(outcome, PairRejection) else ""

    def _labelled(self, one: SideBySide) -> Pair | PairRejection:
        principles = about(self._by.principles, one.prompt)
        preference = preference_of(self._rules, principles, one, self._evidence)
        self.preferences[_name(one)] = preference
        return labelled(self._rules, principles, one, self._evidence, preference)


def _name(one: SideBySide) -> str:
    return one.compared.comparison.id


def _outcome_name(outcome: Pair | PairRejection) -> str:
    return _name(outcome.compared) if isinstance(outcome, Pair) else outcome.comparison_id


def _effect(old: _Version, new: _Version, one: SideBySide) -> Effect:
    return _change(old.better(one), new.better(one))


def _change(was: str | None, is_: str | None) -> Effect:
    """From one decided state, or none, to another."""
    if was == is_:
        return "same"
    if was and is_:
        return "flips"
    return "vanishes" if was else "appears"


def _counted(effects: Sequence[Effect]) -> dict[Effect, int]:
    counts = Counter(effects)
    return {effect: counts[effect] for effect in EFFECTS}


def _edits(current: Constitution, edited: Constitution) -> dict[str, tuple[Kind, ...]]:
    """What was done to each principle that was edited."""
    edits: dict[str, tuple[Kind, ...]] = {}
    for change in diff(current, edited):
        if change.kind in _DECIDES:
            edits[change.principle] = (*edits.get(change.principle, ()), change.kind)
    return edits


def _changed(
    one: SideBySide,
    effect: Effect,
    old: _Version,
    new: _Version,
    edits: Mapping[str, tuple[Kind, ...]],
) -> Changed:
    before, after = old.preferences[_name(one)], new.preferences[_name(one)]
    about = [name for name in edits if name in old.about(one) | new.about(one)]
    by = _deciding(about, before, after)
    return Changed(one.compared, effect, before, after, by, old.reason(one) or new.reason(one))


def _deciding(about: Sequence[str], before: Preference, after: Preference) -> tuple[Shift, ...]:
    """The edited principles whose pull moved the way that the preference went.

    Where none did, as when another pair takes the prompt's place: those that moved at all, or all
    that are about it.
    """
    was, is_ = ({one.principle: one.pull for one in side.decisions} for side in (before, after))
    shifts = [Shift(name, was.get(name, 0.0), is_.get(name, 0.0)) for name in about]
    way = sum(is_.values()) - sum(was.values())
    along = [one for one in shifts if one.by * way > 0]
    found = along or [one for one in shifts if one.by] or shifts
    return tuple(sorted(found, key=lambda one: -abs(one.by)))


def _touched(
    name: str,
    edits: tuple[Kind, ...],
    drawn: Sequence[Contest],
    changed: Sequence[Changed],
    old: _Version,
    new: _Version,
) -> Touched:
    effects = {
        one.compared.comparison.id: one.effect
        for one in changed
        if name in (shift.principle for shift in one.by)
    }
    # A scope is of the prompt: what holds for one of its comparisons holds for all.
    about = [one for one in drawn if name in old.about(one.open[0]) | new.about(one.open[0])]
    names = [_name(one) for contest in about for one in contest.open]
    return Touched(
        edits,
        _counted([effects.get(comparison, "same") for comparison in names]),
        _affected(about, effects),
        _verdict_effects(name, old.spoken, new.spoken) if "reworded" in edits else None,
    )


def _affected(drawn: Sequence[Contest], changed: Collection[str]) -> Share | None:
    hit = [any(_name(one) in changed for one in contest.open) for contest in drawn]
    return share(hit) if hit else None


def _verdict_effects(principle: str, old: Spoken, new: Spoken) -> dict[Effect, int]:
    both = [
        (old[comparison][principle], said[principle])
        for comparison, said in new.items()
        if principle in said and principle in old.get(comparison, {})
    ]
    return _counted([_change(_decided(before), _decided(after)) for before, after in both])


def _decided(judgement: Judgement) -> str | None:
    return judgement.state if judgement.labels else None
