"""Rows become a dataset file that never changes again, without anything of the held-out side."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlite_utils import Database

from pipelines.context import Context
from pipelines.hygiene.decontaminate import HeldOut
from pipelines.hygiene.text import words
from pipelines.store import calls, datasets
from pipelines.store.connection import transaction
from pipelines.store.datasets import Kind, StoredDataset
from teachers.files import sha256_of, write_whole
from teachers.records import content_id

# A shorter answer ("42") has no identity: half of all texts would hold it.
MIN_ANSWER_WORDS = 8


def freeze(
    context: Context, kind: Kind, rows: Sequence[dict[str, Any]], sample_ids: Sequence[str]
) -> StoredDataset:
    """Write the dataset under a name that says what is in it.

    Args:
        sample_ids: as in `datasets.add_dataset`.
    """
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    dataset_id = content_id("dataset", lines)
    path = context.home.datasets / f"{dataset_id}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "\n".join(lines) + "\n")
    stored = StoredDataset(dataset_id, len(lines), path, sha256_of(path))
    with transaction(context.db) as db:
        datasets.add_dataset(db, context.round_id, stored, sample_ids, kind)
    return stored


def held_out_of(db: Database, round_id: str) -> HeldOut:
    """What a round's training data is decontaminated against."""
    return HeldOut(_texts(db, round_id))


def _texts(db: Database, round_id: str) -> Iterator[tuple[str, str]]:
    """Every held-out question of a round, and its answer where that is a text."""
    for prompt, split in calls.prompts_of(db, round_id):
        if split == "held_out":
            yield f"{prompt.id} (question)", prompt.question
            for text in (prompt.reference or "", str(prompt.entry.get("working", ""))):
                if len(words(text)) >= MIN_ANSWER_WORDS:
                    yield f"{prompt.id} (answer)", text
