"""How much there is of everything, and how the newest training run stands: counted when asked."""

from sqlite_utils import Database

WITH_STATES = ("runs", "rounds", "calls", "verdicts", "training_runs")
COUNTED = ("prompts", "samples", "pairs", "datasets", "checkpoints", "labels")


def states(db: Database, table: str) -> dict[str, int]:
    """Rows of one of `WITH_STATES`, by their state."""
    return dict(db.execute(f"select state, count(*) from {table} group by state").fetchall())


def rows(db: Database, table: str) -> int:
    """Rows of a table."""
    return int(db.execute(f"select count(*) from {table}").fetchone()[0])


def tokens(db: Database) -> tuple[int, int]:
    """That models which were asked have read, and written."""
    sums = "coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0)"
    read, written = db.execute(f"select {sums} from calls where state = 'done'").fetchone()
    return int(read), int(written)


def exchanges(db: Database) -> dict[str, int]:
    """Requests to students that are kept, by how they were answered: `200`, `499`, `502`, ..."""
    rows = db.execute("select status, count(*) from exchanges group by status")
    return {str(status): int(count) for status, count in rows}


def served(db: Database) -> tuple[int, int]:
    """Tokens that students have read, and written, in those."""
    sums = "coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0)"
    read, written = db.execute(f"select {sums} from exchanges").fetchone()
    return int(read), int(written)


def decisions(db: Database) -> dict[str, int]:
    """Gates' decisions, by what they were."""
    return dict(
        db.execute("select decision, count(*) from promotions group by decision").fetchall()
    )


def training(db: Database) -> dict[str, float]:
    """The last value of each metric of the newest training run."""
    rows = db.execute(
        "select name, value, max(step) from metrics where training_run_id ="
        " (select id from training_runs order by started_at desc limit 1) group by name"
    )
    return {name: float(value) for name, value, _ in rows}
