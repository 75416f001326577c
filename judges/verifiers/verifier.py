"""What a verifier is: a rule, and what the pool has to know about it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from pydantic import BaseModel

from judges.records import Verification

Check = Callable[[str, str | None, dict[str, Any]], Verification]
"""(answer or text, reference, entry) -> what the verifier found."""

DEADLINE_S = 5.0


def _nothing() -> None:
    """Most rules have nothing to load."""


class Verifier(NamedTuple):
    """A rule, and the version that its verdicts are filed under."""

    check: Check
    version: int | str
    """Another one whenever a verdict can change: everything is asked again then."""
    whole: bool = False
    """It looks at the whole text, and not at the final answer in it."""
    deadline_s: float = DEADLINE_S
    """Longest one check may take, in seconds, before its process is killed."""
    load: Callable[[], object] = _nothing
    """Imports what takes long; a process calls it once, before any clock runs."""
    entry: type[BaseModel] | None = None
    """The parameters that it takes; None if that is not known."""
