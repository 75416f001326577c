"""Whether a text writes down a power that nobody could work out: 9**9**9**9.

Told by its form, in logarithms. What this cannot read is left to the pool's time limit.
"""

import ast
import math
import re
import warnings
from collections.abc import Iterator

MOST_DIGITS = 20_000
"""More than an answer has, and few enough to compare in no time."""
_OPERATORS = ((r"\left", ""), (r"\right", ""), (r"\cdot", "*"), (r"\times", "*"), ("^", "**"))
_ARITHMETIC = re.compile(r"[\d.()+*/ -]*\*\*[\d.()+*/ -]*")
_BRACKETS = str.maketrans("{}[]", "()()")
_LARGEST = 12.0  # an exponent of so many digits is too large, however much larger it is


def too_large(text: str) -> bool:
    """Whether some power of numbers in `text` has more than `MOST_DIGITS` digits."""
    for written, plain in _OPERATORS:
        text = text.replace(written, plain)
    text = re.sub(r"(?<=\d),(?=\d)", "", text).translate(_BRACKETS)
    for found in _ARITHMETIC.finditer(text):
        tree = _read(found[0])
        try:
            if tree and any(_digits(node) > MOST_DIGITS for node in _powers(tree)):
                return True
        except RecursionError:  # a tower of a thousand floors
            return True
    return False


def _read(piece: str) -> ast.AST | None:
    """A piece as arithmetic; where its brackets do not match, as if it had none."""
    piece = re.sub(r"(?<![\d.])0+(?=\d)", "", piece.strip("*/ "))
    for attempt in (piece, re.sub(r"[() ]", "", piece).strip("*/")):
        try:
            with warnings.catch_warnings(action="ignore"):  # 2(3) looks like a call
                return ast.parse(attempt, mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return None


def _powers(tree: ast.AST) -> Iterator[ast.BinOp]:
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            yield node


def _digits(node: ast.AST) -> float:
    """At most so many digits has it, before the point or after it."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return abs(math.log10(value)) if 0 < value < math.inf else 0.0
        case ast.UnaryOp():
            return _digits(node.operand)
        case ast.BinOp(op=ast.Pow()):
            return _digits(node.left) * 10 ** min(_digits(node.right), _LARGEST)
        case ast.BinOp(op=ast.Mult() | ast.Div()):
            return _digits(node.left) + _digits(node.right)
        case ast.BinOp():
            return max(_digits(node.left), _digits(node.right)) + 1
        case ast.Call():  # 2(3)
            return _digits(node.func) + sum(map(_digits, node.args))
    return 0.0
