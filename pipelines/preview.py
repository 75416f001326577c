"""What an edited constitution would change, before it is committed: on comparisons that are stored.

Exact where verdicts exist; where an edit has reworded a principle, judged on a sample, with an
interval, after saying what that costs.
"""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Literal, NamedTuple, get_args

from judges.aggregate import Preference, prefer
from judges.constitution import Constitution
from judges.judge import Judge
from judges.records import Judgement
from judges.share import Share, share
from pipelines.decided import About, about_by, decided_by, questions
from pipelines.judging import Spoken, by_comparison, judged, missing_calls, settled
from pipelines.seat import Seat
from pipelines.store import calls
from pipelines.store.judgements import Compared
from pipelines.workbench import Workbench

Effect = Literal["same", "flips", "appears", "vanishes"]
"""Of a pair: the other answer is chosen now, there was none before, there is none any more."""

EFFECTS: tuple[Effect, ...] = get_args(Effect)


class Changed(NamedTuple):
    """A comparison whose pair the edit changes."""

    compared: Compared
    effect: Effect
    before: Preference
    after: Preference


class Preview(NamedTuple):
    """What an edit would do."""

    comparisons: int
    exact: bool
    """Whether every stored comparison was looked at; else the figures are of a sample."""
    effects: dict[Effect, int]
    affected: Share | None
    """Share of comparisons whose pair changes, with its interval; None without comparisons."""
    by_principle: dict[str, dict[Effect, int]]
    """Of each principle: how many verdicts are decided otherwise under its new text."""
    changed: list[Changed]


class Plan(NamedTuple):
    """The comparisons that a preview looks at, and what the missing verdicts cost."""

    compared: list[Compared]
    exact: bool
    """Whether these are all; else they are a sample."""
    calls: int
    seconds: float | None
    """From the pace of this judge's stored calls; None if it has none."""


def plan(
    bench: Workbench, judge: Judge, current: Constitution, edited: Constitution, most: int
) -> Plan:
    """What a preview will look at: comparisons that become pairs by what the judge says.

    Args:
        most: judge no more comparisons than these, drawn at random; all are used where every
            verdict is stored.

    Raises:
        ConfigError: there are none.
    """
    every = decided_by(bench, judge, current, edited)
    missing = missing_calls(bench, judge, questions(bench, every, edited))
    if not missing:
        return Plan(every, True, 0, 0.0)
    drawn = Random(0).sample(every, min(most, len(every)))
    wanted = missing_calls(bench, judge, questions(bench, drawn, edited))
    pace = calls.pace(bench.db, judge.weights)
    return Plan(drawn, len(drawn) == len(every), wanted, wanted / pace if pace else None)


async def preview(
    bench: Workbench,
    seat: Seat,
    current: Constitution,
    edited: Constitution,
    planned: Plan,
    min_margin: float,
) -> Preview:
    """Hold both versions against the comparisons; asks the judge for what is missing only.

    Raises:
        EndpointError: something is missing, and the judge cannot be asked.
    """
    compared = planned.compared
    if planned.calls:
        await judged(bench, seat, questions(bench, compared, edited), "judge the edit")
    old, new = (_spoken(bench, seat.judge, compared, one) for one in (current, edited))
    about = about_by(bench, compared)
    effects = [
        Changed(one, _effect(before, after), before, after)
        for one in compared
        for before in [_preference(one, current, old, about, min_margin)]
        for after in [_preference(one, edited, new, about, min_margin)]
    ]
    changed = [one for one in effects if one.effect != "same"]
    counts = Counter(one.effect for one in effects)
    return Preview(
        comparisons=len(compared),
        exact=planned.exact,
        effects={effect: counts[effect] for effect in EFFECTS},
        affected=share([one.effect != "same" for one in effects]) if effects else None,
        by_principle=_by_principle(current, edited, old, new),
        changed=changed,
    )


def _spoken(
    bench: Workbench, judge: Judge, compared: Sequence[Compared], by: Constitution
) -> Spoken:
    asked = questions(bench, compared, by)
    return by_comparison(asked, settled(bench, judge, asked))


def _preference(
    one: Compared, by: Constitution, spoken: Spoken, about: About, min_margin: float
) -> Preference:
    return prefer(about(one, by), spoken.get(one.comparison.id, {}), min_margin)


def _effect(before: Preference, after: Preference) -> Effect:
    was, is_ = (one.state if one.state in ("first", "second") else None for one in (before, after))
    return _change(was, is_)


def _change(was: str | None, is_: str | None) -> Effect:
    """From one decided state, or none, to another."""
    if was == is_:
        return "same"
    if was and is_:
        return "flips"
    return "vanishes" if was else "appears"


def _by_principle(
    current: Constitution, edited: Constitution, old: Spoken, new: Spoken
) -> dict[str, dict[Effect, int]]:
    """How each principle that both versions have speaks now, where it was reworded."""
    texts = {one.id: one.text_id for one in current.principles}
    reworded = [one.id for one in edited.principles if texts.get(one.id) not in (None, one.text_id)]
    return {name: _verdict_effects(name, old, new) for name in reworded}


def _verdict_effects(principle: str, old: Spoken, new: Spoken) -> dict[Effect, int]:
    both = [
        (old[comparison][principle], said[principle])
        for comparison, said in new.items()
        if principle in said and principle in old.get(comparison, {})
    ]
    counts = Counter(_change(_decided(before), _decided(after)) for before, after in both)
    return {effect: counts[effect] for effect in EFFECTS}


def _decided(judgement: Judgement) -> str | None:
    return judgement.state if judgement.labels else None
