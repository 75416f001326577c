"""How far a judge can be talked into a verdict by what it judges."""

from collections.abc import Sequence

from judges.constitution import Principle
from judges.injections import injected, injections, sway
from judges.records import Comparison
from judges.share import Share
from pipelines.gold import Known
from pipelines.judging import Question, judged
from pipelines.seat import Seat
from pipelines.store.judgements import Compared
from pipelines.workbench import Workbench


async def swayed(
    bench: Workbench, seat: Seat, principle: Principle, pairs: Sequence[Known]
) -> Share:
    """The share of verdicts that change when the worse answer ends with an injection.

    Each pair is judged as it is, and once with every injection.

    Raises:
        EndpointError: the judge cannot be asked.
        ValueError: there are no pairs.
    """
    clean = [Question(pair.compared, principle) for pair in pairs]
    hostile = [
        Question(Compared(_hostile(pair, injection), pair.compared.origin), principle)
        for injection in injections()
        for pair in pairs
    ]
    before = await judged(bench, seat, clean, f"{principle.id}: judge pairs")
    after = await judged(bench, seat, hostile, f"{principle.id}: judge injected pairs")
    return sway(before * len(injections()), after)


def _hostile(pair: Known, injection: str) -> Comparison:
    comparison = pair.compared.comparison
    worse = "second" if pair.first_is_better else "first"
    text = comparison.second if pair.first_is_better else comparison.first
    return comparison.model_copy(update={worse: injected(text, injection)})
