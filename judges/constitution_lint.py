"""What a constitution may say and had better not: weak principles, and cases that test nothing."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from judges.constitution import Case, Constitution, Principle

ENOUGH_CASES = 20
MOST_WORDS = 60
BALANCED = (0.4, 0.6)
"""The share of cases whose better answer is the longer one, so that length decides nothing."""

_NEGATIVE = re.compile(r"(never|do not|don't|does not|avoid|no|not)\b", re.IGNORECASE)


class Weakness(NamedTuple):
    """Something that is allowed and makes a principle harder to decide or to test."""

    principle: str
    """Its id; empty where the whole constitution is meant."""
    what: str

    def __str__(self) -> str:
        return f"{self.principle}: {self.what}" if self.principle else self.what


def lint(constitution: Constitution) -> list[Weakness]:
    """What is weak about a constitution, in the order of its principles."""
    found = []
    if not any(principle.weight or principle.veto for principle in constitution.principles):
        found.append(Weakness("", "every weight is 0: it decides nothing"))
    for principle in constitution.principles:
        remarks = [*_of_text(principle), *_of_cases(principle.cases)]
        found += [Weakness(principle.id, what) for what in remarks]
    return found


def _of_text(principle: Principle) -> Iterator[str]:
    if _NEGATIVE.match(principle.text):
        yield "begins with what is forbidden; judges decide better what a good answer does"
    if (words := len(principle.text.split())) > MOST_WORDS:
        yield f"is {words} words long; a judge holds {MOST_WORDS} or fewer"


def _of_cases(cases: tuple[Case, ...]) -> Iterator[str]:
    if not cases:
        yield "has no cases, so no judge can be tested on it"
        return
    if len(cases) < ENOUGH_CASES:
        yield f"has {len(cases)} cases; {ENOUGH_CASES} or more tell good judges from lucky ones"
    sealed = [case for case in cases if case.sealed]
    if abs(2 * len(sealed) - len(cases)) > 1:
        yield f"{len(sealed)} of {len(cases)} cases are sealed; half of them should be"
    for kind, half in (("sealed", sealed), ("open", [one for one in cases if not one.sealed])):
        if half and not BALANCED[0] <= (share := better_is_longer(half)) <= BALANCED[1]:
            yield f"the better answer is the longer one in {share:.0%} of the {kind} cases"
    ((messages, times),) = Counter(case.messages for case in cases).most_common(1)
    if times > 1:
        yield f"{times} cases ask the same: {messages[-1].content[:60]!r}"


def better_is_longer(cases: list[Case]) -> float:
    """In which share of some cases the better answer has more characters."""
    return sum(len(case.better) > len(case.worse) for case in cases) / len(cases)
