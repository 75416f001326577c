"""Looking that may take long, in a process of its own: bounded in time, and neither the champion's
answers nor other requests wait for it.

    python -m service.aside preview|measure

The child reads what is asked as JSON, and ends with a line of JSON: the answer, or an error of
ours.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel

from pipelines.home import Home
from service import looking
from service.problems import Conflict
from service.worker import environment
from teachers import errors
from teachers.errors import Busy, PreceptorError
from teachers.process import die_with_parent

LONGEST_S = 60.0
_WAIT_S = 1.0
_AT_ONCE = threading.BoundedSemaphore(2)

Answer = TypeVar("Answer", bound=BaseModel)


class Task(NamedTuple):
    """Something that a child can do."""

    asked: type[BaseModel]
    do: Callable[[Home, Any], BaseModel]


TASKS = {
    "preview": Task(looking.Asked, looking.preview),
    "measure": Task(looking.Cases, looking.measure),
}


class Told(BaseModel):
    """What a child ends with."""

    answer: dict[str, Any] = {}
    error: str = ""
    """The class of an error; empty if there is an answer."""
    message: str = ""
    hint: str = ""


def answered(home: Home, task: str, asked: BaseModel, kind: type[Answer]) -> Answer:
    """Have a child do one of `TASKS`.

    Args:
        kind: what it answers with.

    Raises:
        Busy: enough of them are at work.
        Conflict: it takes longer than `LONGEST_S`.
        PreceptorError: whatever the child has raised.
    """
    if not _AT_ONCE.acquire(timeout=_WAIT_S):
        raise Busy("Other previews are being made.", hint="Ask again in a moment.")
    try:
        told = _run(home, task, asked.model_dump_json())
    finally:
        _AT_ONCE.release()
    if told.error:
        raise getattr(errors, told.error)(told.message, hint=told.hint)
    return kind.model_validate(told.answer)


def _run(home: Home, task: str, asked: str) -> Told:
    try:
        child = subprocess.run(
            [sys.executable, "-m", "service.aside", task],
            input=asked.encode(),
            stdout=subprocess.PIPE,  # what goes wrong is in the service's log
            env={**environment(home), "HF_HUB_OFFLINE": "1"},
            timeout=LONGEST_S,
            preexec_fn=die_with_parent(os.getpid()),
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise Conflict(
            f"This takes longer than {LONGEST_S:.0f} s, and was stopped.",
            hint="On the service's machine, preceptor constitution preview has no limit.",
        ) from late
    if child.returncode:
        raise PreceptorError(f"The process that looks at this has ended with {child.returncode}.")
    return Told.model_validate_json(child.stdout.splitlines()[-1])


def main(task: str) -> Told:
    """In the child: do it, and tell."""
    asked, do = TASKS[task]
    try:
        found = do(Home.find(), asked.model_validate_json(sys.stdin.buffer.read()))
    except PreceptorError as refused:
        return Told(error=type(refused).__name__, message=refused.message, hint=refused.hint)
    return Told(answer=found.model_dump(mode="json"))


if __name__ == "__main__":
    sys.stdout.buffer.write(main(sys.argv[1]).model_dump_json().encode())
