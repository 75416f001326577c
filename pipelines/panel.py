"""A panel of judges: each is asked everything, one after the other, and then they are one."""

from collections.abc import Sequence

from judges.panel import PanelJudgement, settle
from judges.records import Judgement
from pipelines.judging import Question, judged
from pipelines.kinship import warn_of_kin
from pipelines.recipe import Place
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
    model: Place | None = None,
    quorum: int | None = None,
) -> list[PanelJudgement]:
    """The panel's judgement of every question, in order; stored with how far the judges disagree.

    A judge that cannot be asked leaves its seat empty, and says so: the quorum decides whether the
    others are enough.

    Args:
        model: whose answers are judged, where that is known: judges of its family are named.
        quorum: least number of judges that have decided; more than half of them if not given.

    Raises:
        ConfigError: there is no judge, or the quorum is larger than the panel.
        EndpointError: no judge can be asked.
    """
    if not seats or (quorum or 0) > len(seats):
        raise ConfigError(f"A panel of {len(seats)} judges cannot reach its quorum.")
    if model is not None:
        warn_of_kin(bench, seats, model)
    rows = zip(*await _all_said(bench, seats, questions, what), strict=True)
    found = [settle(one, quorum) for one in rows]
    judges = [seat.judge.id for seat in seats]
    with transaction(bench.db) as db:
        add_panel_judgements(
            db,
            [
                PanelRow(one.compared.comparison.id, one.principle.text_id, judges, said)
                for one, said in zip(questions, found, strict=True)
            ],
        )
    return found


async def _all_said(
    bench: Workbench, seats: Sequence[Seat], questions: Sequence[Question], what: str
) -> list[list[Judgement]]:
    """What each judge says of each question."""
    said, lost = [], []
    for seat in seats:
        try:
            said.append(await judged(bench, seat, questions, f"{what}: {seat.judge.name}"))
        except EndpointError as away:
            bench.progress.say(f"{seat.judge.name} has no say: {away.message}")
            lost.append(away)
            said.append([Judgement(state="error")] * len(questions))
    if len(lost) == len(seats):
        raise lost[-1]
    return said
