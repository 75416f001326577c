"""Pairs whose better answer is known: a principle's cases, or a file of preference pairs."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from judges.records import Comparison
from pipelines.store.judgements import Compared, Origin
from teachers.errors import ConfigError
from teachers.records import Message, content_id

# Anthropic's hh-rlhf has whole conversations as one text.
_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


class Known(NamedTuple):
    """A pair whose better answer is known."""

    compared: Compared
    first_is_better: bool
    sealed: bool | None = None
    """Of a case: whether it is kept out of sight while judge prompts are written."""


def known(conversation: Sequence[Message], better: str, worse: str, origin: Origin) -> Known:
    """A pair with its better answer put first or second by a hash: no place is the right one."""
    turns = [turn.model_dump() for turn in conversation]
    first_is_better = int(content_id("place", [turns, better, worse])[0], 16) % 2 == 0
    first, second = (better, worse) if first_is_better else (worse, better)
    comparison = Comparison(conversation=tuple(conversation), first=first, second=second)
    return Known(Compared(comparison, origin), first_is_better)


def read_gold(path: Path) -> list[Known]:
    """Preference pairs of a JSONL file: `chosen` and `rejected`, with or without a `prompt`.

    Each of the three is a text or a list of messages. Without a prompt, a text is a transcript as
    in hh-rlhf, and the last turn is the answer.

    Raises:
        ConfigError: the file cannot be read, or a line is no preference pair.
    """
    try:
        # Not splitlines: it also splits at separators that JSON allows inside of a text.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as missing:
        raise ConfigError(f"The gold file {path} cannot be read: {missing}") from missing
    pairs = []
    for number, line in enumerate(lines, start=1):
        try:
            pairs += [_pair(json.loads(line))] if line.strip() else []
        except (ValueError, TypeError, KeyError, RecursionError) as wrong:
            raise ConfigError(
                f"{path}, line {number} is no preference pair: {wrong}",
                hint="It needs `chosen` and `rejected`, and `prompt` unless they are transcripts.",
            ) from wrong
    if not pairs:
        raise ConfigError(f"{path} holds no preference pair.")
    return pairs


def _pair(row: dict[str, Any]) -> Known:
    asked = _turns(row["prompt"], "user") if "prompt" in row else ()
    chosen, rejected = _whole(asked, row["chosen"]), _whole(asked, row["rejected"])
    if chosen[:-1] != rejected[:-1]:
        raise ValueError("chosen and rejected answer different conversations")
    return known(chosen[:-1], chosen[-1].content, rejected[-1].content, "gold")


def _whole(asked: tuple[Message, ...], said: Any) -> tuple[Message, ...]:
    """A conversation with its answer, whether or not what was said repeats what was asked."""
    turns = _turns(said, "assistant" if asked else None)
    whole = turns if turns[: len(asked)] == asked else (*asked, *turns)
    if len(whole) < 2 or whole[-1].role != "assistant":
        raise ValueError("it does not end with an answer to something")
    "".join(turn.content for turn in whole).encode()  # half a character cannot be stored or sent
    return whole


def _turns(said: Any, role: str | None) -> tuple[Message, ...]:
    if isinstance(said, list):
        return tuple(Message(role=turn["role"], content=turn["content"]) for turn in said)
    if role is not None:
        return (Message.model_validate({"role": role, "content": said}),)
    _, *parts = _TURN.split(said)
    if not parts:
        raise ValueError("no prompt, and no transcript either")
    turns = zip(parts[::2], parts[1::2], strict=True)
    return tuple(
        Message.model_validate({"role": _ROLES[who], "content": text.strip()})
        for who, text in turns
    )
