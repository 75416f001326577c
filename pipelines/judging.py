"""Judging many comparisons, so that no verdict is ever asked for twice.

A verdict belongs to (comparison, principle text, judge, order). What is stored is taken from
there; the rest is asked, each reply is kept, and its reading becomes a row.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from sqlite_utils import Database

from judges import compare, score
from judges.constitution import Principle
from judges.judge import Judge
from judges.records import ORDERS, Answer, Judgement, Order, Reading
from pipelines.ask import Keep, ask
from pipelines.seat import Seat
from pipelines.source import opened
from pipelines.store import calls, judgements
from pipelines.store.calls import Asked
from pipelines.store.connection import transaction
from pipelines.store.judgements import Compared, JudgementRow, ScoreRow, Table
from pipelines.workbench import Workbench
from teachers.records import Call, Sample

PURPOSE = "judge"


class Question(NamedTuple):
    """What a judge is asked: which of two answers is better by one principle."""

    compared: Compared
    principle: Principle


async def judged(
    bench: Workbench, seat: Seat, questions: Sequence[Question], what: str
) -> list[Judgement]:
    """The judgement of every question, in order. A judge without a seat to ask is not started.

    Raises:
        EndpointError: the judge cannot be asked.
    """
    judge = seat.judge
    with transaction(bench.db) as db:
        judgements.add_judge(db, judge, seat.place.model_dump_json())
        judgements.add_principles(db, (one.principle for one in questions))
        judgements.add_comparisons(db, (one.compared for one in questions))
    asked = [one for one in questions if not one.compared.comparison.identical]
    units = list(_units(judge, asked))
    await _ask_missing(bench, seat, units, what)
    return settled(bench, judge, questions)


def settled(bench: Workbench, judge: Judge, questions: Sequence[Question]) -> list[Judgement]:
    """What the stored rows say of every question; `error` where there are none."""
    ids = [verdict for one in questions for verdict in _verdict_ids(judge, one)]
    found = judgements.readings(bench.db, _table(judge), list(dict.fromkeys(ids)))
    return [_settle(judge, one, found) for one in questions]


def missing_calls(bench: Workbench, judge: Judge, questions: Iterable[Question]) -> int:
    """How many verdicts would have to be asked for; a rationale counts as one more call each."""
    asked = [one for one in questions if not one.compared.comparison.identical]
    ids = list(dict.fromkeys(verdict for one in asked for verdict in _verdict_ids(judge, one)))
    missing = len(ids) - len(judgements.readings(bench.db, _table(judge), ids))
    return missing * (2 if judge.reason else 1)


Spoken = dict[str, dict[str, Judgement]]
"""Judgements by comparison id, then by principle id."""


def by_comparison(questions: Sequence[Question], found: Sequence[Judgement]) -> Spoken:
    """What was said, ready to be held against one another: `found` as the questions are ordered."""
    spoken: Spoken = {}
    for (compared, principle), judgement in zip(questions, found, strict=True):
        spoken.setdefault(compared.comparison.id, {})[principle.id] = judgement
    return spoken


class _Unit(NamedTuple):
    """One verdict: its id, the calls that make it, and the row that it becomes."""

    id: str
    about: str
    call: Callable[[str | None], Call]
    """Given the rationale, where the judge gives one."""
    rationale: Callable[[], Call]
    row: Callable[[Reading, str], JudgementRow | ScoreRow]


def _units(judge: Judge, questions: Iterable[Question]) -> Iterator[_Unit]:
    if judge.kind == "compare":
        for compared, principle in questions:
            for order in ORDERS:
                yield _comparing(judge, compared, principle, order)
        return
    seen: set[str] = set()
    for compared, principle in questions:
        for answer, sample_id in _answers(compared):
            unit = _scoring(judge, answer, sample_id, principle, compared.prompt_id)
            if unit.id not in seen:
                seen.add(unit.id)
                yield unit


def _comparing(judge: Judge, compared: Compared, principle: Principle, order: Order) -> _Unit:
    comparison = compared.comparison
    verdict = compare.judgement_id(judge, comparison, principle, order)
    names = (verdict, comparison.id, principle.text_id, judge.id, order)
    return _Unit(
        verdict,
        compared.prompt_id or comparison.id,
        lambda said: compare.compare_call(judge, comparison, principle, order, said),
        lambda: compare.rationale_call(judge, comparison, principle, order),
        lambda reading, call_id: JudgementRow(*names, reading, call_id),
    )


def _scoring(
    judge: Judge, answer: Answer, sample_id: str | None, principle: Principle, about: str | None
) -> _Unit:
    verdict = score.score_id(judge, answer, principle)
    names = (verdict, answer.id, sample_id, principle.text_id, judge.id)
    return _Unit(
        verdict,
        about or answer.id,
        lambda _: score.score_call(judge, answer, principle),
        lambda: score.score_call(judge, answer, principle),
        lambda reading, call_id: ScoreRow(*names, reading, call_id),
    )


async def _ask_missing(bench: Workbench, seat: Seat, units: Sequence[_Unit], what: str) -> None:
    stored = judgements.readings(bench.db, _table(seat.judge), [unit.id for unit in units])
    todo = [unit for unit in units if unit.id not in stored]
    if not todo:
        return
    async with opened(bench, seat.place, None) as source:
        if seat.judge.reason:
            reasons = [(unit, unit.rationale()) for unit in todo]
            first = f"{what}: rationales"
            await ask(bench, source, _wanted(reasons), first, before=len(stored))
            asked = [(unit, unit.call(said.text)) for unit, said in _said(bench, reasons)]
        else:
            asked = [(unit, unit.call(None)) for unit in todo]
        keep = _keeping(seat.judge, asked)
        await ask(bench, source, _wanted(asked), what, before=len(stored), keep=keep)
    _store_the_rest(bench, seat.judge, asked)


_Units = Sequence[tuple[_Unit, Call]]


def _wanted(asked: _Units) -> list[Asked]:
    return [Asked(call, unit.about, PURPOSE) for unit, call in asked]


def _said(bench: Workbench, asked: _Units) -> Iterator[tuple[_Unit, Sample]]:
    """The replies to some units' calls; those that could not be had are missing."""
    samples = calls.samples_of(bench.db, [call.id for _, call in asked])
    return ((unit, samples[call.id][0]) for unit, call in asked if call.id in samples)


def _keeping(judge: Judge, asked: _Units) -> Keep:
    """What makes a reply a verdict the moment it comes. A reply can be that of several units: a
    comparison and the same one swapped put the same question."""
    by_call: dict[str, list[_Unit]] = {}
    for unit, call in asked:
        by_call.setdefault(call.id, []).append(unit)

    def keep(db: Database, call_id: str, samples: Sequence[Sample]) -> None:
        reading = _read(judge, samples[0])
        _store(db, [unit.row(reading, call_id) for unit in by_call[call_id]])

    return keep


def _store_the_rest(bench: Workbench, judge: Judge, asked: _Units) -> None:
    """Verdicts from replies that were there before, and errors where there is no reply."""
    stored = judgements.readings(bench.db, _table(judge), [unit.id for unit, _ in asked])
    rest = [(unit, call) for unit, call in asked if unit.id not in stored]
    samples = calls.samples_of(bench.db, [call.id for _, call in rest])
    with transaction(bench.db) as db:
        _store(
            db,
            [
                unit.row(_read(judge, samples.get(call.id, [None])[0]), call.id)
                for unit, call in rest
            ],
        )


def reparse(bench: Workbench, judge: Judge) -> int:
    """Read every stored reply of a judge once more, without a call; returns how many changed."""
    changed = 0
    for rows in judgements.replies(bench.db, _table(judge), judge.id):
        samples = calls.samples_of(bench.db, [row.call_id for row in rows if row.call_id])
        again = [
            row._replace(reading=_read(judge, samples.get(row.call_id or "", [None])[0]))
            for row in rows
        ]
        fresh = [new for new, old in zip(again, rows, strict=True) if new != old]
        changed += len(fresh)
        with transaction(bench.db) as db:
            _store(db, fresh)
    return changed


def _store(db: Database, rows: Iterable[JudgementRow | ScoreRow]) -> None:
    rows = list(rows)
    judgements.add_judgements(db, [row for row in rows if isinstance(row, JudgementRow)])
    judgements.add_scores(db, [row for row in rows if isinstance(row, ScoreRow)])


def _read(judge: Judge, reply: Sample | None) -> Reading:
    if reply is None:  # refused as too long, or lost for good
        return Reading(state="error")
    return compare.read(judge, reply) if judge.kind == "compare" else score.read(judge, reply)


def _answers(compared: Compared) -> Iterator[tuple[Answer, str | None]]:
    comparison = compared.comparison
    for text, sample_id in zip(
        (comparison.first, comparison.second), compared.samples, strict=True
    ):
        yield Answer(conversation=comparison.conversation, text=text), sample_id


def _verdict_ids(judge: Judge, question: Question) -> tuple[str, str]:
    """The two verdicts that a judgement is made of: both orders, or both grades."""
    compared, principle = question
    if judge.kind == "compare":
        first, second = (
            compare.judgement_id(judge, compared.comparison, principle, order) for order in ORDERS
        )
    else:
        first, second = (
            score.score_id(judge, answer, principle) for answer, _ in _answers(compared)
        )
    return first, second


def _settle(judge: Judge, question: Question, found: Mapping[str, Reading]) -> Judgement:
    if question.compared.comparison.identical:
        return Judgement(state="tie", p=0.5)
    one, other = (
        found.get(verdict, Reading(state="error")) for verdict in _verdict_ids(judge, question)
    )
    return compare.settle(one, other) if judge.kind == "compare" else score.settle(one, other)


def _table(judge: Judge) -> Table:
    return "judgements" if judge.kind == "compare" else "scores"
