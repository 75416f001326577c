"""Rows of a dataset file as the tokens to train on."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from transformers import PreTrainedTokenizerBase

from teachers.errors import TrainingError
from teachers.records import Message

_IGNORED = -100

_Ids = npt.NDArray[np.int32]


class Row(BaseModel):
    """One demonstration, in TRL's conversational prompt-completion columns."""

    model_config = ConfigDict(frozen=True)

    prompt: list[Message] = Field(min_length=1)
    completion: list[Message] = Field(min_length=1)


class Tokens(NamedTuple):
    rows: Dataset
    """`input_ids` and `labels`."""
    too_long: int
    """Rows left out because they exceed the limit: an answer cut short teaches not to end."""


def tokens_of(path: Path, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Tokens:
    """Render each row by the model's chat template; only its completion gets labels.

    Raises:
        TrainingError: a row is malformed, or no row is left.
    """
    rows = [_rendered(row, tokenizer) for row in _rows(path)]
    if not rows:
        raise TrainingError(f"{path} has no rows to train on.")
    kept = [(ids, labels) for ids, labels in rows if len(ids) <= max_length]
    if not kept:
        raise TrainingError(f"All {len(rows)} rows of {path} exceed {max_length} tokens.")
    ids, labels = zip(*kept, strict=True)
    columns = {"input_ids": list(ids), "labels": list(labels)}
    return Tokens(Dataset.from_dict(columns), len(rows) - len(kept))


def _rendered(row: Row, tokenizer: PreTrainedTokenizerBase) -> tuple[_Ids, _Ids]:
    render = cast("Callable[..., list[int]]", tokenizer.apply_chat_template)
    prompt = [message.model_dump() for message in row.prompt]
    completion = [message.model_dump() for message in row.completion]
    asked = render(prompt, add_generation_prompt=True, return_dict=False)
    whole = render(prompt + completion, return_dict=False)
    # Some templates render the end of a prompt otherwise once an answer follows: from there on it
    # is completion.
    pairs = enumerate(zip(asked, whole, strict=False))
    start = next((n for n, (a, b) in pairs if a != b), min(len(asked), len(whole)))
    ids = np.array(whole, dtype=np.int32)
    labels = ids.copy()
    labels[:start] = _IGNORED
    return ids, labels


def _rows(path: Path) -> Iterator[Row]:
    try:
        lines = path.open()
    except OSError as missing:
        raise TrainingError(f"The dataset {path} cannot be read: {missing}") from missing
    with lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield Row.model_validate_json(line)
            except ValidationError as broken:
                what = broken.errors()[0]["msg"]
                raise TrainingError(f"{path}, line {number} is not a row: {what}") from broken
