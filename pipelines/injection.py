"""How far a judge can be talked into a verdict by what it judges."""

from collections.abc import Sequence
from typing import NamedTuple

from judges.constitution import Principle
from judges.injections import Injection, injected, injections, sway
from judges.records import Comparison, Judgement
from judges.share import Share
from pipelines.gold import Known
from pipelines.judging import Question, judged
from pipelines.seat import Seat
from pipelines.store.judgements import Compared
from pipelines.workbench import Workbench


class Target(NamedTuple):
    """A pair whose worse answer gets injections, and what it is judged by."""

    principle: Principle
    pair: Known


async def swayed(bench: Workbench, seat: Seat, targets: Sequence[Target]) -> dict[str, Share]:
    """By kind of injection, the share of verdicts that it changes at the worse answer's end.

    Each pair is judged as it is, and once with every injection.

    Raises:
        EndpointError: the judge cannot be asked.
        ValueError: there are no pairs.
    """
    clean = [Question(pair.compared, principle) for principle, pair in targets]
    before = await judged(bench, seat, clean, "judge pairs")
    tried = [(one, target) for one in injections() for target in targets]
    hostile = [_hostile(target, injection) for injection, target in tried]
    after = await judged(bench, seat, hostile, "judge injected pairs")
    both: dict[str, list[tuple[Judgement, Judgement]]] = {}
    for (injection, _), was, now in zip(tried, before * len(injections()), after, strict=True):
        both.setdefault(injection.kind, []).append((was, now))
    return {
        kind: sway([was for was, _ in found], [now for _, now in found])
        for kind, found in both.items()
    }


def _hostile(target: Target, injection: Injection) -> Question:
    compared = target.pair.compared
    comparison = _injected(compared.comparison, target.pair.first_is_better, injection)
    return Question(Compared(comparison, compared.origin, injected=True), target.principle)


def _injected(comparison: Comparison, first_is_better: bool, injection: Injection) -> Comparison:
    worse = "second" if first_is_better else "first"
    text = comparison.second if first_is_better else comparison.first
    return comparison.model_copy(update={worse: injected(text, injection)})
