"""Critiques and revisions, one row a round of an answer; and what panels of judges said."""

import json
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from sqlite_utils import Database

from judges.panel import PanelJudgement
from pipelines.store.calls import chunks, marks
from pipelines.store.connection import now
from teachers.records import content_id

Stop = Literal["unchanged", "empty", "cut", "unanswered"]
"""Why a round's revision was not taken: it says the same, nothing, not all, or never came."""


class Revision(NamedTuple):
    """One round of an answer: what was criticised, and what came of it."""

    answer_id: str
    """Of the first answer, whatever the round."""
    sample_id: str | None
    """The first answer as a sample, where it is one."""
    number: int
    """The round, from 0."""
    principle_id: str
    critique: str | None
    text: str | None
    """The revision without its wrapping; the raw text is the sample of `revision_call`."""
    edit_share: float | None
    """Share of words changed from the round before."""
    stop: Stop | None
    """Why the revision was not taken and the rounds ended; None if it was taken."""
    critique_call: str
    revision_call: str | None

    @property
    def id(self) -> str:
        return revision_id(self.answer_id, self.number, self.critique_call)


def revision_id(answer_id: str, number: int, critique_call: str) -> str:
    """The id of a round, known before it is asked for."""
    return content_id("revision", [answer_id, number, critique_call])


def add_revisions(db: Database, rows: Iterable[Revision]) -> None:
    """Store rounds; the same round seen again, perhaps with answers by now, takes its place."""
    at = now()
    db.conn.executemany(
        "insert or replace into revisions values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(row.id, *row, at) for row in rows],
    )


def revisions(db: Database, ids: Sequence[str]) -> dict[str, Revision]:
    """Those rounds that are stored, by id."""
    found: dict[str, Revision] = {}
    for some in chunks(ids):
        rows = db.execute(f"select * from revisions where id in ({marks(some)})", some)
        found.update({name: Revision(*row) for name, *row, _ in rows})
    return found


class PanelRow(NamedTuple):
    """A panel's judgement on its way into the store."""

    comparison_id: str
    principle_id: str
    judge_ids: Sequence[str]
    found: PanelJudgement

    @property
    def id(self) -> str:
        return content_id("panel", [self.comparison_id, self.principle_id, sorted(self.judge_ids)])


def add_panel_judgements(db: Database, rows: Iterable[PanelRow]) -> None:
    """Store what panels said; a panel asked again takes its own place."""
    at = now()
    db.conn.executemany(
        "insert or replace into panel_judgements values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (row.id, row.comparison_id, row.principle_id, json.dumps(sorted(row.judge_ids)))
            + (row.found.judgement.state, row.found.judgement.p, row.found.decided)
            + (row.found.spoke, row.found.disagreement, row.found.dissent, at)
            for row in rows
        ],
    )
