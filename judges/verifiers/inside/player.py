"""The program's side of a check: it loads the program and does what it is asked."""

import json
import operator
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from judges.verifiers.inside.values import decode, encode


class Player:
    """The program, loaded on demand, and whatever it has made that cannot be told as JSON."""

    def __init__(self, program: str) -> None:
        self._program = program
        # A dataclass and others look their module up.
        self._module = sys.modules["program"] = ModuleType("program")
        self._objects: list[Any] = []
        self._does: dict[str, Callable[..., Any]] = {
            "load": self._load,
            "names": lambda: list(self._module.__dict__),
            "name": self._module.__dict__.__getitem__,
            "call": lambda target, *given, **named: target(*given, **named),
            "getattr": getattr,
            "setattr": setattr,
            "getitem": operator.getitem,
            "iter": iter,
            "next": next,
            "len": len,
            "str": str,
        }

    def play(self, asked: int, tell: int) -> None:
        """Answer the questions in `asked` until there are no more."""
        with os.fdopen(asked) as questions, os.fdopen(tell, "w") as answers:
            for question in questions:
                answers.write(self._answer(question) + "\n")
                answers.flush()

    def _answer(self, question: str) -> str:
        what, given, named = json.loads(question)
        try:
            given = decode(given, self._objects.__getitem__)
            value = self._does[what](*given, **decode(named, self._objects.__getitem__))
            # The arguments go back too: the program may have changed a list that it was given.
            return json.dumps({"value": self._told(value), "given": self._told(given)})
        except BaseException as error:  # SystemExit is an answer as well
            return json.dumps({"raised": type(error).__name__, "text": str(error)[:200]})

    def _load(self) -> None:
        exec(compile(self._program, "program.py", "exec"), self._module.__dict__)

    def _told(self, value: Any) -> Any:
        return encode(value, self._keep)

    def _keep(self, value: Any) -> dict[str, Any]:
        self._objects.append(value)
        return {"object": len(self._objects) - 1}
