"""How far each AI judge agrees with people, from what both have said so far."""

from collections.abc import Mapping
from typing import NamedTuple

from sqlite_utils import Database

from judges import compare, score
from judges.agreement import Agreement, agreement
from judges.records import Answer, Judgement, Order, Reading
from pipelines.labelling import peoples_words
from pipelines.store import judgements, labels
from pipelines.store.judgements import Compared


class Voice(NamedTuple):
    """A judge, by the text of one principle."""

    judge_id: str
    principle_id: str


class WithPeople(NamedTuple):
    """A judge's verdicts beside people's, over the comparisons that both have judged."""

    judge: str
    principle: str
    """The text that the judge applied."""
    overall: bool
    """Whether people were asked which answer is better, all things considered; else they were
    asked by the same principle."""
    all: Agreement
    """A flip is a tie; a verdict that could not be read agrees with nobody."""
    decided: Agreement | None
    """Only where both prefer an answer."""


Words = dict[Voice, dict[str, Judgement]]
"""Settled judgements by voice and comparison."""


def with_people(db: Database) -> list[WithPeople]:
    """Every judge's agreement with people: by the same principle, and with what they like best."""
    rows = []
    for principle_id, comparison_ids in labels.asked(db).items():
        people = peoples_words(db, comparison_ids, principle_id)
        spoken = _spoken(db, labels.compared(db, people))
        rows += [
            _row(db, voice, said, people, principle_id is None)
            for voice, said in sorted(spoken.items())
            if principle_id in (None, voice.principle_id)
        ]
    return rows


def _row(
    db: Database,
    voice: Voice,
    said: Mapping[str, Judgement],
    people: Mapping[str, Judgement],
    overall: bool,
) -> WithPeople:
    named = [(_name(said[one]), people[one].state) for one in sorted(said)]
    decided = [(one, other) for one, other in named if {one, other} <= {"win", "loss"}]
    return WithPeople(
        judgements.judge(db, voice.judge_id).name,
        labels.principle_text(db, voice.principle_id),
        overall,
        agreement(named),
        agreement(decided) if decided else None,
    )


def _name(judgement: Judgement) -> str:
    if judgement.labels:
        return judgement.state
    return "tie" if judgement.state in ("tie", "flip") else "unread"


def _spoken(db: Database, compared: Mapping[str, Compared]) -> Words:
    """What is stored of every judge on these comparisons, where it is complete."""
    return _compared(db, compared) | _graded(db, compared)


def _compared(db: Database, compared: Mapping[str, Compared]) -> Words:
    orders: dict[tuple[Voice, str], dict[Order, Reading]] = {}
    for row in labels.verdicts(db, list(compared)):
        key = Voice(row.judge_id, row.principle_id), row.comparison_id
        orders.setdefault(key, {})[row.order] = row.reading
    found: Words = {}
    for (voice, comparison_id), read in orders.items():
        if len(read) == 2:
            settled = compare.settle(read["forward"], read["backward"])
            found.setdefault(voice, {})[comparison_id] = settled
    return found


def _graded(db: Database, compared: Mapping[str, Compared]) -> Words:
    answers = {comparison_id: _answer_ids(one) for comparison_id, one in compared.items()}
    grades: dict[Voice, dict[str, Reading]] = {}
    for row in labels.grades(db, sorted({one for both in answers.values() for one in both})):
        grades.setdefault(Voice(row.judge_id, row.principle_id), {})[row.answer_id] = row.reading
    found: Words = {}
    for voice, read in grades.items():
        for comparison_id, (first, second) in answers.items():
            if first in read and second in read:
                settled = score.settle(read[first], read[second])
                found.setdefault(voice, {})[comparison_id] = settled
    return found


def _answer_ids(compared: Compared) -> tuple[str, str]:
    comparison = compared.comparison
    conversation = comparison.conversation
    first = Answer(conversation=conversation, text=comparison.first)
    return first.id, Answer(conversation=conversation, text=comparison.second).id
