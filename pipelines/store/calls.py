"""Prompts, the calls made about them, the answers and what verifiers said of those."""

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from sqlite_utils import Database

from judges.records import Verdict, VerificationState
from pipelines.store.connection import now
from teachers.client import Completion
from teachers.process import alive, started_at
from teachers.records import Call, Prompt, Sample

Split = Literal["train", "held_out"]
Unanswered = Literal["failed", "uncertain"]
"""`uncertain`: it may have been done and charged."""

PAUSE_S = 60.0
"""So long without a call in flight, in seconds, parts one run of calls from the next."""

_PROMPT = "task, question, reference, verifier, entry"


class StoredPrompt(NamedTuple):
    """A prompt and the side of the split it was put on when it was first seen."""

    prompt: Prompt
    split: Split


def add_prompts(db: Database, round_id: str, rows: Iterable[tuple[Prompt, Split, str]]) -> None:
    """Store prompts (with their split and source) and tie them to a round, in order.

    A prompt that is stored already keeps the split it has: a row never moves.
    """
    at = now()
    for position, (prompt, split, source) in enumerate(rows):
        db.execute(
            "insert or ignore into prompts values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (prompt.id, prompt.task, prompt.question, prompt.reference, prompt.verifier)
            + (json.dumps(prompt.entry), source, split, at),
        )
        db.execute(
            "insert or ignore into round_prompts values (?, ?, ?)", (round_id, position, prompt.id)
        )


def prompts_of(db: Database, round_id: str) -> list[StoredPrompt]:
    """A round's prompts, in the order they were supplied."""
    rows = db.execute(
        f"select split, {_PROMPT} from round_prompts"
        " join prompts on prompts.id = prompt_id where round_id = ? order by position",
        (round_id,),
    )
    return [StoredPrompt(_prompt(columns), split) for split, *columns in rows]


def _prompt(columns: Sequence[Any]) -> Prompt:
    task, question, reference, verifier, entry = columns
    return Prompt(
        task=task,
        question=question,
        reference=reference,
        verifier=verifier,
        entry=json.loads(entry),
    )


class Asked(NamedTuple):
    """A call, and why it is made."""

    call: Call
    prompt_id: str
    purpose: str
    """`teach`, `judge`, or `eval` with the name of what is measured."""


def owner() -> str:
    """Names this process for ever: its pid and when it started."""
    return f"{os.getpid()}:{started_at(os.getpid()) or 0.0}"


def send(db: Database, round_id: str, asked: Asked) -> int:
    """Write down that a call is about to be made; returns which attempt this is, from 1."""
    call = asked.call
    attempt = 1 + int(
        db.execute("select count(*) from calls where id = ?", (call.id,)).fetchone()[0]
    )
    db.execute(
        "insert into calls (id, attempt, round_id, prompt_id, purpose, weights, request, state,"
        " owner, sent_at) values (?, ?, ?, ?, ?, ?, ?, 'sent', ?, ?)",
        (call.id, attempt, round_id, asked.prompt_id, asked.purpose, call.weights)
        + (call.model_dump_json(exclude={"weights"}), owner(), now()),
    )
    return attempt


def finish(db: Database, asked: Asked, attempt: int, completion: Completion) -> None:
    """Mark a call done and keep its answers: one transaction, so never one without the other."""
    at = now()
    db.execute(
        "update calls set state = 'done', ended_at = ?, prompt_tokens = ?, completion_tokens = ?"
        " where id = ? and attempt = ?",
        (at, *completion.usage, asked.call.id, attempt),
    )
    db.conn.executemany(
        "insert into samples values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (sample.id, sample.call_id, asked.prompt_id, sample.position, sample.text)
            + (sample.thinking, sample.finish_reason, sample.tokens, at)
            + (json.dumps(sample.first_token) if sample.first_token else None,)
            for sample in completion.samples
        ],
    )


def give_up(db: Database, call_id: str, attempt: int, state: Unanswered, error: str) -> None:
    """Mark a call that gave nothing."""
    db.execute(
        "update calls set state = ?, ended_at = ?, error = ? where id = ? and attempt = ?",
        (state, now(), error, call_id, attempt),
    )


def orphans_to_uncertain(db: Database, also: str = "") -> int:
    """List as `uncertain` every call in flight whose process is gone; returns how many.

    Args:
        also: an owner whose calls are given up though it still runs: oneself, when stopping.
    """
    sent = db.execute("select id, attempt, owner from calls where state = 'sent'").fetchall()
    lost = [
        (call_id, attempt) for call_id, attempt, whose in sent if whose == also or not lives(whose)
    ]
    for call_id, attempt in lost:
        give_up(db, call_id, attempt, "uncertain", "the process that asked ended")
    return len(lost)


def lives(whose: str) -> bool:
    """Whether the process with that name still runs."""
    pid, _, started = whose.partition(":")
    return alive(int(pid), float(started))


def done_calls(db: Database, ids: Iterable[str]) -> set[str]:
    """Which of these calls have been answered."""
    done: set[str] = set()
    for some in chunks(list(ids)):
        rows = db.execute(
            f"select id from calls where state = 'done' and id in ({marks(some)})", some
        )
        done.update(row[0] for row in rows)
    return done


def samples_of(db: Database, call_ids: Sequence[str]) -> dict[str, list[Sample]]:
    """The answers of some calls, each call's in order of position."""
    found: dict[str, list[Sample]] = {}
    for some in chunks(call_ids):
        rows = db.execute(
            "select call_id, position, text, thinking, finish_reason, tokens, first_token"
            f" from samples where call_id in ({marks(some)}) order by call_id, position",
            some,
        )
        for call_id, position, text, thinking, finish_reason, tokens, first_token in rows:
            sample = Sample(
                call_id=call_id,
                position=position,
                text=text,
                thinking=thinking,
                finish_reason=finish_reason,
                tokens=tokens,
                first_token=json.loads(first_token or "[]"),
            )
            found.setdefault(call_id, []).append(sample)
    return found


class Given(NamedTuple):
    """A stored answer, and what it was asked for."""

    sample: Sample
    purpose: str
    """As the call was made for first."""
    weights: str


def given(db: Database, sample_ids: Sequence[str]) -> dict[str, Given]:
    """Stored answers by their ids."""
    asked: dict[str, tuple[str, str]] = {}
    for some in chunks(sorted(set(sample_ids))):
        rows = db.execute(
            "select id, purpose, weights from calls where state = 'done' and id in"
            f" (select call_id from samples where id in ({marks(some)}))",
            some,
        )
        asked.update((call_id, (purpose, weights)) for call_id, purpose, weights in rows)
    found = samples_of(db, list(asked))
    return {one.id: Given(one, *asked[name]) for name, some in found.items() for one in some}


def prompts(db: Database, prompt_ids: Sequence[str]) -> dict[str, Prompt]:
    """Stored prompts by their ids."""
    found: dict[str, Prompt] = {}
    for some in chunks(sorted(set(prompt_ids))):
        rows = db.execute(f"select id, {_PROMPT} from prompts where id in ({marks(some)})", some)
        found.update((prompt_id, _prompt(columns)) for prompt_id, *columns in rows)
    return found


def pace(db: Database, weights: str) -> float | None:
    """Calls a second that a judge answered in its newest run; None if there are too few.

    A run is calls without a pause between them, of the newest thousand.
    """
    rows = db.execute(
        "select sent_at, ended_at from calls where weights = ? and state = 'done'"
        " and purpose = 'judge' order by sent_at desc limit 1000",
        (weights,),
    ).fetchall()
    count, began, ended = 0, 0.0, 0.0
    for sent_at, ended_at in reversed(rows):
        if sent_at > ended + PAUSE_S:
            count, began = 0, sent_at
        count, ended = count + 1, max(ended, ended_at)
    return count / (ended - began) if count > 1 and ended > began else None


def add_verdict(db: Database, verdict: Verdict) -> None:
    """Store a verdict; a later try at the same one takes its place."""
    db.execute(
        "insert or replace into verdicts values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (verdict.id, verdict.sample_id, verdict.verifier, verdict.parser, verdict.state)
        + (verdict.answer, verdict.reason, now(), verdict.jail),
    )


def verdict_states(db: Database, ids: Sequence[str]) -> dict[str, VerificationState]:
    """The states of those verdicts that are stored, by id.

    A check that timed out or broke says nothing for ever: it is left out, so it is tried again.
    """
    found: dict[str, VerificationState] = {}
    for some in chunks(ids):
        found.update(
            db.execute(
                "select id, state from verdicts where state not in ('timeout', 'error')"
                f" and id in ({marks(some)})",
                some,
            )
        )
    return found


def chunks(values: Sequence[str], size: int = 500) -> Iterable[Sequence[str]]:
    """Values in lists short enough for one statement."""
    return (values[start : start + size] for start in range(0, len(values), size))


def marks(values: Sequence[str]) -> str:
    """A placeholder for each value."""
    return ", ".join("?" * len(values))
