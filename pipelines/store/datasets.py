"""Frozen datasets, and what did not make it into them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from sqlite_utils import Database

from pipelines.store.connection import now

Kind = Literal["sft", "preference", "judge", "prompts"]


class Rejection(NamedTuple):
    """Why a sample is not in the dataset. Dropped is not deleted."""

    sample_id: str
    reason: str
    detail: str = ""


class StoredDataset(NamedTuple):
    id: str
    rows: int
    path: Path
    sha256: str


def add_dataset(
    db: Database,
    round_id: str,
    dataset: StoredDataset,
    sample_ids: Sequence[str],
    kind: Kind = "sft",
) -> None:
    """Record a frozen dataset and which samples it holds, in order.

    Args:
        sample_ids: of a preference dataset, each pair's chosen and then its rejected sample.
    """
    db.execute(
        "insert or ignore into datasets values (?, ?, ?, ?, ?, ?, ?)",
        (dataset.id, round_id, kind, dataset.rows, str(dataset.path), dataset.sha256, now()),
    )
    db.conn.executemany(
        "insert or ignore into dataset_rows values (?, ?, ?)",
        [(dataset.id, position, sample) for position, sample in enumerate(sample_ids)],
    )


def add_rejections(db: Database, round_id: str, rejections: Sequence[Rejection]) -> None:
    """Record what a round rejected, and why."""
    db.conn.executemany(
        "insert or replace into rejections values (?, ?, ?, ?)",
        [(round_id, *rejection) for rejection in rejections],
    )


def dataset(db: Database, dataset_id: str) -> StoredDataset:
    """A dataset by its id."""
    row = db.execute(
        "select id, rows, path, sha256 from datasets where id = ?", (dataset_id,)
    ).fetchone()
    return StoredDataset(row[0], row[1], Path(row[2]), row[3])
