"""How often a function of ours is called, so that a test knows who did the work."""

from typing import Any

import pytest


def counted(patch: pytest.MonkeyPatch, owner: object, name: str) -> list[str]:
    """A list that is one longer after each call of that function, which does what it did."""
    theirs, calls = getattr(owner, name), list[str]()

    def call(*args: Any, **how: Any) -> Any:
        calls.append(name)
        return theirs(*args, **how)

    patch.setattr(owner, name, call)
    return calls
