"""Rows of a dataset file as the tokens to train on: what every objective shares, and sft's own."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from transformers import PreTrainedTokenizerBase

from teachers.errors import TrainingError
from teachers.records import Message

_IGNORED = -100

_Ids = npt.NDArray[np.int32]
_Row = TypeVar("_Row", bound=BaseModel)
_Kept = TypeVar("_Kept")


class Row(BaseModel):
    """One demonstration, in TRL's conversational prompt-completion columns."""

    model_config = ConfigDict(frozen=True)

    prompt: list[Message] = Field(min_length=1)
    completion: list[Message] = Field(min_length=1)


class Data(NamedTuple):
    rows: Dataset
    too_long: int
    """Rows left out because they exceed the limit."""


def tokens_of(path: Path, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Data:
    """Render each row by the model's chat template; only its completion gets labels.

    Rows beyond the limit are left out: an answer cut short would be taught as a whole one.

    Returns:
        `input_ids` and `labels`.

    Raises:
        TrainingError: a row is malformed, or no row is left.
    """
    rows = [_rendered(row, tokenizer) for row in rows_of(path, Row)]
    kept = fitting(path, [(row, len(row[0])) for row in rows], max_length)
    ids, labels = zip(*kept, strict=True)
    columns = {"input_ids": list(ids), "labels": list(labels)}
    return Data(Dataset.from_dict(columns), len(rows) - len(kept))


def _rendered(row: Row, tokenizer: PreTrainedTokenizerBase) -> tuple[_Ids, _Ids]:
    asked = rendered(tokenizer, row.prompt, answer_follows=True)
    whole = rendered(tokenizer, [*row.prompt, *row.completion])
    # Some templates render the end of a prompt otherwise once an answer follows: from there on it
    # is completion.
    pairs = enumerate(zip(asked, whole, strict=False))
    start = next((n for n, (a, b) in pairs if a != b), min(len(asked), len(whole)))
    ids = np.array(whole, dtype=np.int32)
    labels = ids.copy()
    labels[:start] = _IGNORED
    return ids, labels


def rendered(
    tokenizer: PreTrainedTokenizerBase, messages: Iterable[Message], *, answer_follows: bool = False
) -> list[int]:
    """A conversation as tokens, by the model's chat template."""
    render = cast("Callable[..., list[int]]", tokenizer.apply_chat_template)
    turns = [message.model_dump() for message in messages]
    return render(turns, add_generation_prompt=answer_follows, return_dict=False)


def answered(
    tokenizer: PreTrainedTokenizerBase, question: Iterable[Message], answer: Iterable[Message]
) -> list[int]:
    """Question and answer as tokens, to the end of the answer's turn: as a policy would give it.

    Templates often put a line break behind that.
    """
    whole = rendered(tokenizer, [*question, *answer])
    ends = [at for at, token in enumerate(whole, start=1) if token == tokenizer.eos_token_id]
    behind = whole[ends[-1] :] if ends else []
    return whole[: len(whole) - len(behind)] if _blank(tokenizer, behind) else whole


def _blank(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> bool:
    return not str(tokenizer.decode(tokens)).strip()


def fitting(path: Path, rows: Sequence[tuple[_Kept, int]], max_length: int) -> list[_Kept]:
    """The rows, given with their lengths in tokens, that are no longer than the limit.

    Raises:
        TrainingError: there is none.
    """
    if not rows:
        raise TrainingError(f"{path} has no rows to train on.")
    kept = [row for row, length in rows if length <= max_length]
    if not kept:
        raise TrainingError(f"All {len(rows)} rows of {path} exceed {max_length} tokens.")
    return kept


def rows_of(path: Path, kind: type[_Row]) -> Iterator[_Row]:
    """The rows of a JSONL file.

    Raises:
        TrainingError: the file cannot be read, or a line is no such row.
    """
    try:
        lines = path.open()
    except OSError as missing:
        raise TrainingError(f"The dataset {path} cannot be read: {missing}") from missing
    with lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield kind.model_validate_json(line)
            except ValidationError as broken:
                what = broken.errors()[0]["msg"]
                raise TrainingError(f"{path}, line {number} is not a row: {what}") from broken
