"""The tests' side of a check: the program's functions and objects, as tests hold them."""

import json
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NoReturn

from judges.verifiers.inside.values import builtin_type, decode, encode

MAX_ANSWER = 4 * 1024 * 1024
_SCHEDULED = 2
OWN_SHARE = 0.5
"""A program is slow if it had the processor for so much of its time."""


class Unfit(Exception):
    """A value that cannot be handed to the program."""


# No Exception: a test that expects any of those must not take this for one.
class Gone(BaseException):
    """The program's process has ended, or its time has."""


class Link:
    """Questions to the program, one at a time.

    Args:
        ask: where questions go.
        told: where answers come from.
        child: the program's process.
        most_s: longest time for all answers together, in seconds from now.
    """

    def __init__(self, ask: int, told: int, child: int, most_s: float) -> None:
        self._questions = os.fdopen(ask, "w")
        self._answers = os.fdopen(told)
        self._child = child
        self._end, self._waits = "", False
        self.last = ""
        """What the last question came to, for a message."""
        self.waited = ""
        """What is to be said of it instead if it was late and may not have been slow."""
        self._most_s = most_s
        signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, most_s)

    def ask(self, what: str, *given: Any, **named: Any) -> Any:
        """Have something done over there. What the program raises is raised here.

        Raises:
            Gone: the program's process has ended, or its time has.
            Unfit: a value cannot be handed over.
            Exception: whatever it raised, or what comes of an answer that is none.
        """
        question = json.dumps([what, encode(list(given), _number), _named(named)])
        answer = self._exchange(question)
        if "raised" in answer:
            self.last = f"{answer['raised']}: {answer['text']}".removesuffix(": ")
            raise _error(answer["raised"], self.last)
        for ours, now in zip(given, decode(answer["given"], self._remote), strict=True):
            _renew(ours, now)
        value = decode(answer["value"], self._remote)
        self.last = "it returned " + ("an object" if isinstance(value, Remote) else repr(value))
        return value

    def _ring(self, *_signal: object) -> None:
        """Time is up: an answer that is waited for is late, or else the next one will be."""
        if not self._end:
            self._end = late(self._most_s)
            self.waited = waited(self._most_s, _processor_s(self._child))
        if self._waits:
            self._gone(self._end)

    def _gone(self, why: str) -> NoReturn:
        self._end = self.last = why
        raise Gone(why)

    def _exchange(self, question: str) -> dict[str, Any]:
        try:
            self._waits = True
            if self._end:
                self._gone(self._end)
            line = ""
            with suppress(BrokenPipeError):
                self._questions.write(question + "\n")
                self._questions.flush()
                line = self._answers.readline(MAX_ANSWER)
            if not line:
                self._gone(f"the program ended its process ({_exit_of(self._child)})")
        finally:
            self._waits = False
        if not line.endswith("\n"):
            self._gone(f"the program returned more than {MAX_ANSWER} characters")
        return dict(json.loads(line))

    def _remote(self, number: int) -> "Remote":
        return Remote(self, number)


class Remote:
    """Something of the program's that is not plain. It is equal to nothing but itself."""

    def __init__(self, link: Link, number: int) -> None:
        self.__dict__.update(_link=link, _number=number)

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._link.ask("call", self, *given, **named)

    def __getattr__(self, name: str) -> Any:
        return self._link.ask("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._link.ask("setattr", self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._link.ask("getitem", self, key)

    def __iter__(self) -> Iterator[Any]:
        found: Iterator[Any] = self._link.ask("iter", self)
        return found if isinstance(found, Remote) else iter(())

    def __next__(self) -> Any:
        return self._link.ask("next", self)

    def __len__(self) -> int:
        return int(self._link.ask("len", self))

    def __str__(self) -> str:
        return str(self._link.ask("str", self))


def _named(named: dict[str, Any]) -> Any:
    return encode(named, _number)


def _number(value: Any) -> dict[str, Any]:
    if isinstance(value, Remote):
        return {"object": value._number}
    raise Unfit(f"a test hands over a {type(value).__name__}, which cannot leave its process")


def _error(name: str, text: str) -> Exception:
    """The exception of that name, if Python has it: tests may expect it."""
    try:
        found = builtin_type(name)
    except (AttributeError, TypeError):
        return RuntimeError(text)
    simple = issubclass(found, Exception) and not issubclass(found, UnicodeError)
    return found(text) if simple else RuntimeError(text)


def _renew(ours: Any, now: Any) -> None:
    """Bring a list, dictionary or set to what the program has made of its copy."""
    if type(ours) is not type(now):
        return
    if isinstance(ours, list):
        ours[:] = now
    elif isinstance(ours, (dict, set)):
        ours.clear()
        ours.update(now)


def late(limit_s: float) -> str:
    """What is said of a program whose time was up."""
    return f"took longer than {limit_s:g} s"


def waited(limit_s: float, worked_s: float) -> str:
    """What is said if it had the processor for too little of that; empty if it did not.

    Either the machine was busy or the program slept: nobody knows which.
    """
    slow = worked_s >= OWN_SHARE * limit_s
    return "" if slow else f"{late(limit_s)}, of which it worked {worked_s:.2g} s"


def _processor_s(process: int) -> float:
    """How long a process has had a processor, in seconds.

    Its clock is named as `clock_getcpuclockid` does: the number turned round, and which clock.
    """
    try:
        return time.clock_gettime((~process << 3) | _SCHEDULED)
    except OSError:
        return math.inf  # it has ended: nothing kept it waiting


def _exit_of(child: int) -> str:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
