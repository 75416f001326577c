"""What an edited constitution would change, before it is committed: on comparisons that are stored.

Exact where verdicts exist; where an edit has reworded a principle, judged on a sample, with an
interval, after saying what that costs.
"""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Literal, NamedTuple

from judges.aggregate import Preference, prefer
from judges.constitution import Constitution, Principle
from judges.judge import Judge
from judges.records import Judgement
from judges.share import Share, share
from pipelines.judging import Question, judged, missing_calls, settled
from pipelines.seat import Seat
from pipelines.store import calls, judgements
from pipelines.store.judgements import Compared
from pipelines.workbench import Workbench
from teachers.errors import ConfigError

Effect = Literal["same", "flips", "appears", "vanishes"]
"""Of a pair: the other answer is chosen now, there was none before, there is none any more."""


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
    by_principle: dict[str, dict[str, int]]
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
    """What a preview will look at: comparisons that the judge has judged in full by `current`.

    Args:
        most: judge no more comparisons than these, drawn at random; all are used where every
            verdict is stored.

    Raises:
        ConfigError: there are none.
    """
    every = _judged_in_full(bench, judge, current)
    missing = missing_calls(bench, judge, _questions(bench, every, edited.principles))
    if not missing:
        return Plan(every, True, 0, 0.0)
    drawn = Random(0).sample(every, min(most, len(every)))
    wanted = missing_calls(bench, judge, _questions(bench, drawn, edited.principles))
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
        questions = _questions(bench, compared, edited.principles)
        await judged(bench, seat, questions, "judge the edit")
    old = _spoken(bench, seat.judge, compared, current)
    new = _spoken(bench, seat.judge, compared, edited)
    tags = _tags(bench, compared)
    changed = [
        Changed(one, _effect(before, after), before, after)
        for one in compared
        for before in [_preference(one, current, old, tags, min_margin)]
        for after in [_preference(one, edited, new, tags, min_margin)]
    ]
    effects: dict[Effect, int] = {"same": 0, "flips": 0, "appears": 0, "vanishes": 0}
    for one in changed:
        effects[one.effect] += 1
    different = [one.effect != "same" for one in changed]
    return Preview(
        comparisons=len(compared),
        exact=planned.exact,
        effects=effects,
        affected=share(different) if different else None,
        by_principle=_by_principle(current, edited, old, new),
        changed=[one for one in changed if one.effect != "same"],
    )


def _judged_in_full(bench: Workbench, judge: Judge, by: Constitution) -> list[Compared]:
    """Comparisons of rounds that were put to this judge by every principle that is about them.

    Others belong to rounds that went by something else: an edit of this changes nothing there.

    Raises:
        ConfigError: there are none.
    """
    every = judgements.comparisons(bench.db, "round")
    questions = _questions(bench, every, by.principles)
    spoken = zip(questions, settled(bench, judge, questions), strict=True)
    unspoken = {one.compared.comparison.id for one, said in spoken if said.state == "error"}
    found = [one for one in every if one.comparison.id not in unspoken]
    if not questions or not found:
        raise ConfigError(
            f"No stored comparison was judged by the version of {by.name} that was edited.",
            hint="--against names another version, --recipe another judge.",
        )
    return found


Spoken = Mapping[str, Mapping[str, Judgement]]
"""Judgements by comparison id, then by principle id."""


def _spoken(
    bench: Workbench, judge: Judge, compared: Sequence[Compared], by: Constitution
) -> Spoken:
    questions = _questions(bench, compared, by.principles)
    found: dict[str, dict[str, Judgement]] = {}
    for question, judgement in zip(questions, settled(bench, judge, questions), strict=True):
        by_principle = found.setdefault(question.compared.comparison.id, {})
        by_principle[question.principle.id] = judgement
    return found


def _questions(
    bench: Workbench, compared: Sequence[Compared], principles: Sequence[Principle]
) -> list[Question]:
    tags = _tags(bench, compared)
    return [
        Question(one, principle)
        for one in compared
        for principle in principles
        if _covers(principle, one, tags)
    ]


def _covers(principle: Principle, one: Compared, tags: Mapping[str, str]) -> bool:
    question = one.comparison.conversation[-1].content
    return principle.scope.covers(question, [tags.get(one.prompt_id or "", "")])


def _tags(bench: Workbench, compared: Sequence[Compared]) -> dict[str, str]:
    return calls.tasks_of(bench.db, [one.prompt_id for one in compared if one.prompt_id])


def _preference(
    one: Compared, by: Constitution, spoken: Spoken, tags: Mapping[str, str], min_margin: float
) -> Preference:
    principles = [principle for principle in by.principles if _covers(principle, one, tags)]
    return prefer(principles, spoken.get(one.comparison.id, {}), min_margin)


def _effect(before: Preference, after: Preference) -> Effect:
    was, is_ = (one.state in ("first", "second") for one in (before, after))
    if was and is_:
        return "same" if before.state == after.state else "flips"
    return "vanishes" if was else "appears" if is_ else "same"


def _by_principle(
    current: Constitution, edited: Constitution, old: Spoken, new: Spoken
) -> dict[str, dict[str, int]]:
    """How each principle that both versions have speaks now."""
    texts = {one.id: one.text_id for one in current.principles}
    found: dict[str, dict[str, int]] = {}
    for principle in edited.principles:
        if principle.id not in texts or texts[principle.id] == principle.text_id:
            continue
        counts = {"same": 0, "flips": 0, "appears": 0, "vanishes": 0}
        for name, spoken in new.items():
            before = old.get(name, {}).get(principle.id)
            after = spoken.get(principle.id)
            if before is None or after is None:
                continue
            if before.labels and after.labels:
                counts["same" if before.state == after.state else "flips"] += 1
            elif before.labels or after.labels:
                counts["vanishes" if before.labels else "appears"] += 1
            else:
                counts["same"] += 1
        found[principle.id] = counts
    return found
