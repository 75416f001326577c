"""Tests on one side of two pipes, the program under test on the other, plain values in between.

The program runs in a child that was forked before the tests were read. It is asked for the results
of calls and never sees what they are compared with; nothing of it is ever run on this side: no
`__eq__`, no patched builtin, no exit. Only this side holds the descriptor that findings go to.

Findings are lines of JSON: `[test, null or what is wrong]`, and at last `{"ran": tests}`; or
`{"unfit": why}`, where a test cannot be put this way; or `{"waited": why}` with it, where the time
was up through no fault of the program's that could be seen.
"""

import ast
import builtins
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Any, NamedTuple

from judges.verifiers.inside.link import Gone, Link, Unfit
from judges.verifiers.inside.player import Player

MAX_WORDS = 160


class Step(NamedTuple):
    """A statement of the tests, or a test."""

    label: str
    do: Callable[[], Any]
    counts: bool = True
    """Whether it is a test; the rest is told only if it fails."""


def main(program: str, seal: Callable[[int], None], parent: int) -> None:
    """Judge `program` by the tests on standard input."""
    sys.set_int_max_str_digits(0)  # a long number is a value like another; time is limited anyway
    asked, ask = os.pipe()
    told, tell = os.pipe()
    us = os.getpid()
    child = os.fork()
    null = os.open(os.devnull, os.O_RDWR)
    if child == 0:
        for descriptor in (ask, told):
            os.close(descriptor)
        for standard in range(3):
            os.dup2(null, standard)
        seal(us)
        Player(program).play(asked, tell)
        os._exit(0)
    for descriptor in (asked, tell):
        os.close(descriptor)
    seal(parent)
    findings = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(null, 1)  # tests may print
    job = json.load(sys.stdin)
    judge(job, Link(ask, told, child, job["time_limit_s"]), findings)
    os._exit(0)  # an ordinary end would wait until the program has read all that it was asked


def judge(job: dict[str, Any], link: Link, findings: IO[str]) -> None:
    """Run every test, and write what came of it."""

    def tell(finding: Any) -> None:
        print(json.dumps(finding), file=findings, flush=True)

    ran, waited = 0, ""
    trees = [ast.parse(text) for text in (job["setup"], *job["tests"])]
    try:
        scope = bound(trees, {*job["own"]}, link)
    except (Exception, Gone) as error:
        if not link.waited:
            tell(["loading it", link.last or str(error)[:MAX_WORDS]])
        return tell({"ran": 0, "waited": link.waited})
    try:
        for step in steps(trees, scope, job["entry_point"]):
            wrong = problem(step, link)
            ran += step.counts
            if wrong and link.waited:
                waited = link.waited
            elif step.counts or wrong:
                tell([step.label[:MAX_WORDS], wrong])
    except Unfit as unfit:
        return tell({"unfit": str(unfit)})
    return tell({"ran": ran, "waited": waited})


def problem(step: Step, link: Link) -> str | None:
    """What is wrong by one test, or None."""
    link.last = ""
    try:
        step.do()
    except Unfit:
        raise
    except BaseException as error:
        if not (step.counts or link.last or isinstance(error, NameError)):
            raise Unfit(f"the tests fail by themselves: {error!r}") from None
        return (link.last or f"{type(error).__name__}: {error}")[:MAX_WORDS]
    return None


def bound(trees: list[ast.Module], own: set[str], link: Link) -> dict[str, Any]:
    """The names that tests use: the program's, and the standard modules that they reach into.

    A program that defines a `len` or a `math` does not change what tests mean by them, unless it is
    what they are about (`own`).
    """
    link.ask("load")
    nodes = [node for tree in trees for node in ast.walk(tree)]
    used = {node.id for node in nodes if isinstance(node, ast.Name)} | own
    into = {
        node.value.id
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    modules = (into & sys.stdlib_module_names) - own
    theirs = (used & {*link.ask("names")}) - modules - ({*dir(builtins)} - own)
    scope: dict[str, Any] = {"__name__": "tests"}
    scope.update({name: importlib.import_module(name) for name in modules})
    scope.update({name: link.ask("name", name) for name in theirs})
    return scope


def steps(
    trees: list[ast.Module], scope: dict[str, Any], entry_point: str | None
) -> Iterator[Step]:
    """Statements in their order, asserts counting; then functions `test...`, unittest's cases, and
    a `check` that wants the function that it is about."""
    defined: list[str] = []
    for node in (node for tree in trees for node in tree.body):
        code = compile(ast.Module([node], []), "tests.py", "exec")
        yield Step(ast.unparse(node), partial(exec, code, scope), isinstance(node, ast.Assert))
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            defined.append(node.name)
    unittest = sys.modules.get("unittest")  # loaded by tests that use it
    for name in defined:
        found = scope.get(name)
        if unittest and isinstance(found, type) and issubclass(found, unittest.TestCase):
            for method in unittest.defaultTestLoader.getTestCaseNames(found):
                yield Step(f"{name}.{method}", found(method).debug)
        elif name == "check" and callable(found) and entry_point:
            yield Step(name, partial(_checked, found, scope, entry_point))
        elif name.startswith("test") and callable(found):
            yield Step(name, found)


def _checked(check: Callable[[Any], Any], scope: dict[str, Any], entry_point: str) -> None:
    if entry_point not in scope:
        raise NameError(f"the program defines no {entry_point!r}, which entry_point asks for")
    check(scope[entry_point])
