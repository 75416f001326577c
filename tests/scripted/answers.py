"""What the scripted model says: sums, right in a chosen share of cases, the same every time."""

import hashlib
import json
import re
from typing import Any

_SUM = re.compile(r"-?\d+(?:\s*[-+*]\s*-?\d+)+")
_PART = re.compile(r"([-+*]?)\s*(-?\d+)")
_OPENINGS = (
    "",
    "Let me work it out. ",
    "Step by step: ",
    "First I write the problem down. ",
    "We take the numbers in order. ",
    "This is a sum. ",
    "To find the result, calculate from left to right. ",
    "Carefully now. ",
)
_CLOSINGS = (
    "",
    " That is the result.",
    " I checked it once more.",
    " So we are done.",
    " Nothing is left to add.",
    " This is what was asked.",
)


def answers(request: dict[str, Any], right: float) -> list[str]:
    """The `n` answers to a chat request; the same request always gets the same ones.

    Args:
        request: the body; its messages and sampling decide, the model's name does not.
        right: share of answers that state the true result of the last sum in the last message.
    """
    asked = [request.get(key) for key in ("messages", "temperature", "top_p", "max_tokens", "n")]
    seed = json.dumps(asked, sort_keys=True).encode()
    question = str(request["messages"][-1]["content"])
    return [_answer(question, _draw(seed, index), right) for index in range(request.get("n") or 1)]


def value_of(expression: str) -> int:
    """The value of a chain of whole numbers joined by +, - and *."""
    total = product = 0
    for operator, number in _PART.findall(expression):
        if operator == "*":
            product *= int(number)
        else:
            total, product = total + product, -int(number) if operator == "-" else int(number)
    return total + product


def _answer(question: str, draw: bytes, right: float) -> str:
    sums = _SUM.findall(question)
    expression = sums[-1] if sums else "The answer"
    value = value_of(expression) if sums else draw[9]
    if int.from_bytes(draw[:4]) / 2**32 >= right:
        value += 1 + draw[4] % 9
    opening = _OPENINGS[draw[5] % len(_OPENINGS)]
    closing = _CLOSINGS[draw[6] % len(_CLOSINGS)]
    return f"{opening}{expression} = {value}.{closing}\nAnswer: {value}"


def _draw(seed: bytes, index: int) -> bytes:
    return hashlib.sha256(seed + index.to_bytes(4)).digest()
