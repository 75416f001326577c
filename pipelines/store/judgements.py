"""Comparisons, what judges said of them order by order, and grades. One row a reply."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

from sqlite_utils import Database

from judges.certify import Certificate
from judges.constitution import Principle
from judges.judge import Judge
from judges.ladder import Footing
from judges.records import Comparison, Order, Reading
from pipelines.store.calls import chunks, marks
from pipelines.store.connection import now
from teachers.records import Message

Table = Literal["judgements", "scores"]
"""Where a judge's verdicts are: comparisons order by order, or grades."""

Origin = Literal["round", "gate", "case", "gold", "traffic"]
"""Where a comparison comes from: a round's answers, its gate, a principle's cases, a gold file,
answers that were served."""


class Compared(NamedTuple):
    """A comparison and where its answers come from."""

    comparison: Comparison
    origin: Origin
    prompt_id: str | None = None
    samples: tuple[str | None, str | None] = (None, None)
    """Ids of the two answers, where they are samples."""
    injected: bool = False
    """Whether one of them was given orders for the judge: a test of judges, and not of answers."""


def add_judge(db: Database, judge: Judge, place: str) -> None:
    """Store a judge and, as JSON, where it was asked last; keys are never part of that."""
    db.execute(
        "insert into judges values (?, ?, ?, ?, ?, ?)"
        " on conflict (id) do update set place = excluded.place",
        (judge.id, judge.kind, judge.weights, judge.model_dump_json(), place, now()),
    )


def judge(db: Database, judge_id: str) -> Judge:
    """A stored judge by its id."""
    row = db.execute("select spec from judges where id = ?", (judge_id,)).fetchone()
    return Judge.model_validate_json(row[0])


def judges(db: Database) -> list[Judge]:
    """Every judge that has spoken, oldest first."""
    rows = db.execute("select spec from judges order by created_at, id")
    return [Judge.model_validate_json(spec) for (spec,) in rows]


def principle_text(db: Database, principle_id: str) -> str:
    """What a principle says."""
    row = db.execute("select text from principles where id = ?", (principle_id,)).fetchone()
    return str(row[0])


def add_principles(db: Database, principles: Iterable[Principle]) -> None:
    db.conn.executemany(
        "insert or ignore into principles values (?, ?)",
        [(principle.text_id, principle.text) for principle in principles],
    )


def add_comparisons(db: Database, compared: Iterable[Compared]) -> None:
    """Store comparisons; one that is stored already keeps its first origin."""
    at = now()
    db.conn.executemany(
        "insert or ignore into comparisons values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (one.comparison.id, one.prompt_id, _conversation(one.comparison))
            + (one.comparison.first, one.comparison.second, *one.samples, one.origin, at)
            + (one.injected,)
            for one in compared
        ],
    )


COMPARED = "conversation, first, second, source, prompt_id, first_sample, second_sample"
"""The columns of `comparisons` that `as_compared` reads."""


def as_compared(row: Sequence[Any]) -> Compared:
    """A comparison from its columns."""
    conversation, first, second, source, prompt_id, one, other = row
    comparison = Comparison(
        conversation=tuple(Message(**turn) for turn in json.loads(conversation)),
        first=first,
        second=second,
    )
    return Compared(comparison, source, prompt_id, (one, other))


def comparisons(db: Database, origin: Origin) -> list[Compared]:
    """The stored comparisons of one origin, oldest first; those of one moment as they came."""
    rows = db.execute(
        f"select {COMPARED} from comparisons where source = ? and not injected"
        " order by created_at, rowid",
        (origin,),
    )
    return list(map(as_compared, rows))


class JudgementRow(NamedTuple):
    """One order's verdict on its way into the store."""

    id: str
    comparison_id: str
    principle_id: str
    judge_id: str
    order: Order
    reading: Reading
    call_id: str | None


class ScoreRow(NamedTuple):
    """A grade on its way into the store."""

    id: str
    answer_id: str
    sample_id: str | None
    principle_id: str
    judge_id: str
    reading: Reading
    call_id: str | None


def add_judgements(db: Database, rows: Iterable[JudgementRow]) -> None:
    """Store verdicts; a later reading of the same reply takes the place of an earlier one."""
    at = now()
    db.conn.executemany(
        "insert or replace into judgements values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(*row[:5], *_reading(row.reading), row.call_id, at) for row in rows],
    )


def add_scores(db: Database, rows: Iterable[ScoreRow]) -> None:
    """Store grades, as `add_judgements` does."""
    at = now()
    db.conn.executemany(
        "insert or replace into scores values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(*row[:5], *_reading(row.reading), row.call_id, at) for row in rows],
    )


def readings(db: Database, table: Table, ids: Sequence[str]) -> dict[str, Reading]:
    """What is stored of these verdicts, by id.

    One that ended in an error says nothing for ever: it is left out, so it is tried again.
    """
    found: dict[str, Reading] = {}
    for some in chunks(ids):
        rows = db.execute(
            f"select id, state, value, outside from {table}"
            f" where state != 'error' and id in ({marks(some)})",
            some,
        )
        for verdict_id, state, value, outside in rows:
            found[verdict_id] = Reading(state=state, value=value, outside=outside)
    return found


def add_seen(db: Database, weights: str, base: str, seen: Iterable[Comparison]) -> None:
    """Record what a judge was trained on, and with it all that its base was.

    A comparison and its swap are the same here: one is easily made of the other.
    """
    db.execute(
        "insert or ignore into seen_by_judges"
        " select ?, unordered from seen_by_judges where weights = ?",
        (weights, base),
    )
    db.conn.executemany(
        "insert or ignore into seen_by_judges values (?, ?)",
        [(weights, comparison.unordered) for comparison in seen],
    )


def seen(db: Database, weights: str) -> set[str]:
    """The comparisons that a judge was trained on, by `Comparison.unordered`."""
    rows = db.execute("select unordered from seen_by_judges where weights = ?", (weights,))
    return {row[0] for row in rows}


def add_footing(db: Database, weights: str, words: Sequence[str], footing: Footing) -> None:
    """Store what an endpoint was found to be able to do."""
    db.execute(
        "insert or replace into footings values (?, ?, ?, ?, ?, ?)",
        (weights, " ".join(words), footing.rung, int(footing.thinks))
        + (json.dumps(footing.notes), now()),
    )


def footing(db: Database, weights: str, words: Sequence[str]) -> Footing | None:
    """What an endpoint was found to be able to do, if it was ever tried."""
    row = db.execute(
        "select rung, thinks, notes from footings where weights = ? and words = ?",
        (weights, " ".join(words)),
    ).fetchone()
    return Footing(row[0], bool(row[1]), tuple(json.loads(row[2]))) if row else None


Row = TypeVar("Row", JudgementRow, ScoreRow)


def replies(
    db: Database, table: Table, judge_id: str
) -> Iterator[list[JudgementRow] | list[ScoreRow]]:
    """A judge's verdicts, some hundred at a time."""
    ids = [row[0] for row in db.execute(f"select id from {table} where judge_id = ?", (judge_id,))]
    for some in chunks(ids):
        if table == "judgements":
            yield list(_rows(db, JudgementRow, "id", some))
        else:
            yield list(_rows(db, ScoreRow, "id", some))


def verdicts(db: Database, comparison_ids: Sequence[str]) -> Iterator[JudgementRow]:
    """What comparing judges said of some comparisons."""
    return _rows(db, JudgementRow, "comparison_id", comparison_ids)


def grades(db: Database, answer_ids: Sequence[str]) -> Iterator[ScoreRow]:
    """What grading judges said of some answers."""
    return _rows(db, ScoreRow, "answer_id", answer_ids)


def _rows(db: Database, kind: type[Row], by: str, names: Sequence[str]) -> Iterator[Row]:
    """The rows that have one of these names in the column `by`."""
    table: Table = "judgements" if kind is JudgementRow else "scores"
    read = {"order": '"order"', "reading": "state, value, outside"}
    columns = ", ".join(read.get(field, field) for field in kind._fields)
    for some in chunks(names):
        for *before, state, value, outside, call_id in db.execute(
            f"select {columns} from {table} where {by} in ({marks(some)})", some
        ):
            reading = Reading(state=state, value=value, outside=outside)
            yield kind._make([*before, reading, call_id])


def add_certificate(
    db: Database,
    certificate_id: str,
    judge_id: str,
    principle_id: str,
    gold: str,
    passed: bool,
    figures: Mapping[str, object],
) -> None:
    """Store what a measurement of a judge found."""
    db.execute(
        "insert or replace into certificates values (?, ?, ?, ?, ?, ?, ?)",
        (certificate_id, judge_id, principle_id, gold, int(passed), json.dumps(figures), now()),
    )


def certificates(
    db: Database, judge_id: str, principle_id: str, gold: str
) -> dict[str, Certificate]:
    """A judge's newest certificate on some pairs, by what those are called; empty if none."""
    row = db.execute(
        "select figures from certificates where judge_id = ? and principle_id = ? and gold = ?"
        " order by created_at desc limit 1",
        (judge_id, principle_id, gold),
    ).fetchone()
    return {gold: Certificate.model_validate_json(row[0])} if row else {}


class Standing(NamedTuple):
    """What a judge's newest certificate by one principle says, on pairs of one name."""

    principle: str
    """The principle's text."""
    gold: str
    passed: bool
    certificate: Certificate


def standings(db: Database) -> dict[str, list[Standing]]:
    """The newest certificate of every judge, principle and gold, by the judge's id."""
    found: dict[str, list[Standing]] = {}
    # Beside a lone max(), SQLite takes the other columns from the row that it was found in.
    for judge_id, text, gold, passed, figures, _ in db.execute(
        "select judge_id, text, gold, passed, figures, max(certificates.created_at)"
        " from certificates join principles on principles.id = principle_id"
        " group by judge_id, principle_id, gold order by text, gold"
    ):
        certificate = Certificate.model_validate_json(figures)
        found.setdefault(judge_id, []).append(Standing(text, gold, bool(passed), certificate))
    return found


def _conversation(comparison: Comparison) -> str:
    return json.dumps([turn.model_dump() for turn in comparison.conversation], ensure_ascii=False)


def _reading(reading: Reading) -> tuple[str, float | None, float | None]:
    return reading.state, reading.value, reading.outside
