"""A panel of judges: each is asked everything, one after the other, and then they are one."""

from collections.abc import Sequence

from judges.judge import Judge
from judges.panel import PanelJudgement, settle
from pipelines.judging import Question, judged, settled
from pipelines.seat import Seat
from pipelines.store.connection import transaction
from pipelines.store.revisions import PanelRow, add_panel_judgements
from pipelines.workbench import Workbench
from teachers.errors import ConfigError, EndpointError


async def paneled(
    bench: Workbench,
    seats: Sequence[Seat],
    questions: Sequence[Question],
    what: str,
    *,
    quorum: int | None = None,
) -> list[PanelJudgement]:
    """The panel's judgement of every question, in order; stored with how far the judges disagree.

    A judge that cannot be asked says nothing more, and that is told: the quorum decides whether
    the others are enough.

    Args:
        quorum: least number of judges that have decided; more than half of them if not given.

    Raises:
        ConfigError: there is no judge, or the quorum is larger than the panel.
        EndpointError: no judge can be asked.
    """
    if not seats or (quorum or 0) > len(seats):
        raise ConfigError(f"A panel of {len(seats)} judges cannot reach its quorum.")
    await _ask_each(bench, seats, questions, what)
    judges = [seat.judge for seat in seats]
    found = heard(bench, judges, questions, quorum)
    names = [judge.id for judge in judges]
    with transaction(bench.db) as db:
        add_panel_judgements(
            db,
            [
                PanelRow(one.compared.comparison.id, one.principle.text_id, names, said)
                for one, said in zip(questions, found, strict=True)
            ],
        )
    return found


def heard(
    bench: Workbench,
    judges: Sequence[Judge],
    questions: Sequence[Question],
    quorum: int | None = None,
) -> list[PanelJudgement]:
    """The panel's judgement of every question as the stored rows have it: nobody is asked."""
    rows = zip(*(settled(bench, judge, questions) for judge in judges), strict=True)
    return [settle(one, quorum) for one in rows]


async def _ask_each(
    bench: Workbench, seats: Sequence[Seat], questions: Sequence[Question], what: str
) -> None:
    """Have each judge judge each question, one judge after the other."""
    lost = []
    for seat in seats:
        try:
            await judged(bench, seat, questions, f"{what}: {seat.judge.name}")
        except EndpointError as away:
            bench.progress.say(f"{seat.judge.name} has no say: {away.message}")
            lost.append(away)
    if len(lost) == len(seats):
        raise lost[-1]
