"""Verifiers: one rule, one file, one plain function `check(answer, reference, entry)`.

A rule takes what it looks at (the final answer that `judges.answer` has found, or the whole text),
what it is checked against, and its parameters; it returns a `Verification`. Everything here can
hang or crash on hostile input, so it runs in the killable children of `judges.verifiers.pool`.
Other people's rules are named `module:function` (`judges.verifiers.third_party`).
"""

from typing import Any

from pydantic import ValidationError

from judges.answer import readings
from judges.records import Parser, Verification
from judges.verifiers import (
    choice,
    code,
    constraints,
    exact,
    form,
    json_schema,
    language,
    length,
    math,
    number,
    reasoning_gym,
    regex,
    repetition,
    similarity,
    text,
    third_party,
)
from judges.verifiers.parameters import Nothing, faults, in_one_line, names
from judges.verifiers.verifier import Verifier
from teachers.errors import VerifierError

VERIFIERS = {
    "choice": Verifier(choice.check, 2, entry=choice.Entry),
    "code": Verifier(
        code.check, 1, entry=code.Entry, whole=True, deadline_s=code.DEADLINE_S, load=code.load
    ),
    "constraints": Verifier(
        constraints.check, 1, entry=constraints.Entry, whole=True, load=constraints.load
    ),
    "exact": Verifier(exact.check, 2, entry=Nothing),
    "format": Verifier(form.check, 1, entry=form.Entry, whole=True),
    "json_schema": Verifier(
        json_schema.check, 1, entry=json_schema.Entry, whole=True, load=json_schema.load
    ),
    "language": Verifier(language.check, 1, entry=language.Entry, whole=True, load=language.load),
    "length": Verifier(length.check, 1, entry=length.Entry, whole=True),
    "math": Verifier(math.check, 2, entry=Nothing, load=math.load),
    "number": Verifier(number.check, 2, entry=Nothing, load=math.load),
    "reasoning_gym": Verifier(reasoning_gym.check, 2, load=reasoning_gym.load),
    "regex": Verifier(regex.check, 1, entry=regex.Entry, whole=True),
    "repetition": Verifier(repetition.check, 1, entry=repetition.Entry, whole=True),
    "similarity": Verifier(similarity.check, 1, entry=similarity.Entry, whole=True),
    "text": Verifier(text.check, 2, entry=Nothing),
}

# Hostile answers are long; honest ones are not.
MAX_ANSWER_CHARACTERS = 2000
MAX_TEXT_CHARACTERS = 200_000


def find(name: str) -> Verifier:
    """The verifier of that name: one of ours, or `module:function`.

    Raises:
        VerifierError: there is no such verifier.
    """
    if ":" in name:
        return third_party.find(name)
    if name not in VERIFIERS:
        raise VerifierError(
            f"There is no verifier {name!r}.",
            hint="There are: " + ", ".join(sorted(VERIFIERS)) + "; or name one `module:function`.",
        )
    return VERIFIERS[name]


def versioned(name: str) -> str:
    """`number/1`: the name that verdicts are filed under.

    Raises:
        VerifierError: there is no such verifier.
    """
    return f"{name}/{find(name).version}"


def parameters_of(name: str) -> set[str] | None:
    """The names of the parameters that a rule takes; None if that is not known.

    Raises:
        VerifierError: there is no such verifier.
    """
    kind = find(name).entry
    return set(names(kind)) if kind else None


def unfit(name: str, entry: dict[str, Any]) -> str:
    """What is wrong with parameters that are given to a rule, or a part of them; empty if nothing
    is. Rules that other people wrote do not say what they take, so anything is fine for them.

    Raises:
        VerifierError: there is no such verifier.
    """
    kind = find(name).entry
    return faults(name, kind, entry) if kind else ""


def verify(
    text: str, verifier: str, parser: Parser, reference: str | None, entry: dict[str, Any]
) -> Verification:
    """Check a model's text. Whatever goes wrong is a state, not a 0.

    An answer that can be read in several ways is verified if one of them is; otherwise the last
    reading counts. A rule about the whole text has no use for the parser.

    Raises:
        VerifierError: there is no such verifier.
    """
    rule = find(verifier)
    try:
        f"{text}{reference or ''}".encode()
    except UnicodeEncodeError:
        reason = "half a surrogate pair: this is no text"
        return Verification(state="unparsed", reason=reason)
    if rule.whole:
        return _check(rule, text, reference, entry, MAX_TEXT_CHARACTERS)
    found = Verification(state="unparsed", reason=f"no final answer found ({parser})")
    for answer in readings(text, parser):
        found = _check(rule, answer, reference, entry, MAX_ANSWER_CHARACTERS)
        if found.state == "verified":
            break
    return found


def _check(
    rule: Verifier, answer: str, reference: str | None, entry: dict[str, Any], most: int
) -> Verification:
    if len(answer) > most:
        what = "text" if rule.whole else "answer"
        reason = f"the {what} is longer than {most} characters"
        return Verification(state="unparsed", reason=reason)
    try:
        found: Any = rule.check(answer, reference, entry)  # a stranger may return anything
    except ValidationError as wrong:
        found = Verification(state="error", reason=in_one_line(wrong))
    except SystemExit as ended:  # a stranger's, and no reason to lose the process
        found = Verification(state="error", reason=f"the rule called sys.exit({ended.code!r})")
    except Exception as broken:  # a verifier's own bug says nothing about the sample
        reason = f"{type(broken).__name__}: {broken}"[:300]
        found = Verification(state="error", reason=reason)
    if not isinstance(found, Verification):
        reason = f"the rule returned {found!r:.80}, and not a judges.records.Verification"
        return Verification(state="error", reason=reason)
    # A whole text is kept as a sample already.
    return found if rule.whole else found.model_copy(update={"answer": answer})
