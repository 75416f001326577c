"""Rollouts of training runs, what each reward term said of them, and pass rates by prompt."""

import json
from collections.abc import Collection, Iterable
from typing import NamedTuple

from sqlite_utils import Database

from judges.rewards import RewardTerm, TermValue
from pipelines.store.connection import now
from pipelines.training.curriculum import Pacing, Task
from pipelines.training.rollout import Fate, Rollout
from teachers.errors import ConfigError

_COLUMNS = (
    "id, batch, draw, prompt_id, position, policy, text, tokens, finish_reason, logprob, reward,"
    " advantage, fate"
)


class StoredRollout(NamedTuple):
    """A rollout as it is kept: its tokens are counted, not listed."""

    id: str
    batch: int
    draw: int
    prompt_id: str
    position: int
    policy: str
    text: str
    tokens: int
    finish_reason: str
    logprob: float
    """Sum over the tokens, in nats, by the engine that sampled them."""
    reward: float | None
    advantage: float | None
    fate: Fate
    terms: dict[str, TermValue]
    """What the reward is made of."""
    watched: dict[str, TermValue]
    """What only watches."""


def add(
    db: Database, run_id: str, rollouts: Iterable[Rollout], watched: Collection[str] = ()
) -> None:
    """Store rollouts with their terms.

    What is sampled again after a kill takes the place of what its batch had before: rows say what
    was trained on. The table has to hold the run and the prompts already.

    Args:
        watched: names of the terms that are no part of the reward.
    """
    at = now()
    for one in rollouts:
        name = one.id(run_id)
        db.execute(
            "insert or replace into rollouts values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (name, run_id, one.batch, one.draw, one.prompt_id, one.position, one.policy, one.text)
            + (len(one.tokens), one.finish_reason, sum(one.logprobs), one.reward, one.advantage)
            + (one.fate, at),
        )
        db.conn.executemany(
            "insert or replace into rollout_terms values (?, ?, ?, ?, ?, ?, ?)",
            [
                (name, term, term in watched, said.value, said.state, said.reason, said.jail)
                for term, said in one.terms.items()
            ],
        )


def of_run(db: Database, run_id: str) -> list[StoredRollout]:
    """A run's rollouts, in the order of batches and draws."""
    terms: dict[str, tuple[dict[str, TermValue], dict[str, TermValue]]] = {}
    for rollout, name, watched, value, state, reason, jail in db.execute(
        "select rollout_id, name, watched, value, state, reason, jail from rollouts"
        " join rollout_terms on rollout_id = id where training_run_id = ? order by name",
        (run_id,),
    ):
        said = TermValue(value=value, state=state, reason=reason, jail=jail)
        terms.setdefault(rollout, ({}, {}))[watched][name] = said
    rows = db.execute(
        f"select {_COLUMNS} from rollouts where training_run_id = ?"
        " order by batch, draw, prompt_id, position",
        (run_id,),
    )
    return [StoredRollout._make((*row, *terms.get(row[0], ({}, {})))) for row in rows]


def reward_terms(db: Database, run_id: str) -> list[RewardTerm]:
    """What a run's reward is made of, those terms left out that only watch."""
    ((job,),) = db.execute("select job from training_runs where id = ?", (run_id,)).fetchall()
    return [RewardTerm.model_validate(term) for term in json.loads(job)["rewards"]]


def run_with_rollouts(db: Database, beginning: str = "") -> str:
    """The newest training run that has rollouts, of those whose id begins so.

    Raises:
        ConfigError: there is none; or more than one, where a beginning was given.
    """
    rows = db.execute(
        "select id from training_runs where substr(id, 1, length(?)) = ?"
        " and exists (select 1 from rollouts where training_run_id = training_runs.id)"
        " order by rowid desc",
        (beginning, beginning),
    ).fetchall()
    if rows and (not beginning or len(rows) == 1):
        return str(rows[0][0])
    if not beginning:
        raise ConfigError(
            "No training run has rollouts yet.",
            hint="Rounds that learn from rewards make them: train.objective: grpo",
        )
    found = "More than one training run with rollouts begins" if rows else "No run with rollouts"
    raise ConfigError(
        f"{found} {'with' if rows else 'begins with'} {beginning!r}.",
        hint="preceptor query 'select distinct training_run_id from rollouts' lists them.",
    )


def pass_rates(
    db: Database, round_id: str, term: str, newest: int = Pacing().remember
) -> list[Task]:
    """How often prompts were got right in the rounds of a recipe, by name, before this one.

    A hit is an answer that the term verified. The reward will not do: a sum of terms has no value
    that means right, and a bonus for form could pay for a wrong answer. What a term left undecided
    is no try. Answers outside training (the teacher's, the gate's) were another model's, and do
    not count; nor does a round without rollouts, when rounds are counted.

    Args:
        term: the reward term that says what is right.
        newest: so many of a prompt's tries count, the newest ones.
    """
    # Rows of rounds are never deleted, so their rowids are in the order of starting.
    rows = db.execute(
        """
        with earlier as (
            select rounds.id, row_number() over (order by rounds.rowid desc) as ago
            from rounds join rounds as present
                on rounds.name = present.name and rounds.rowid < present.rowid
            where present.id = :round and exists (
                select 1 from training_runs join rollouts on training_run_id = training_runs.id
                where round_id = rounds.id
            )
        ),
        tries as (
            select prompt_id, ago, rollout_terms.state = 'verified' as hit,
                row_number() over (
                    partition by prompt_id
                    order by ago, training_runs.rowid desc, batch desc, draw desc, position desc
                ) as recent
            from earlier join training_runs on round_id = earlier.id
            join rollouts on training_run_id = training_runs.id
            join rollout_terms on rollout_id = rollouts.id and rollout_terms.name = :term
            where rollout_terms.state in ('verified', 'refuted')
        )
        select prompt_id, count(*), sum(hit), min(ago) from tries where recent <= :newest
        group by prompt_id order by prompt_id""",
        {"round": round_id, "term": term, "newest": newest},
    )
    return [Task(*row) for row in rows]
