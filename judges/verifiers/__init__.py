"""Rule-based verifiers: one rule, one file, one plain function.

A verifier takes an answer and what it is checked against, and returns a `Verification`. It never
sees the text around the answer: `judges.answer` has found it before. Everything here can hang or
crash on hostile input, so it runs in the killable children of `judges.verifiers.pool`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from judges.answer import readings
from judges.records import Parser, Verification
from judges.verifiers import exact, number, reasoning_gym
from teachers.errors import VerifierError

Check = Callable[[str, str | None, dict[str, Any]], Verification]
"""(answer, reference, entry) -> what the verifier found."""


class Verifier(NamedTuple):
    """A rule, and the version that its verdicts are filed under."""

    check: Check
    version: int


VERIFIERS = {
    "exact": Verifier(exact.check, 1),
    "number": Verifier(number.check, 1),
    "reasoning_gym": Verifier(reasoning_gym.check, 1),
}

# Hostile answers are long; honest ones are not.
MAX_ANSWER_CHARACTERS = 2000


def versioned(name: str) -> str:
    """`number/1`: the name that verdicts are filed under.

    Raises:
        VerifierError: there is no such verifier.
    """
    if name not in VERIFIERS:
        raise VerifierError(
            f"There is no verifier {name!r}.", hint="There are: " + ", ".join(sorted(VERIFIERS))
        )
    return f"{name}/{VERIFIERS[name].version}"


def verify(
    text: str, verifier: str, parser: Parser, reference: str | None, entry: dict[str, Any]
) -> Verification:
    """Find the answer in a model's text and check it. Whatever goes wrong is a state, not a 0.

    An answer that can be read in several ways is verified if one of them is; otherwise the last
    reading counts.
    """
    found = Verification(state="unparsed", reason=f"no final answer found ({parser})")
    for answer in readings(text, parser):
        found = _check(answer, verifier, reference, entry)
        if found.state == "verified":
            break
    return found


def _check(
    answer: str, verifier: str, reference: str | None, entry: dict[str, Any]
) -> Verification:
    if len(answer) > MAX_ANSWER_CHARACTERS:
        reason = f"the answer is longer than {MAX_ANSWER_CHARACTERS} characters"
        return Verification(state="unparsed", reason=reason)
    try:
        found = VERIFIERS[verifier].check(answer, reference, entry)
    except Exception as broken:  # a verifier's own bug says nothing about the sample
        reason = f"{type(broken).__name__}: {broken}"[:300]
        return Verification(state="error", reason=reason, answer=answer)
    return found.model_copy(update={"answer": answer})
