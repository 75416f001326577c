"""Preference pairs, and the comparisons that became none."""

import json
from collections.abc import Iterable
from typing import Literal, NamedTuple

from sqlite_utils import Database

from judges.aggregate import Decision
from pipelines.store.connection import now
from teachers.records import content_id

Authority = Literal["judge", "verifier", "construction", "human"]
"""Who says that the chosen answer is better."""


class PairRow(NamedTuple):
    """A preference pair and why it is one."""

    comparison_id: str
    chosen_sample: str
    rejected_sample: str
    source: Authority
    p: float
    """Probability that the chosen answer is the better one."""
    decisions: tuple[Decision, ...] = ()
    """Which principles decided it, and by how much: positive pulls are for the chosen one."""
    vetoed_by: str | None = None


class PairRejection(NamedTuple):
    """Why a comparison is no pair."""

    comparison_id: str
    reason: str
    detail: str = ""


def put_pairs(
    db: Database, round_id: str, pairs: Iterable[PairRow], rejections: Iterable[PairRejection]
) -> None:
    """Record a round's pairs, and which comparisons it did not make pairs of and why.

    Those of an earlier try at the same round, before somebody labelled, give way.
    """
    at = now()
    for table in ("pairs", "pair_rejections"):
        db.execute(f"delete from {table} where round_id = ?", (round_id,))
    db.conn.executemany(
        "insert into pairs values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (content_id("pair", [round_id, pair.comparison_id]), round_id, *pair[:5])
            + (json.dumps([one.model_dump() for one in pair.decisions]), pair.vetoed_by, at)
            for pair in pairs
        ],
    )
    db.conn.executemany(
        "insert or replace into pair_rejections values (?, ?, ?, ?)",
        [(round_id, *rejection) for rejection in rejections],
    )


class StoredPair(NamedTuple):
    """A pair of a round with its texts."""

    prompt_id: str
    chosen_sample: str
    chosen: str
    rejected_sample: str
    rejected: str
    source: Authority
    p: float
    principle: str | None
    """The one that decided most."""


def of_round(db: Database, round_id: str) -> list[StoredPair]:
    """A round's pairs, in an order that does not depend on when they were made."""
    rows = db.execute(
        "select chosen.prompt_id, chosen.id, chosen.text, rejected.id, rejected.text, source, p,"
        # The strongest comes first.
        " json_extract(decisions, '$[0].principle') from pairs"
        " join samples chosen on chosen.id = chosen_sample"
        " join samples rejected on rejected.id = rejected_sample"
        " where round_id = ? order by pairs.id",
        (round_id,),
    )
    return [StoredPair(*row) for row in rows]


def last_rounds(db: Database) -> dict[str, str]:
    """The last round that made a pair of a comparison, or found that it is none, by comparison."""
    looked_at = " union all ".join(
        f"select round_id, comparison_id from {table}" for table in ("pairs", "pair_rejections")
    )
    return dict(
        db.execute(
            f"select comparison_id, round_id from ({looked_at}) join stages using (round_id)"
            " where stages.name = 'compare' order by stages.ended_at"
        )
    )
