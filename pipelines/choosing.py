"""Which revisions are better than the first answer: an independent judge says, never the reviser.

A critic that praises its own revision is no evidence. A revision that only declines is never
chosen, whatever a judge says of it.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from judges.aggregate import Preference, prefer
from judges.constitution import Constitution
from judges.records import Comparison
from judges.revision import evasive
from pipelines.judging import Question, by_comparison, judged
from pipelines.kinship import warn_of_kin
from pipelines.recipe import Place
from pipelines.revising import Revised
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


async def weighed(
    bench: Workbench,
    seat: Seat,
    reviser: Place,
    revised: Sequence[Revised],
    constitution: Constitution,
) -> list[Choice]:
    """Compare each last revision with the first answer by all principles in scope.

    Any judge may measure; in rounds (`pairs.revisions`) it has to be certified.

    Raises:
        EndpointError: the judge cannot be asked.
    """
    warn_of_kin(bench, [seat], reviser)
    asked = [
        Question(_compared(one), principle)
        for one in revised
        if _unfit(one) is None
        for principle in one.draft.principles(constitution)
    ]
    spoken = by_comparison(asked, await judged(bench, seat, asked, "judge revisions"))

    def choice(one: Revised) -> Choice:
        if unfit := _unfit(one):
            return unfit
        principles = one.draft.principles(constitution)
        preference = prefer(principles, spoken.get(_compared(one).comparison.id, {}))
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


def _compared(one: Revised) -> Compared:
    first = one.draft
    comparison = Comparison(
        conversation=first.answer.conversation, first=one.text, second=first.answer.text
    )
    return Compared(comparison, "round", first.prompt_id, (None, first.sample_id))
