"""Rows with a better and a worse side: two answers to a prompt, or two prompts for a judge."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datasets import Dataset
from pydantic import BaseModel, ConfigDict, Field
from transformers import PreTrainedTokenizerBase

from pipelines.training.dataset import Data, answered, fitting, rendered, rows_of
from teachers.records import Message


class Pair(BaseModel):
    """Two answers to one prompt, in TRL's conversational preference columns."""

    model_config = ConfigDict(frozen=True)

    prompt: list[Message] = Field(min_length=1)
    chosen: list[Message] = Field(min_length=1)
    rejected: list[Message] = Field(min_length=1)
    p: float = Field(default=1.0, ge=0.5, le=1.0)
    """Probability that `chosen` is the better one."""


class Weighted(Pair):
    """A pair for a reward model."""

    weight: float = Field(default=1.0, gt=0)
    """How much this row counts beside the others."""

    @property
    def margin(self) -> float:
        """By how much the chosen answer's score is to lead: the log odds of `p`.

        None, that is 0, where p is 1: a construction or a verifier says who is better, and not how
        clearly.
        """
        return math.log(self.p / (1 - self.p)) if self.p < 1 else 0.0


class Judged(BaseModel):
    """Two prompts that put an answer to a judge: the first holds the better answer."""

    model_config = ConfigDict(frozen=True)

    better: list[Message] = Field(min_length=1)
    worse: list[Message] = Field(min_length=1)
    weight: float = Field(default=1.0, gt=0)
    """How much this row counts beside the others."""


def pairs_of(path: Path, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Data:
    """Pairs whose prompt leaves room for an answer: `prompt`, `chosen`, `rejected`, `p`.

    TRL renders them, by the same chat template, and cuts a side at the limit without an end-of-turn
    token: an answer that was cut, or is too long, teaches how to go on and never where to stop.

    Raises:
        TrainingError: a row is malformed, or no row is left.
    """
    pairs = list(rows_of(path, Pair))
    lengths = (len(rendered(tokenizer, pair.prompt, answer_follows=True)) for pair in pairs)
    kept = fitting(path, list(zip(pairs, lengths, strict=True)), max_length - 1)
    return Data(Dataset.from_list([pair.model_dump() for pair in kept]), len(pairs) - len(kept))


def weighted_of(path: Path, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Data:
    """Pairs in tokens, neither side too long: `chosen_ids`, `rejected_ids`, `margin`, `weight`, and
    the `length` of the longer side.

    Raises:
        TrainingError: a row is malformed, or no row is left.
    """
    return _short_enough(
        path, [_scored(row, tokenizer) for row in rows_of(path, Weighted)], max_length
    )


def _scored(row: Weighted, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    chosen, rejected = (
        answered(tokenizer, row.prompt, side) for side in (row.chosen, row.rejected)
    )
    length = max(len(chosen), len(rejected))
    sides = {"chosen_ids": chosen, "rejected_ids": rejected}
    return {**sides, "margin": row.margin, "weight": row.weight, "length": length}


def singles_of(pairs: Dataset, seed: int) -> Dataset:
    """Both sides of each pair as rows of their own: `prompt`, `completion`, `label`.

    KTO estimates how far the model has moved from answers put to their neighbours' prompts, and
    therefore never shuffles. So the order is drawn here, and the sides of a pair lie half the
    dataset apart: beside each other, every other answer would be put to its own prompt.
    """
    pairs = pairs.shuffle(seed=seed)
    count = len(pairs)
    rows = []
    for number in range(count):
        rows.append(_single(pairs[number], "chosen"))
        rows.append(_single(pairs[(number + count // 2) % count], "rejected"))
    return Dataset.from_list(rows)


def _single(pair: dict[str, Any], side: str) -> dict[str, Any]:
    return {"prompt": pair["prompt"], "completion": pair[side], "label": side == "chosen"}


def judged_of(path: Path, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Data:
    """Prompts as tokens, up to where the judge's turn begins: `better`, `worse`, `weight`, and the
    `length` of the longer one.

    Raises:
        TrainingError: a row is malformed, or no row is left.
    """
    return _short_enough(
        path, [_asked(row, tokenizer) for row in rows_of(path, Judged)], max_length
    )


def _short_enough(path: Path, rows: list[dict[str, Any]], max_length: int) -> Data:
    kept = fitting(path, [(row, row["length"]) for row in rows], max_length)
    return Data(Dataset.from_list(kept), len(rows) - len(kept))


def _asked(row: Judged, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    def ids(messages: Iterable[Message]) -> list[int]:
        return rendered(tokenizer, messages, answer_follows=True)

    better, worse = ids(row.better), ids(row.worse)
    length = max(len(better), len(worse))
    return {"better": better, "worse": worse, "weight": row.weight, "length": length}
