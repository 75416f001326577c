"""Measuring a judge on pairs whose better answer is known, and refusing one that has not passed."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from judges.certify import Certificate, Criteria, Outcome, certificate
from judges.compare import judgement_id
from judges.constitution import Case, Principle
from judges.judge import Judge
from judges.records import ORDERS
from pipelines.gold import Known, known
from pipelines.judging import Question, judged, settled
from pipelines.seat import Seat
from pipelines.store import judgements
from pipelines.store.connection import transaction
from pipelines.workbench import Workbench
from teachers.errors import ConfigError, Uncertified
from teachers.records import content_id

CASES, CONSTRUCTED = "cases", "constructed"
"""What pairs are called that a judge is held against."""


def case_pair(case: Case) -> Known:
    """A principle's case as a pair."""
    return known(case.messages, case.better, case.worse, "case")._replace(sealed=case.sealed)


async def measure(
    bench: Workbench,
    seat: Seat,
    principle: Principle,
    pairs: Sequence[Known],
    gold: str,
    criteria: Criteria | None = None,
    *,
    store: bool = True,
) -> Certificate:
    """Judge the pairs that the judge was not trained on, and store what came of it.

    Args:
        gold: what the pairs are called: `CASES`, `CONSTRUCTED` or a file's name.
        criteria: what counts as passed; the usual ones if not given.
        store: whether this is a certificate; not so of some of the pairs, to have a first look.

    Raises:
        ConfigError: it was trained on all of them, or there are none.
    """
    unseen = _unseen(bench, seat.judge, principle, pairs)
    questions = [Question(pair.compared, principle) for pair in unseen]
    await judged(bench, seat, questions, f"{principle.id}: judge {gold}")
    found = certificate(_outcomes(bench, seat.judge, principle, unseen))
    if not store:
        return found
    comparisons = [pair.compared.comparison.id for pair in unseen]
    certificate_id = content_id("certificate", [seat.judge.id, principle.text_id, comparisons])
    passed = not found.faults(criteria or Criteria())
    with transaction(bench.db) as db:
        judgements.add_certificate(
            db, certificate_id, seat.judge.id, principle.text_id, gold, passed, found.model_dump()
        )
    return found


async def require(
    bench: Workbench, seat: Seat, principles: Sequence[Principle], criteria: Criteria
) -> dict[str, Certificate]:
    """Certify a judge on every principle's cases.

    A judge of our own that was held against constructed pairs has to have passed those as well:
    they are answers of the kind that it will label, and cases are not.

    Raises:
        Uncertified: it has not passed one of them; the message has the figures.
    """
    found: dict[str, Certificate] = {}
    failed: list[str] = []
    names: set[str] = set()
    for principle in principles:
        cases = [case_pair(case) for case in principle.cases]
        found[principle.id] = await measure(bench, seat, principle, cases, CASES, criteria)
        held = {CASES: found[principle.id]}
        held |= judgements.certificates(bench.db, seat.judge.id, principle.text_id, CONSTRUCTED)
        for gold, one in held.items():
            if faults := one.faults(criteria):
                names.add(principle.id)
                failed.append(f"  {principle.id}, {gold}: {one.figures}: {'; '.join(faults)}")
    if failed:
        raise Uncertified(
            f"The judge {seat.judge.name} may not label with {len(names)} of {len(found)} "
            "principles:\n" + "\n".join(failed),
            hint=ADVICE,
        )
    return found


ADVICE = (
    "A stronger judge (judge.weights or judge.url), a principle that is easier to decide, "
    "labels by construction (pairs.source: construction), or a judge trained for it "
    "(train.objective: judge)."
)


class StoredCases(NamedTuple):
    """What is stored of a judge on a principle's cases."""

    cases: int
    """Those that it was not trained on."""
    judged: int
    """Those of them that all its verdicts are stored of."""
    certificate: Certificate | None
    """Its figures on these; None of none."""


def from_stored(bench: Workbench, judge: Judge, principle: Principle) -> StoredCases:
    """Measure a judge on a principle's cases by what is stored: nobody is asked."""
    seen = judgements.seen(bench.db, judge.weights)
    pairs = [case_pair(case) for case in principle.cases]
    unseen = [pair for pair in pairs if pair.compared.comparison.unordered not in seen]
    questions = [Question(pair.compared, principle) for pair in unseen]
    said = settled(bench, judge, questions)
    heard = [pair for pair, one in zip(unseen, said, strict=True) if one.state != "error"]
    found = certificate(_outcomes(bench, judge, principle, heard)) if heard else None
    return StoredCases(len(unseen), len(heard), found)


def _outcomes(
    bench: Workbench, judge: Judge, principle: Principle, pairs: Sequence[Known]
) -> list[Outcome]:
    questions = [Question(pair.compared, principle) for pair in pairs]
    slots = _slots(bench, judge, principle, pairs)
    return [
        Outcome(pair.compared.comparison, pair.first_is_better, judgement, chose, pair.sealed)
        for pair, judgement, chose in zip(
            pairs, settled(bench, judge, questions), slots, strict=True
        )
    ]


def _slots(
    bench: Workbench, judge: Judge, principle: Principle, pairs: Sequence[Known]
) -> Iterator[tuple[bool, ...]]:
    """For each pair and readable order, whether the answer shown first was preferred."""
    if judge.kind != "compare":
        yield from (() for _ in pairs)
        return
    ids = [
        [judgement_id(judge, pair.compared.comparison, principle, order) for order in ORDERS]
        for pair in pairs
    ]
    found = judgements.readings(bench.db, "judgements", [one for both in ids for one in both])
    for both in ids:
        values = (found[one].value for one in both if one in found)
        yield tuple(value > 0.5 for value in values if value is not None)


def _unseen(
    bench: Workbench, judge: Judge, principle: Principle, pairs: Sequence[Known]
) -> list[Known]:
    seen = judgements.seen(bench.db, judge.weights)
    unseen = [pair for pair in pairs if pair.compared.comparison.unordered not in seen]
    if not unseen:
        raise ConfigError(
            f"There is nothing to measure {judge.name} on for the principle {principle.id!r}.",
            hint="Write cases for it: constitutions/README.md says how."
            if not pairs
            else "It was trained on all of them: mark half of its cases sealed.",
        )
    return unseen
