"""Programs that a model wrote, against tests: asserts, test functions, or input and output.

The verdict comes from nothing that the program can write. Tests run in a process of their own
(`inside/referee.py`): it asks the program for results and compares plain values that were JSON on
the way, so the program neither sees what is expected nor runs any code where it is compared.

| trick                                        | what becomes of it                           |
|----------------------------------------------|----------------------------------------------|
| os._exit(0), sys.exit before the assertions  | refuted: it ended its process                |
| printing or writing a success marker         | nothing: there is none to write              |
| patching builtins, json, unittest, math      | nothing: it has its own                      |
| an `__eq__` that says yes, subclasses of int | compared as plain values, or unequal         |
| catching AssertionError, atexit, frames      | nothing: nobody asserts in its process       |
| reading or overwriting the tests             | nothing: they are in no file, and not there  |
| a function that is named like a builtin      | nothing: tests mean Python's own             |
| knowing the tests' answers by heart          | not covered: keep some tests back            |
| any object, where a test asks `assert f(x)`  | not covered: tests should compare            |
| an endless loop                              | refuted: it took longer than its limit       |
| sleep, no answer                             | timeout: a busy machine would look the same  |

The price: a test can hand over and get back plain values, and hold objects of the program's, call
them and read their attributes; it cannot hand over a function of its own (`not_applicable`), and
two of the program's objects are never equal.
"""

import ast
import json
import signal
import textwrap
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from judges.records import Verification, VerificationState
from judges.verifiers.inside.link import late, waited
from judges.verifiers.jail import Limits
from judges.verifiers.sandbox import Outcome, best_tier, run
from judges.verifiers.watch import START_S
from teachers.errors import VerifierError
from teachers.reasoning import split_thinking

MOST_S = 20.0
"""Longest time for all cases of one program, and for all its tests."""
GRACE_S = 2.0
"""A referee ends a program that is late; if so long after that there is no end, it hangs itself."""
DEADLINE_S = MOST_S + GRACE_S + START_S + 3.0
MAX_WORDS = 200
INSIDE = Path(__file__).with_name("inside")
# Modules that a jail loads, each after those that it imports.
OURS = ("values", "link", "player", "referee")


class Case(BaseModel):
    """What a program reads, and what it has to print."""

    model_config = ConfigDict(frozen=True)

    stdin: str = ""
    stdout: str


class Entry(BaseModel):
    """What a prompt may say. MBPP's own fields are among them."""

    model_config = ConfigDict(frozen=True)

    test_list: tuple[str, ...] = ()
    challenge_test_list: tuple[str, ...] = ()
    test_setup_code: str = ""
    """Runs before the tests."""
    tests: str = ""
    """Asserts, functions `test...`, unittest's cases, or a `check(candidate)`."""
    cases: tuple[Case, ...] = ()
    """Whole programs: compared word by word, however the words are spaced."""
    entry_point: str | None = None
    """The function that is asked for."""
    code: str = ""
    """A right solution: tells which functions are asked for, where one is named like a builtin."""
    time_limit_s: float = Field(5.0, gt=0, le=MOST_S)
    """For all tests, or for each case."""
    memory_mb: int = Field(512, ge=64, le=4096)


def load() -> None:
    """Find the jail that works here, before any clock runs; what is amiss is told by `check`."""
    try:
        best_tier()
    except VerifierError:
        return


def check(text: str, reference: str | None, entry: dict[str, Any]) -> Verification:
    """Verified if the program in the text passes every test; its score is the share that passes.

    Args:
        text: all that the model wrote.
        reference: a right solution, or None.
        entry: fields of `Entry`.
    """
    wanted = Entry.model_validate(entry)
    tests = [*wanted.test_list, *wanted.challenge_test_list, *filter(None, [wanted.tests])]
    if not tests and not wanted.cases:
        return Verification(state="not_applicable", reason="there are no tests")
    program = program_in(text)
    if program is None:
        return Verification(state="unparsed", reason=_why_no_program(text))
    if reason := _unfit(tests, wanted, reference or wanted.code):
        return Verification(state="not_applicable", reason=reason)
    limits = Limits(
        wall_s=wanted.time_limit_s,
        cpu_s=int(wanted.time_limit_s) + 1,
        memory_bytes=wanted.memory_mb * 1024**2,
    )
    try:
        if tests:
            return _by_tests(program, tests, wanted, reference or wanted.code, limits)
        return _by_cases(program, wanted.cases, limits)
    except VerifierError as none:
        return Verification(state="error", reason=str(none))


_NO_ENTRY_POINT = (
    "the tests are a check(candidate), and the entry lacks entry_point: the name of the function "
    "that is its candidate"
)

# --- Tests --------------------------------------------------------------------------------------


def _by_tests(
    program: str, tests: list[str], entry: Entry, solution: str, limits: Limits
) -> Verification:
    job = {
        "setup": entry.test_setup_code,
        "tests": tests,
        "entry_point": entry.entry_point,
        "own": sorted({*_defined(solution), *filter(None, [entry.entry_point])}),
        "time_limit_s": limits.wall_s,
    }
    within = limits._replace(wall_s=limits.wall_s + GRACE_S)
    outcome = run(program, stdin=json.dumps(job), ours=_ours(), limits=within)
    findings = [json.loads(line) for line in outcome.stdout.splitlines(True) if line[-1] == "\n"]
    results = [(label, wrong) for label, wrong in (f for f in findings if isinstance(f, list))]
    passed = sum(wrong is None for _, wrong in results)
    end = findings[-1] if findings and isinstance(findings[-1], dict) else {}
    if "unfit" in end:
        return _finding("not_applicable", end["unfit"], outcome)
    if outcome.state == "timeout":
        before = f"; {passed} tests passed before" if passed else ""
        return _finding("timeout", f"the tests do not end{before}", outcome)
    if outcome.state != "finished" or "ran" not in end:
        return _finding("error", f"the tests cannot run: {_last_words(outcome)}", outcome)
    for label, wrong in results:
        if wrong is not None:
            share = f"{passed} of {end['ran']} tests pass; " if end["ran"] else ""
            reason = f"{share}{label}: {wrong}"
            return _finding("refuted", reason, outcome, passed / max(1, end["ran"]))
    if end["waited"]:
        return _finding("timeout", end["waited"], outcome)
    if not passed:
        lacking = not entry.entry_point and "check" in _defined("\n".join(tests))
        reason = _NO_ENTRY_POINT if lacking else "there are no tests"
        return _finding("not_applicable", reason, outcome)
    return _finding("verified", f"{passed} of {passed} tests pass", outcome, 1.0)


def _unfit(tests: list[str], entry: Entry, solution: str) -> str:
    """Why a `check(candidate)` cannot be given its candidate; empty if it can, or is no such."""
    asked = entry.entry_point
    defined = {*_defined(solution)}
    if "check" not in _defined("\n".join(tests)):
        return ""
    if asked and defined and asked not in solution:
        return f"entry_point is {asked!r}, and the right solution defines {', '.join(defined)}"
    return ""


def _ours() -> dict[str, str]:
    package = f"{__package__}.inside"
    return {f"{package}.{name}": (INSIDE / f"{name}.py").read_text() for name in OURS}


def _defined(solution: str) -> Iterator[str]:
    """The functions and classes of a solution."""
    tree = _parsed(solution)
    for node in tree.body if tree else ():
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name


# --- Cases --------------------------------------------------------------------------------------


def _by_cases(program: str, cases: tuple[Case, ...], limits: Limits) -> Verification:
    began = time.monotonic()
    right, wrong = 0, list[str]()
    for number, case in enumerate(cases, 1):
        left = MOST_S - (time.monotonic() - began)
        within = limits._replace(wall_s=max(0.0, min(limits.wall_s, left)))
        outcome = run(program, stdin=case.stdin, limits=within)
        if outcome.state == "not_started":
            return _finding("error", f"no jail: {_last_words(outcome)}", outcome)
        excuse = _excuse(outcome, limits.wall_s, left) if outcome.state == "timeout" else ""
        if excuse and not wrong:
            return _finding("timeout", f"case {number} of {len(cases)}: {excuse}", outcome)
        if problem := _problem(outcome, case, limits):
            wrong.append(f"case {number}: {problem}")
        right += problem is None
        if outcome.state == "timeout":
            break  # a loop in every case would cost its limit every time
    reason = "; ".join([f"{right} of {len(cases)} cases pass", *wrong[:1]])
    return _finding("refuted" if wrong else "verified", reason, outcome, right / len(cases))


def _excuse(outcome: Outcome, limit_s: float, left_s: float) -> str:
    """Why it need not be the program's fault that its time was up; empty if it is."""
    if left_s < limit_s:  # each case kept its limit, and there are many
        return f"no end within {MOST_S:g} s in all"
    return waited(limit_s, outcome.processor_s)


def _problem(outcome: Outcome, case: Case, limits: Limits) -> str | None:
    if outcome.state == "timeout":
        return late(limits.wall_s)
    if outcome.state == "memory":
        return f"out of memory ({limits.memory_bytes / 1024**2:.0f} MB)"
    if outcome.state == "output":
        return f"more than {limits.output_bytes} bytes of output"
    if outcome.state == "killed":
        return f"killed by {signal.Signals(outcome.code - 128).name}"
    if outcome.code != 0:
        return f"exit code {outcome.code}: {_last_words(outcome)}"
    if outcome.stdout.split() != case.stdout.split():
        return f"expected {case.stdout.strip()[:60]!r}, not {outcome.stdout.strip()[:60]!r}"
    return None


# --- Both ---------------------------------------------------------------------------------------


def _finding(
    state: VerificationState, reason: str, outcome: Outcome, score: float | None = None
) -> Verification:
    """A verification that names the jail."""
    said = reason[: 2 * MAX_WORDS]
    return Verification(state=state, reason=said, score=score, jail=outcome.tier)


def _last_words(outcome: Outcome) -> str:
    return outcome.stderr.rstrip().rpartition("\n")[2][:MAX_WORDS] or outcome.state


def program_in(text: str) -> str | None:
    """The program in a model's answer: the longest fenced block that is Python, or all of it.

    Thinking is set aside, and so is a block that names another language. Of blocks of the same
    length the last one counts.
    """
    answer = split_thinking(text).answer
    blocks = list(_blocks(answer))
    programs = [text for text in blocks or [answer] if _does_something(text)]
    return max(reversed(programs), key=len, default=None)


def _why_no_program(text: str) -> str:
    """What to say of a text without a program: where its Python breaks off, if it is fenced."""
    blocks = list(_blocks(split_thinking(text).answer))
    try:
        ast.parse(max(blocks, key=len, default=""))
    except SyntaxError as wrong:
        return f"a syntax error in the fenced Python, line {wrong.lineno}: {wrong.msg}"[:MAX_WORDS]
    except (ValueError, RecursionError, MemoryError):
        return "the fenced Python cannot be read"
    return "there is no Python program in the text"


def _blocks(text: str) -> Iterator[str]:
    """What stands between fences; the last one need not be closed."""
    fence, language, lines = "", "", list[str]()
    for line in text.splitlines():
        stripped = line.strip()
        if not fence and stripped.startswith(("```", "~~~")):
            fence = stripped[:3]
            language, lines = stripped.lstrip("`~").strip().lower(), []
        elif fence and stripped.startswith(fence):
            if language in ("", "py", "python", "python3"):
                yield textwrap.dedent("\n".join(lines))
            fence = ""
        else:
            lines.append(line)
    if fence and language in ("", "py", "python", "python3"):
        yield textwrap.dedent("\n".join(lines))


def _does_something(text: str) -> bool:
    """Whether it is Python, and more than a word of prose that happens to be."""
    tree = _parsed(text)
    return tree is not None and any(
        not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in tree.body
    )


def _parsed(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
