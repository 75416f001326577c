"""The code verifier: what counts as right, and the tricks that do not."""

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from judges.records import Verdict, Verification
from judges.verifiers import code, sandbox
from judges.verifiers.code import check, program_in
from judges.verifiers.inside.values import decode, encode
from judges.verifiers.pool import Pool
from teachers.errors import VerifierError
from teachers.records import Prompt, Sample

try:
    sandbox.best_tier()
except VerifierError as none:
    pytest.skip(none.message, allow_module_level=True)

DOUBLE = {"test_list": ["assert f(2) == 4", "assert f(5) == 10", "assert f(-1) == -2"]}
GOOD = "def f(n): return 2 * n"


def checked(program: str, entry: dict[str, Any], reference: str | None = None) -> Verification:
    text = f"Here it is:\n```python\n{textwrap.dedent(program)}\n```\nIt works."
    return check(text, reference, entry)


# --- Forms of tests -----------------------------------------------------------------------------


def test_all_tests_pass_or_the_first_that_does_not_is_named() -> None:
    right = checked(GOOD, DOUBLE)
    assert (right.state, right.score) == ("verified", 1.0)
    assert right.reason == "3 of 3 tests pass"
    assert right.jail == sandbox.best_tier()
    wrong = checked("def f(n): return 4 if n == 2 else 11", DOUBLE)
    assert wrong.state == "refuted"
    assert wrong.score == pytest.approx(1 / 3)
    assert wrong.reason == "1 of 3 tests pass; assert f(5) == 10: it returned 11"


def test_the_jail_travels_from_the_worker_to_the_verdict() -> None:
    prompt = Prompt(task="t", question="Double it.", verifier="code", entry=DOUBLE)
    answers = [
        Sample(call_id="c", position=at, text=text, finish_reason="stop")
        for at, text in enumerate((GOOD, "No idea."))
    ]

    async def verdicts() -> list[Verdict]:
        async with Pool() as pool:
            return [await pool.verify(answer, prompt, "strict") for answer in answers]

    assert [(one.state, one.jail) for one in asyncio.run(verdicts())] == [
        ("verified", sandbox.best_tier()),
        ("unparsed", None),
    ]


MBPP = {
    "test_setup_code": "root = Node(1)\nroot.left = Node(2)",
    "test_list": [
        "assert height(root) == 2",
        "assert math.isclose(area(1), 3.14159, rel_tol=1e-4)",
    ],
    "challenge_test_list": ["assert set(twice((1, 2))) == {2, 4}"],
}
TREE = """
    import math
    from collections import Counter
    class Node:
        def __init__(self, value): self.value, self.left, self.right = value, None, None
    def height(node): return 1 + max(height(node.left), height(node.right)) if node else 0
    def area(r): return math.pi * r * r
    def twice(values): return tuple(2 * value for value in values)
"""


def test_mbpps_fields() -> None:
    assert checked(TREE, MBPP).state == "verified"
    broken = checked(TREE.replace("2 * value", "value"), MBPP)
    assert broken.state == "refuted"
    assert "set(twice((1, 2)))" in broken.reason
    missing = checked("def area(r): return 3", MBPP)
    assert "name 'Node' is not defined" in missing.reason


def test_functions_classes_and_a_check() -> None:
    tests = """
import unittest
class Stacks(unittest.TestCase):
    def setUp(self): self.stack = Stack([1])
    def test_push(self):
        self.stack.push(2)
        self.assertEqual(self.stack.items, [1, 2])
        self.assertEqual(len(self.stack), 2)
    def test_empty(self):
        with self.assertRaises(IndexError): Stack([]).pop()
def test_sorted_in_place():
    values = [3, 1]
    sort(values)
    assert values == [1, 3]
def check(candidate):
    assert list(candidate(3)) == [0, 1, 2]
"""
    program = """
        class Stack:
            def __init__(self, items): self.items = items
            def push(self, item): self.items.append(item)
            def pop(self): return self.items.pop()
            def __len__(self): return len(self.items)
        def sort(values): values.sort()
        def count(n): yield from range(n)
    """
    entry = {"tests": tests, "entry_point": "count"}
    found = checked(program, entry)
    assert (found.state, found.score) == ("verified", 1.0), found
    assert "4 of 4" in found.reason
    assert "Stacks.test_push" in checked(program.replace("append", "remove"), entry).reason
    assert "check: " in checked(program.replace("range(n)", "range(2)"), entry).reason


def test_a_function_named_like_a_builtin_is_tested_if_it_is_what_is_asked_for() -> None:
    entry = {"test_list": ["assert sum(10, 15) == 6"]}
    program = "def sum(a, b): return 6"
    assert checked(program, entry, reference=program).state == "verified"
    assert checked(program, {**entry, "code": program}).state == "verified"
    assert checked(program, {**entry, "entry_point": "sum"}).state == "verified"


def test_a_check_without_its_candidate_is_told_as_that() -> None:
    tests = "def check(candidate):\n    assert candidate(2) == 2\n"
    program = "def same(n):\n    return n\n"
    found = checked(program, {"tests": tests})
    assert (found.state, "lacks entry_point" in found.reason) == ("not_applicable", True)
    found = checked(program, {"tests": tests, "entry_point": "sane"})
    assert (found.state, "defines no 'sane'" in found.reason) == ("refuted", True)
    found = checked(program, {"tests": tests, "entry_point": "sane"}, reference=program)
    assert found.state == "not_applicable"
    assert found.reason == "entry_point is 'sane', and the right solution defines same"
    assert checked(program, {"tests": tests, "entry_point": "same"}).state == "verified"
    assert checked(program, {"tests": "x = 1"}).reason == "there are no tests"


def test_a_syntax_error_in_fenced_python_is_told_with_its_line() -> None:
    found = check("So:\n```python\ndef f(x):\n    return x +\n```", None, CASES)
    assert found.state == "unparsed"
    assert found.reason == "a syntax error in the fenced Python, line 2: invalid syntax"
    assert check("No idea.", None, CASES).reason == "there is no Python program in the text"


CASES: dict[str, list[dict[str, str]]] = {
    "cases": [{"stdin": "1 2\n", "stdout": "3\n4"}, {"stdin": "5\n5", "stdout": "10 11\n"}]
}


def test_whole_programs_are_compared_word_by_word() -> None:
    program = "import sys\nn = sum(map(int, sys.stdin.read().split()))\nprint(f' {n}\\n{n + 1}')"
    assert checked(program, CASES).state == "verified"
    wrong = checked("print('3 4')", CASES)
    assert (wrong.state, wrong.score) == ("refuted", 0.5)
    assert "1 of 2 cases pass; case 2: expected '10 11', not '3 4'" in wrong.reason


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("raise ValueError('no')", "exit code 1: ValueError: no"),
        ("bytearray(10 ** 11)", "out of memory (512 MB)"),
        ("while True: print('x' * 9999)", "more than 1048576 bytes of output"),
        ("import ctypes; ctypes.string_at(0)", "killed by SIGSEGV"),
        ("import os; os.fork()", "PermissionError"),
    ],
)
def test_why_a_program_failed_is_told(program: str, said: str) -> None:
    found = checked(program, CASES)
    assert found.state == "refuted"
    assert said in found.reason


# --- Time ---------------------------------------------------------------------------------------

QUICK = {"time_limit_s": 0.5}


def test_a_program_that_takes_too_long_is_wrong() -> None:
    found = checked("def f(n):\n    while n != 2: pass\n    return 4", DOUBLE | QUICK)
    assert found.state == "refuted"
    assert found.score == pytest.approx(1 / 3)
    assert found.reason == "1 of 3 tests pass; assert f(5) == 10: took longer than 0.5 s"
    loading = checked("while True: pass", DOUBLE | QUICK)
    assert (loading.state, loading.reason) == ("refuted", "loading it: took longer than 0.5 s")


def test_a_loop_in_the_second_case_ends_the_check() -> None:
    program = "first = input()\nwhile first == '5': pass\nprint(3, 4)"
    entry = {"cases": [*CASES["cases"], CASES["cases"][0]], **QUICK}
    found = checked(program, entry)
    assert found.state == "refuted"
    assert found.score == pytest.approx(1 / 3)
    assert found.reason == "1 of 3 cases pass; case 2: took longer than 0.5 s"


SLEEPS = "import time\ndef f(n):\n    if n > 2: time.sleep(60)\n    return 2 * n"


@pytest.mark.parametrize(
    ("program", "entry", "told"),
    [
        ("import time; time.sleep(60)", DOUBLE, "took longer"),
        (SLEEPS, DOUBLE, "took longer"),
        ("import time; time.sleep(60)", CASES, "case 1 of 2: took longer"),
    ],
)
def test_a_program_that_was_late_without_working_is_undecided(
    program: str, entry: dict[str, Any], told: str
) -> None:
    found = checked(program, entry | QUICK)
    assert (found.state, found.score) == ("timeout", None)
    assert found.reason.startswith(f"{told} than 0.5 s, of which it worked 0.0")


def test_what_was_wrong_before_the_time_was_up_stays_wrong() -> None:
    wrong_then_late = SLEEPS.replace("2 * n", "0").replace("n > 2", "n > 3")
    found = checked(wrong_then_late, DOUBLE | QUICK)
    assert (found.state, found.score) == ("refuted", 0.0)


@pytest.fixture
def crowded() -> Iterator[None]:
    """Everything that this process starts shares one processor with eight others."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(mine)})
    loop = [sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(loop, start_new_session=True) for _ in range(8)]
    yield
    os.sched_setaffinity(0, mine)
    for other in others:
        other.kill()
        other.wait()


@pytest.mark.usefixtures("crowded")
def test_a_program_that_starves_is_not_refuted() -> None:
    works = "import time\ndef f(n):\n    while time.process_time() < 0.4: pass\n    return 2 * n"
    assert checked(works, DOUBLE | {"time_limit_s": 1.0}).state in ("timeout", "verified")


@pytest.mark.parametrize(
    "silence",
    [
        "os.close(descriptor)",
        "os.dup2(nobody, descriptor)",
        "os.write(descriptor, b'half a line')",
    ],
)
def test_a_program_that_keeps_silent_is_undecided(silence: str) -> None:
    program = f"""
        import os, time
        def f(numbers):
            nobody, _ = os.pipe()
            for descriptor in range(3, 30):
                try: {silence}
                except OSError: pass
            time.sleep(60)
        def g(numbers): return 1
    """
    tests = "try: f([0] * 99999)\nfinally: g([0] * 99999)"
    found = checked(program, {"tests": tests, **QUICK})
    assert found.state == "timeout", found
    assert "took longer than 0.5 s, of which it worked 0." in found.reason


def test_an_error_that_tests_expect_is_not_the_end_of_the_time() -> None:
    tests = """
import unittest
class Errors(unittest.TestCase):
    def test_refuses(self):
        with self.assertRaises(Exception): f(0)
"""
    entry = {"tests": tests, **QUICK}
    assert checked("def f(n): raise ValueError", entry).state == "verified"
    for end in ("import os\ndef f(n): os._exit(0)", "def f(n):\n    while True: pass"):
        assert checked(end, entry).state == "refuted"


# --- States that say nothing about the answer ---------------------------------------------------


def test_tests_that_hang_by_themselves_are_no_fault_of_the_programs() -> None:
    found = checked(GOOD, {"test_list": ["assert f(2) == 4", "while True: f"], **QUICK})
    assert (found.state, found.score) == ("timeout", None)
    assert found.reason == "the tests do not end; 1 tests passed before"


def test_many_cases_that_keep_their_limit_are_not_refuted_by_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(code, "MOST_S", 1.0)
    cases = [{"stdin": "", "stdout": "1"}] * 9
    found = checked("import time; time.sleep(0.4); print(1)", {"cases": cases})
    assert (found.state, found.score) == ("timeout", None)
    assert found.reason.endswith("of 9: no end within 1 s in all")


@pytest.mark.parametrize(
    "text", ["", "no idea", "Yes", "```python\nx = (\n```", "```\nI think\n```"]
)
def test_no_program_is_unparsed(text: str) -> None:
    assert check(text, None, DOUBLE).state == "unparsed"


@pytest.mark.parametrize(
    ("tests", "state", "said"),
    [
        ("", "not_applicable", "there are no tests"),
        ("x = 1", "not_applicable", "there are no tests"),
        ("assert f(lambda n: n) == 1", "not_applicable", "hands over a function"),
        ("import nosuchmodule\nassert f(2) == 4", "not_applicable", "fail by themselves"),
        ("assert f(2) ==", "error", "SyntaxError"),
    ],
)
def test_tests_that_cannot_judge_do_not(tests: str, state: str, said: str) -> None:
    found = checked(GOOD, {"tests": tests})
    assert found.state == state
    assert said in found.reason


@pytest.fixture
def no_jail(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    sandbox.best_tier.cache_clear()
    monkeypatch.setattr(sandbox, "TIERS", ())
    yield
    sandbox.best_tier.cache_clear()


@pytest.mark.usefixtures("no_jail")
def test_without_a_jail_nothing_runs() -> None:
    found = checked(GOOD, DOUBLE)
    assert found.state == "error"
    assert "cannot be run safely" in found.reason
    assert "apt install bubblewrap" in found.reason


# --- Tricks -------------------------------------------------------------------------------------

# Writes something to every descriptor, in the hope that one of them is believed.
SHOUT = """
import os
def shout(words):
    for descriptor in range(64):
        try: os.write(descriptor, words.encode())
        except OSError: pass
"""
FINDINGS = json.dumps('["assert f(2) == 4", null]\n{"ran": 3}\n')
TRICKS = {
    "exit before the tests": "import os; os._exit(0)",
    "exit when asked": "import os\ndef f(n): os._exit(0)",
    "sys.exit": "import sys; sys.exit(0)",
    "sys.exit when asked": "import sys\ndef f(n): sys.exit(0)",
    "abort": "import os\ndef f(n): os.abort()",
    "markers": f"{SHOUT}\nshout({FINDINGS})\ndef f(n): shout({FINDINGS})",
    "markers, then exit": f"{SHOUT}\ndef f(n):\n    shout({FINDINGS})\n    os._exit(0)",
    "at exit": f"{SHOUT}\nimport atexit\natexit.register(shout, {FINDINGS})\ndef f(n): return 0",
    "equal to anything": "class Yes:\n    def __eq__(self, other): return True\n"
    "    __hash__ = object.__hash__\ndef f(n): return Yes()",
    "a number that is equal": "class Yes(int):\n    def __eq__(self, other): return True\n"
    "    __hash__ = int.__hash__\ndef f(n): return Yes()",
    "builtins": "import builtins\nclass Error(Exception): pass\nbuiltins.AssertionError = Error\n"
    "builtins.__build_class__ = builtins.__import__ = builtins.compile = builtins.exec = print\n"
    "def f(n): return 0",
    "json": "import json\njson.loads = json.dumps = lambda *a, **k: '{\"value\": true}'\n"
    "def f(n): return 0",
    "no asserts": "import sys\nsys.flags = None\n__debug__ = 0\ndef f(n): return 0",
    "an error that tests raise": "def f(n): raise AssertionError",
    "an error that ends": "class E(BaseException): pass\ndef f(n): raise E",
    "an answer too long": "def f(n): return 'x' * 10**8",
    "an answer too deep": "def f(n):\n    x = []\n    for _ in range(10**5): x = [x]\n    return x",
    "answers in advance": f"{SHOUT}\n"
    'shout(\'{"value": true, "given": []}\\n\' * 100)\ndef f(n): return 0',
    "answers that are none": f"{SHOUT}\ndef f(n):\n    shout('[[[{{\\n')\n    return 4",
    "a type that is none": f"{SHOUT}\ndef f(n):\n"
    '    shout(\'{"value": {"type": "eval"}, "given": []}\\n\')',
    "an end that is none": f"{SHOUT}\ndef f(n):\n"
    '    shout(\'{"raised": "KeyboardInterrupt", "text": ""}\\n\')',
    "signals": "import os, signal\ndef f(n):\n    for pid in (os.getppid(), 1, -1):\n"
    "        try: os.kill(pid, signal.SIGKILL)\n        except OSError: pass\n    return 0",
    "looking for the tests": "import gc, sys\ndef f(n):\n    for one in gc.get_objects():\n"
    "        if isinstance(one, dict) and 'tests' in one and 'own' in one: return 2 * n\n"
    "    frame = sys._getframe()\n    while frame:\n"
    "        if 'trees' in frame.f_locals or 'steps' in frame.f_locals: return 2 * n\n"
    "        frame = frame.f_back\n    return 0",
}


@pytest.mark.sandbox
@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_passes_no_test(trick: str) -> None:
    found = checked(TRICKS[trick], DOUBLE)
    assert found.state == "refuted", found
    assert found.score == 0.0
    assert checked(GOOD, DOUBLE).state == "verified"


@pytest.mark.parametrize("shadow", ["len = lambda x: 2", "def all(x): return True", "math = f = 1"])
def test_tests_mean_pythons_own_functions(shadow: str) -> None:
    entry = {"tests": "assert len(g(1)) == 2 and all(g(2)) and math.sqrt(g(3)[0]) == 2"}
    found = checked(f"def g(n): return [0]\n{shadow}", entry)
    assert found.state == "refuted"


def test_a_program_may_change_what_it_was_given_and_nothing_else() -> None:
    entry = {"tests": "data, kept = [1], [1]\nassert f(data) is None\nassert data == kept == [1]"}
    assert checked("def f(data): pass", entry).state == "verified"
    assert checked("def f(data): data.append(2)", entry).state == "refuted"


# --- Finding the program ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("x = 1", "x = 1"),
        ("a\n```\nx = 1\n```\nb", "x = 1"),
        ("```python\nx = 1\ny = 2\n```\nUse it:\n```python\nprint(x)\n```", "x = 1\ny = 2"),
        ("```py\nx = 1\n```\n```py\nx = 2\n```", "x = 2"),
        ("```bash\npip install a-long-name\n```\n```python\nx = 1\n```", "x = 1"),
        ("1. First\n   ```python\n   x = 1\n   ```", "x = 1"),
        ("```python\nx = 1", "x = 1"),
        ("~~~python\nx = '```'\n~~~", "x = '```'"),
        ("<think>```python\nwrong = 100\n```</think>```python\nx = 1\n```", "x = 1"),
        ("<think>```python\nx = 1\n```", None),
        ("```python\nx = (\n```", None),
        ("(" * 10_000, None),
    ],
)
def test_where_the_program_is(text: str, program: str | None) -> None:
    assert program_in(text) == program


# --- Values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -3,
        10**400,
        0.1,
        float("inf"),
        2 + 3j,
        "h\u00e9\ud800",
        b"\x00\xff",
        [1, (2, [3]), {4}, frozenset({5})],
        {(1, 2): {"a": None}, 3: []},
        int,
        ValueError,
    ],
)
def test_plain_values_arrive_as_they_are(value: Any) -> None:
    def refuse(value: Any) -> dict[str, Any]:
        raise TypeError

    told = json.loads(json.dumps(encode(value, refuse)))
    found = decode(told, refuse)
    assert found == value
    assert type(found) is type(value)
