"""Plain values as JSON, and back as Python's own types: nothing that a program made comes along.

A subclass of a plain type arrives as that type (a Counter as a dict, a named tuple as a tuple), so
an `__eq__` of its own is left behind.
"""

import builtins
from collections.abc import Callable
from typing import Any

Keep = Callable[[Any], dict[str, Any]]
"""What becomes of a value that is not plain."""


def encode(value: Any, keep: Keep) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [encode(item, keep) for item in value]
    for kind in (tuple, set, frozenset):
        if isinstance(value, kind):
            return {kind.__name__: [encode(item, keep) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key, keep), encode(value[key], keep)] for key in value]}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": value.hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, type) and value in vars(builtins).values():
        return {"type": value.__name__}
    return keep(value)


def decode(said: Any, find: Callable[[int], Any]) -> Any:
    """The value again. `find` knows what is not plain by its number.

    Raises:
        Exception: of many kinds, where it is no value at all.
    """
    if isinstance(said, list):
        return [decode(item, find) for item in said]
    if not isinstance(said, dict):
        return said
    ((kind, content),) = said.items()
    if kind == "object":
        return find(content)
    if kind == "type":
        return builtin_type(content)
    if kind == "bytes":
        return bytes.fromhex(content)
    if kind == "complex":
        return complex(*content)
    whole: Callable[[Any], Any] = {
        "tuple": tuple,
        "set": set,
        "frozenset": frozenset,
        "dict": dict,
    }[kind]
    return whole(decode(item, find) for item in content)


def builtin_type(name: str) -> type:
    """One of Python's own types, exceptions among them.

    Raises:
        AttributeError, TypeError: there is none of that name.
    """
    found = getattr(builtins, name)
    if not isinstance(found, type):
        raise TypeError(f"{name} is no type")
    return found
