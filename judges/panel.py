"""Several judges as one: their mean, if enough of them have decided, and how far they disagree.

A panel of smaller judges of different families leans less than one large judge (PoLL, arXiv
2404.18796).
"""

import math
import statistics
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from judges.records import ComparisonState, Judgement

_SPOKEN: frozenset[ComparisonState] = frozenset({"win", "loss", "tie", "flip"})


class PanelJudgement(BaseModel):
    """What a panel says of a comparison by one principle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judgement: Judgement
    """As of one judge; `abstain` without a quorum."""
    decided: int
    """Judges that named a better answer."""
    spoke: int
    """Judges whose word is in the mean: those, and the ones that saw no difference or flipped."""
    seats: int
    disagreement: float | None
    """Standard deviation of the judges' p, 0 (of one mind) to 0.5; None if nobody spoke."""
    dissent: float | None
    """Share of the judges that decided against the panel; None where it decided nothing."""


def needed(judges: int, quorum: int | None) -> int:
    """How many of a panel have to decide: the quorum, or more than half of them."""
    return judges // 2 + 1 if quorum is None else quorum


def settle(judgements: Sequence[Judgement], quorum: int | None = None) -> PanelJudgement:
    """Take the judgements of one comparison together: p is the mean of the judges' p.

    A tie or a flip counts as p = 1/2, as it does between principles.

    Args:
        quorum: least number of judges that have decided; more than half of them if not given.
    """
    beliefs = [_belief(one) for one in judgements if one.state in _SPOKEN]
    decided = [one for one in judgements if one.labels]
    panel = (
        _mean(beliefs)
        if beliefs and len(decided) >= needed(len(judgements), quorum)
        else Judgement(state="abstain")
    )
    against = [one for one in decided if one.state != panel.state]
    return PanelJudgement(
        judgement=panel,
        decided=len(decided),
        spoke=len(beliefs),
        seats=len(judgements),
        disagreement=statistics.pstdev(beliefs) if beliefs else None,
        dissent=len(against) / len(decided) if panel.labels else None,
    )


def _mean(beliefs: Sequence[float]) -> Judgement:
    p = statistics.fmean(beliefs)
    if math.isclose(p, 0.5, abs_tol=1e-9):
        return Judgement(state="tie", p=0.5)
    return Judgement(state="win" if p > 0.5 else "loss", p=p)


def _belief(judgement: Judgement) -> float:
    return judgement.p if judgement.labels and judgement.p is not None else 0.5
