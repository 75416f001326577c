"""Real judges on real data: which of them may label with which principle.

    make bench NAME=certify

SmolLM2-135M compares pairs of people's own choices (Anthropic's hh-rlhf, harmlessness) and has to
be refused with its figures. Then it, a judge trained from it here, and the model that
PRECEPTOR_BIG_MODEL names, where there is one, are measured on the cases of the shipped
constitutions. Measured is how many pairs of judge and principle pass.
"""

import asyncio
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from benchmarks.verdict import measured, show, skip
from judges.certify import Certificate, Criteria
from judges.constitution import Constitution, Principle
from judges.constitution_file import SHIPPED
from judges.constitution_file import load as load_constitution
from pipelines.certification import case_pair, measure
from pipelines.gold import Known, read_gold
from pipelines.home import Home
from pipelines.recipe import EngineSection, JudgeSection
from pipelines.recipe_file import load
from pipelines.round import run_round
from pipelines.seat import seated
from pipelines.source import CHECKPOINT
from pipelines.workbench import Workbench
from service.progress import Shown
from teachers.errors import WeightsError
from teachers.progress import Progress
from teachers.weights import prepare

GOLD_PAIRS = 100
HARM = "no-help-with-serious-harm"
RECIPES = Path(__file__).parent.parent / "recipes"


class Measured(NamedTuple):
    """A judge on one principle."""

    judge: str
    gold: str
    principle: str
    found: Certificate

    @property
    def passed(self) -> bool:
        return not self.found.faults(Criteria())


def main() -> None:
    data = os.environ.get("PRECEPTOR_DATA")
    gold = Path(data or "", "hh_rlhf", "harmless_first_half.jsonl")
    if not data or not gold.is_file():
        skip("certify", "PRECEPTOR_DATA names no folder with hh_rlhf in it")
    try:
        base = str(prepare("packaged:SmolLM2-135M-Instruct", Home.find().root).path)
    except WeightsError as missing:
        skip("certify", missing.message)
    with tempfile.TemporaryDirectory() as place:
        progress = Shown(Console())
        people, cases, wanted = asyncio.run(_all(Home(Path(place)), base, gold, progress))
    _show("people's own choices", [people])
    _show("the cases of the shipped constitutions", cases)
    refused = not people.passed and people.found.n == GOLD_PAIRS
    passed = sum(one.passed for one in cases)
    measured("certify", passed, enough=refused and len(cases) == wanted)


async def _all(
    home: Home, base: str, gold: Path, progress: Progress
) -> tuple[Measured, list[Measured], int]:
    shipped = [load_constitution(path) for path in sorted(SHIPPED.glob("*.yaml"))]
    harm = next(one.principle(HARM) for one in shipped if one.name.startswith("helpful"))
    judges = {
        "SmolLM2-135M, compares": JudgeSection(weights=base),
        "SmolLM2-135M, grades": JudgeSection(weights=base, kind="score"),
        "trained here": await _trained(home, base, progress),
    }
    if big := os.environ.get("PRECEPTOR_BIG_MODEL"):
        # Its comparisons take four minutes more. Tried, they named the first answer every time.
        judges["the bigger model, grades"] = JudgeSection(weights=big, kind="score")
    else:
        progress.say("without a bigger model: PRECEPTOR_BIG_MODEL names none")
    async with Workbench(home, progress, EngineSection(max_model_len=2048)) as bench:
        pairs = read_gold(gold)[:GOLD_PAIRS]
        people = await _measured(
            bench, "SmolLM2-135M, compares", judges["SmolLM2-135M, compares"], harm, pairs
        )
        cases = [
            await _measured(bench, name, section, principle, None)
            for name, section in judges.items()
            for principle in _principles(shipped)
        ]
    return people, cases, len(judges) * len(_principles(shipped))


def _principles(constitutions: Sequence[Constitution]) -> list[Principle]:
    return [principle for one in constitutions for principle in one.principles]


async def _trained(home: Home, base: str, progress: Progress) -> JudgeSection:
    """The judge of recipes/concise-judge.yaml, from half of its prompts: it has to be quick."""
    recipe = load(RECIPES / "concise-judge.yaml")
    (file,) = recipe.supply.files
    files = (file.model_copy(update={"train": file.train // 2}),)
    changes = {
        "student": recipe.student.model_copy(update={"weights": base}),
        "supply": recipe.supply.model_copy(update={"files": files}),
    }
    outcome = await run_round(recipe.model_copy(update=changes), home, progress)
    checkpoint = outcome.reports["certify"]["checkpoint"]
    return JudgeSection(weights=f"{CHECKPOINT}{checkpoint}", kind="follows")


async def _measured(
    bench: Workbench,
    name: str,
    section: JudgeSection,
    principle: Principle,
    gold: Sequence[Known] | None,
) -> Measured:
    seat = await seated(bench, section)
    pairs = gold or [case_pair(case) for case in principle.cases]
    what = "hh-rlhf" if gold else "cases"
    found = await measure(bench, seat, principle, pairs, what)
    return Measured(name, what, principle.id, found)


def _show(title: str, rows: Sequence[Measured]) -> None:
    lines = [
        [one.judge, one.principle, one.found.n]
        + [f"{one.found.accuracy:.0%} [{one.found.low:.0%}, {one.found.high:.0%}]"]
        + [f"{one.found.kappa:.2f}", f"{one.found.flips:.0%}", _share(one.found.first_slot)]
        + [f"{_share(one.found.picks_longer)} ({_share(one.found.longer_is_better)})"]
        + [f"{one.found.unread:.0%}", "passed" if one.passed else "refused"]
        for one in rows
    ]
    columns = ["judge", "principle", "pairs", "accuracy", "kappa", "flips", "first"]
    show(title, [*columns, "longer (is better)", "unread", ""], lines)


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


if __name__ == "__main__":
    main()
