"""Finding rows by what a person remembers of them: a table's name, the beginning of an id."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.store.query import Rows, query
from teachers.errors import ConfigError

_ROLLOUTS = "count(*) rollouts, min(batch) first_batch, max(batch) last_batch, avg(reward) reward"

# Tables that others are made of: SQLite's, the migrations', and what full-text search keeps.
_INNER = re.compile(r"_|sqlite|\w+_text(_|$)")
# Where an id can be, and what belongs to the row there: (heading, SQL with :id).
_RELATED: dict[str, tuple[tuple[str, str], ...]] = {
    "rounds": (
        (
            "stages",
            "select name, state, report from stages where round_id = :id order by started_at",
        ),
    ),
    "runs": (
        (
            "rounds",
            "select number, round_id, promoted from turns where run_id = :id order by number",
        ),
    ),
    "prompts": (
        ("samples", "select id, finish_reason, text from samples where prompt_id = :id limit 50"),
        (
            "rollouts",
            f"select training_run_id, {_ROLLOUTS} from rollouts where prompt_id = :id"
            " group by training_run_id order by min(created_at)",
        ),
    ),
    "calls": (("samples", "select id, position, text from samples where call_id = :id"),),
    "samples": (
        ("verdicts", "select verifier, parser, state, answer from verdicts where sample_id = :id"),
        ("datasets", "select dataset_id, position from dataset_rows where sample_id = :id"),
        ("rejections", "select round_id, reason, detail from rejections where sample_id = :id"),
        (
            "pairs",
            "select id, iif(chosen_sample = :id, 'chosen', 'rejected') side, source, p from pairs"
            " where :id in (chosen_sample, rejected_sample) limit 50",
        ),
        (
            "revisions",
            "select id, number, stop, text from revisions where sample_id = :id order by number",
        ),
        ("reward scores", "select model, score from reward_scores where sample_id = :id"),
    ),
    "verdicts": (),
    "datasets": (
        ("training runs", "select id, state from training_runs where dataset_id = :id"),
        ("rows", "select position, sample_id from dataset_rows where dataset_id = :id limit 20"),
    ),
    "training_runs": (
        (
            "checkpoints",
            "select id, step, merged_path from checkpoints where training_run_id = :id",
        ),
        (
            "rollouts",
            f"select count(distinct prompt_id) prompts, {_ROLLOUTS} from rollouts"
            " where training_run_id = :id group by training_run_id",
        ),
    ),
    "rollouts": (
        (
            "terms",
            "select name, watched, value, state, reason, jail from rollout_terms"
            " where rollout_id = :id order by watched, name",
        ),
    ),
    "checkpoints": (
        (
            "evals",
            "select id, prompting, items, strict, lenient from evals where checkpoint_id = :id",
        ),
        ("promotions", "select decision, reason from promotions where checkpoint_id = :id"),
        ("aliases", "select name, why from aliases where checkpoint_id = :id"),
        (
            "rollouts",
            f"select training_run_id, {_ROLLOUTS} from rollouts join checkpoints"
            " using (training_run_id) where checkpoints.id = :id group by training_run_id",
        ),
    ),
    "evals": (
        ("items", "select prompt_id, strict, lenient from eval_items where eval_id = :id limit 20"),
    ),
    "promotions": (),
    "judges": (
        (
            "certificates",
            "select id, principle_id, gold, passed from certificates where judge_id = :id",
        ),
    ),
    "principles": (
        (
            "certificates",
            "select id, judge_id, gold, passed from certificates where principle_id = :id",
        ),
    ),
    "comparisons": (
        (
            "labels",
            "select annotator, principle_id, choice, note from labels where comparison_id = :id",
        ),
        (
            "judgements",
            'select judge_id, principle_id, "order", state, value from judgements'
            " where comparison_id = :id limit 50",
        ),
        (
            "panel judgements",
            "select id, principle_id, state, p, decided, spoke from panel_judgements"
            " where comparison_id = :id limit 50",
        ),
        ("pairs", "select id, round_id, source, p from pairs where comparison_id = :id"),
        (
            "rejections",
            "select round_id, reason, detail from pair_rejections where comparison_id = :id",
        ),
    ),
    "judgements": (),
    "panel_judgements": (),
    "pairs": (
        (
            "answers",
            "select iif(samples.id = chosen_sample, 'chosen', 'rejected') side, samples.id, text"
            " from pairs join samples on samples.id in (chosen_sample, rejected_sample)"
            " where pairs.id = :id",
        ),
    ),
    "revisions": (),
    "scores": (),
    "certificates": (),
    "labels": (),
    "constitutions": (
        (
            "commits",
            "select seq, parent, author, message from constitution_commits"
            " where constitution_id = :id order by seq",
        ),
    ),
}


class Found(NamedTuple):
    """A row, and the rows that belong to it."""

    table: str
    row: dict[str, Any]
    related: dict[str, Rows]


def find(store: Path, beginning: str) -> Found:
    """The row whose id begins so, wherever it is.

    Raises:
        ConfigError: there is none, or more than one.
    """
    matches: list[tuple[str, dict[str, Any]]] = []
    for table in _RELATED:
        rows = query(
            store,
            # A range, so that the index is used; calls have a row an attempt, the last one shows.
            f"select *, max(rowid) from {table} where id >= :id and id < :id || 'g'"
            " group by id limit 2",
            {"id": beginning},
        )
        matches += [(table, dict(zip(rows.columns[:-1], row, strict=False))) for row in rows.rows]
    if len(matches) != 1:
        where = ", ".join(f"{table} {row['id'][:16]}" for table, row in matches)
        raise ConfigError(
            f"No row's id begins with {beginning!r}."
            if not matches
            else f"More than one row's id begins with {beginning!r}: {where}."
        )
    table, row = matches[0]
    related = {heading: query(store, sql, {"id": row["id"]}) for heading, sql in _RELATED[table]}
    return Found(table, row, {heading: rows for heading, rows in related.items() if rows.rows})


def rows_of(store: Path, table: str, limit: int) -> Rows:
    """The newest rows of a table.

    Raises:
        ConfigError: there is no such table.
    """
    known = query(store, "select name from sqlite_master where type in ('table', 'view')")
    names = sorted(str(name) for (name,) in known.rows if not _INNER.match(str(name)))
    if table not in names:
        raise ConfigError(f"There is no table {table!r}.", hint="There are: " + ", ".join(names))
    columns = query(store, f"select * from {table} limit 0").columns
    times = ("created_at", "started_at", "sent_at", "moved_at", "committed_at")
    order = next((f" order by {column} desc" for column in times if column in columns), "")
    return query(store, f"select * from {table}{order}", rows=limit)
