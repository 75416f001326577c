"""How a trial goes, for people and programs."""

from statistics import median
from typing import Any

from sqlite_utils import Database

from pipelines.store import exchanges
from pipelines.store.exchanges import Figures
from pipelines.store.traffic import Trial


def described(db: Database, trial: Trial) -> dict[str, Any]:
    """A trial, and how candidate and champion have answered while it ran."""
    span = trial.started_at, trial.ended_at
    candidate = exchanges.of_candidate(db, trial.checkpoint_id, *span)
    champion = exchanges.of_champion(db, *span)
    return {**trial._asdict(), "candidate": _side(candidate), "champion": _side(champion)}


def _side(figures: Figures) -> dict[str, Any]:
    return {
        "answers": figures.n,
        "failed": figures.failed,
        "first_token_s": median(figures.first_s) if figures.first_s else None,
    }
