"""The judges of a round: each is certified, then all are asked; several of them are a panel."""

from collections.abc import Sequence
from typing import NamedTuple

from judges.certify import Certificate
from judges.judge import Judge
from judges.records import Judgement
from pipelines.certification import require
from pipelines.context import Context
from pipelines.judging import Question, judged, settled
from pipelines.kinship import warn_of_kin
from pipelines.panel import heard, paneled
from pipelines.recipe import Place
from pipelines.seat import Seat, seated
from pipelines.workbench import Workbench


class Juror(NamedTuple):
    """A judge that may label."""

    seat: Seat
    certificates: dict[str, Certificate]
    """By principle."""

    @property
    def figures(self) -> dict[str, str]:
        return {name: one.figures for name, one in self.certificates.items()}


async def sworn_in(context: Context) -> list[Juror]:
    """The recipe's judges, with a warning of those that are kin of whom they judge.

    One after the other: each may have a model server of its own.

    Raises:
        Uncertified: one has not passed a principle of the recipe.
        EndpointError: one cannot be asked, and has not been measured before.
    """
    found = []
    for section in context.recipe.judges:
        seat = await seated(context, section)
        for model in _whose_answers(context):
            warn_of_kin(context, [seat], model)
        certificates = await require(context, seat, context.deciding(), section.certify)
        found.append(Juror(seat, certificates))
    return found


async def judged_by(
    context: Context, jurors: Sequence[Juror], questions: Sequence[Question], what: str
) -> list[Judgement]:
    """The judgement of every question, in order: the one judge's, or the panel's.

    Raises:
        EndpointError: no judge can be asked.
    """
    seats = [one.seat for one in jurors]
    return await asked_of(context, seats, questions, what, context.recipe.quorum)


async def asked_of(
    bench: Workbench,
    seats: Sequence[Seat],
    questions: Sequence[Question],
    what: str,
    quorum: int | None,
) -> list[Judgement]:
    """The same of judges that need not be certified: none of it labels anything."""
    if len(seats) == 1:
        return await judged(bench, seats[0], questions, what)
    found = await paneled(bench, seats, questions, what, quorum=quorum)
    return [one.judgement for one in found]


def settled_by(
    bench: Workbench, judges: Sequence[Judge], questions: Sequence[Question], quorum: int | None
) -> list[Judgement]:
    """The same from what is stored: nobody is asked."""
    if len(judges) == 1:
        return settled(bench, judges[0], questions)
    return [one.judgement for one in heard(bench, judges, questions, quorum)]


def _whose_answers(context: Context) -> list[Place]:
    """The student, and who revises answers where that is another."""
    recipe = context.recipe
    student = Place(weights=recipe.student.weights)
    if recipe.pairs.revisions and recipe.reviser.weights != student.weights:
        return [student, recipe.reviser]
    return [student]
