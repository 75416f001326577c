"""Which revisions are better than the first answer: an independent judge says, never the reviser.

A critic that praises its own revision is no evidence. A revision that only declines is never
chosen, whatever a judge says of it.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from judges.aggregate import Preference, prefer
from judges.certify import Criteria
from judges.constitution import Constitution, Principle
from judges.critique import in_scope
from judges.records import Comparison
from judges.revision import evasive
from pipelines.certification import require
from pipelines.judging import Question, judged
from pipelines.kinship import warn_of_kin
from pipelines.recipe import Place
from pipelines.revising import Draft, Revised
from pipelines.seat import Seat
from pipelines.store.judgements import Compared
from pipelines.workbench import Workbench

State = Literal["preferred", "not_preferred", "tie", "undecided", "evasive", "unchanged"]
"""`preferred`: the judge finds the last revision better than the first answer."""


class Choice(NamedTuple):
    """What became of an answer's revisions."""

    revised: Revised
    state: State
    preference: Preference | None = None
    """The first side is the revision."""


async def chosen(
    bench: Workbench,
    seat: Seat,
    reviser: Place,
    revised: Sequence[Revised],
    constitution: Constitution,
    criteria: Criteria,
) -> list[Revised]:
    """The revisions that are better than the first answer, says a judge that may label.

    Raises:
        Uncertified: the judge has not passed a principle that some request is in scope of.
        EndpointError: it cannot be asked.
    """
    needed = {
        principle.id: principle
        for one in revised
        if one.changed
        for principle in _scope(constitution, one.draft)
    }
    await require(bench, seat, list(needed.values()), criteria)
    choices = await weighed(bench, seat, reviser, revised, constitution)
    return [choice.revised for choice in choices if choice.state == "preferred"]


async def weighed(
    bench: Workbench,
    seat: Seat,
    reviser: Place,
    revised: Sequence[Revised],
    constitution: Constitution,
) -> list[Choice]:
    """Compare each last revision with the first answer by all principles in scope.

    Any judge may measure; for data there is `chosen`.

    Raises:
        EndpointError: the judge cannot be asked.
    """
    warn_of_kin(bench, [seat], reviser)
    asked = [
        Question(_compared(one), principle)
        for one in revised
        if _unfit(one) is None
        for principle in _scope(constitution, one.draft)
    ]
    said = zip(asked, await judged(bench, seat, asked, "judge revisions"), strict=True)
    verdicts = {
        (question.compared.comparison.id, question.principle.id): judgement
        for question, judgement in said
    }

    def choice(one: Revised) -> Choice:
        if unfit := _unfit(one):
            return unfit
        principles, comparison = _scope(constitution, one.draft), _compared(one).comparison
        preference = prefer(
            principles, {each.id: verdicts[comparison.id, each.id] for each in principles}
        )
        return Choice(one, _STATES[preference.state], preference)

    choices = [choice(one) for one in revised]
    counts = Counter(one.state for one in choices)
    bench.progress.say(
        "revisions: " + ", ".join(f"{number} {state}" for state, number in counts.most_common())
    )
    return choices


# By which side a preference is for: the revision is the first one.
_STATES: dict[str, State] = {
    "first": "preferred",
    "second": "not_preferred",
    "tie": "tie",
    "undecided": "undecided",
}


def _unfit(one: Revised) -> Choice | None:
    """Why there is nothing to ask a judge about."""
    if not one.changed:
        return Choice(one, "unchanged")
    return Choice(one, "evasive") if evasive(one.text) else None


def _scope(constitution: Constitution, draft: Draft) -> list[Principle]:
    return in_scope(constitution.principles, draft.answer.conversation, draft.tags)


def _compared(one: Revised) -> Compared:
    first = one.draft
    comparison = Comparison(
        conversation=first.answer.conversation, first=one.text, second=first.answer.text
    )
    return Compared(comparison, "round", first.prompt_id, (None, first.sample_id))
