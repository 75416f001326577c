"""Prompts from a JSONL file with a question and an answer a line, GSM8K's format included."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from teachers.errors import ConfigError
from teachers.records import Prompt

# GSM8K's worked answers end in a line `#### N`: N is the answer, the rest is the working.
_GSM8K_MARK = "####"


class BadLine(NamedTuple):
    """A line that is no prompt. It is told, and the others go on."""

    path: Path
    number: int
    """Counted from 1."""
    why: str

    def __str__(self) -> str:
        return f"{self.path}:{self.number}: {self.why}"


def read(
    path: Path, task: str, *, question: str, answer: str, verifier: str
) -> Iterator[Prompt | BadLine]:
    """Prompts of a file, in order, and its bad lines where they stand.

    Args:
        path: a JSONL file.
        task: what the task is called in reports.
        question: the field that holds the question.
        answer: the field that holds the reference answer; not looked for with verifier `none`.
        verifier: which verifier decides.

    Raises:
        ConfigError: the file is not there or holds no line at all.
    """
    if not path.is_file():
        raise ConfigError(f"There is no file {path}.")
    empty = True
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            empty = False
            try:
                yield _prompt(json.loads(line), task, question, answer, verifier)
            except (ValueError, TypeError, RecursionError) as wrong:
                yield BadLine(path, number, str(wrong) or "not JSON")
    if empty:
        raise ConfigError(
            f"{path} is empty.", hint="It needs one JSON object a line, with question and answer."
        )


def _prompt(row: Any, task: str, question: str, answer: str, verifier: str) -> Prompt:
    if not isinstance(row, dict):
        raise TypeError("not a JSON object")
    checked = verifier != "none"
    for field in (question, answer) if checked else (question,):
        if not isinstance(row.get(field), str | int | float) or not str(row[field]).strip():
            raise TypeError(f"no {field!r} in it")
        str(row[field]).encode()  # half a surrogate pair is no text, and nobody could store it
    if not checked:
        return Prompt(task=task, question=str(row[question]).strip(), verifier=verifier)
    worked, mark, final = str(row[answer]).rpartition(_GSM8K_MARK)
    return Prompt(
        task=task,
        question=str(row[question]).strip(),
        reference=final.strip(),
        verifier=verifier,
        # The working is what decontamination compares: a bare number has no identity.
        entry={"working": worked.strip()} if mark else {},
    )
