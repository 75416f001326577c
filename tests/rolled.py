"""Rollouts, and stores with training runs that made some."""

import json
from pathlib import Path

from sqlite_utils import Database

from judges.records import VerificationState
from judges.rewards import RewardTerm, TermValue
from pipelines.store.calls import add_prompts
from pipelines.store.checkpoints import open_training
from pipelines.store.datasets import StoredDataset, add_dataset
from pipelines.store.rounds import open_round
from pipelines.training.rollout import Rollout
from teachers.records import Prompt

SUM, PRODUCT = (Prompt(task="t", question=text, reference="2") for text in ("1 + 1 =", "1 * 2 ="))
TERMS = (
    RewardTerm(name="math", verifier="number"),
    RewardTerm(name="form", verifier="format", weight=0.0),
)
WATCHED = "judge"


def open_run(db: Database, run: str, recipe: str = "mine") -> None:
    """A training run in a round of its own, which has two prompts."""
    round_id, dataset = f"r{run}", f"d{run}"
    open_round(db, round_id, recipe, 1, "{}")
    add_dataset(db, round_id, StoredDataset(dataset, 0, Path("dataset"), "0"), [])
    job = json.dumps({"rewards": [term.model_dump() for term in TERMS]})
    open_training(db, run, round_id, dataset, job, Path("run"))
    add_prompts(db, round_id, [(prompt, "train", "test") for prompt in (SUM, PRODUCT)])


def said(value: float | None) -> TermValue:
    """A term's value: 0 is wrong, none is undecided."""
    state: VerificationState = "timeout" if value is None else "verified" if value else "refuted"
    return TermValue(value=value, state=state, reason=f"is {value}")


def rollout(
    batch: int = 0,
    text: str = "2",
    math: float | None = 1.0,
    judge: float | None = None,
    *,
    form: float = 0.0,
    tokens: int = 10,
    prompt: Prompt = SUM,
    position: int = 0,
) -> Rollout:
    """A rollout whose reward is its `math`.

    Args:
        judge: what the watched term says; not asked if None.
    """
    terms = {"math": said(math), "form": said(form)}
    if judge is not None:
        terms[WATCHED] = said(judge)
    return Rollout(
        batch=batch,
        draw=0,
        prompt_id=prompt.id,
        position=position,
        policy=f"v{batch}",
        prompt_tokens=(1,),
        tokens=(2,) * tokens,
        logprobs=(-0.5,) * tokens,
        text=text,
        finish_reason="stop",
        terms=terms,
        reward=math,
        advantage=None if math is None else math - 0.5,
        fate="unrewarded" if math is None else "used",
    )
