"""Stored answers across rounds, whoever asked for them."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlite_utils import Database

from pipelines.store.calls import marks


class StoredAnswer(NamedTuple):
    """An answer, and where it comes from."""

    sample_id: str
    prompt_id: str
    round_id: str
    """The round that asked for it first."""
    text: str
    thinking: str | None
    finish_reason: str


def of(
    db: Database, purposes: Sequence[str], round_id: str | None = None, prompt: str = ""
) -> list[StoredAnswer]:
    """Answers to calls of some purposes, prompt by prompt in the order they were given.

    Args:
        round_id: only answers to this round's prompts: its id's beginning.
        prompt: only those whose prompt's id begins so.
    """
    within = (
        " and samples.prompt_id in (select prompt_id from round_prompts"
        " where substr(round_id, 1, length(:round)) = :round)"
    )
    named = {f"purpose{place}": purpose for place, purpose in enumerate(purposes)}
    rows = db.execute(
        "select samples.id, samples.prompt_id, calls.round_id, text, thinking, finish_reason"
        " from samples join calls on calls.id = call_id and calls.state = 'done'"
        f" where purpose in ({', '.join(f':{name}' for name in named)})"
        " and substr(samples.prompt_id, 1, length(:prompt)) = :prompt"
        + (within if round_id else "")
        + " order by samples.prompt_id, samples.created_at, samples.id",
        {**named, "prompt": prompt, "round": round_id},
    )
    return [StoredAnswer(*row) for row in rows]


def recipes(db: Database, round_ids: Collection[str]) -> dict[str, str]:
    """What each round's recipe says, as JSON."""
    names = sorted(round_ids)
    return dict(db.execute(f"select id, recipe from rounds where id in ({marks(names)})", names))
