"""GRPO on the CPU: the demo's student practises, and gets better at what it is asked.

    make bench NAME=grpo-learns

First the demo's round, which makes the student; then `recipes/grpo.yaml`: rollouts by vLLM, rewards
by a verifier. Held-out prompts decide, asked once before and once after, with the lenient parser.
"""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.verdict import conclude, show, skip
from pipelines.home import Home
from pipelines.recipe_file import load
from pipelines.round import Outcome, run_round
from pipelines.store.checkpoints import CHAMPION
from service.progress import Shown
from teachers.errors import WeightsError
from teachers.weights import prepare

BAR_GAIN, BAR_P, BAR_SECONDS = 0.10, 0.01, 1800
# What is never right cannot be rewarded, and what always is need not be.
START_LOW, START_HIGH = 0.05, 0.60
RECIPES = Path(__file__).parent.parent / "recipes"


def main() -> None:
    mine = Home.find()
    try:
        base = prepare("packaged:SmolLM2-135M-Instruct", mine.root)
    except WeightsError as missing:
        skip("grpo-learns", missing.message)
    with tempfile.TemporaryDirectory() as place:
        outcome = asyncio.run(_rounds(Home(Path(place)), str(base.path)))
        picture = mine.reports / "grpo-learns.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(outcome.reports["promote"]["picture"], picture)
    gate, seconds = outcome.reports["gate"], outcome.reports["train"]["seconds"]
    _show(gate)
    print(f"training took {seconds / 60:.1f} min; the picture is {picture}")
    bar = next(
        one for one in gate["bars"] if one["parser"] == "lenient" and one["against"] == CHAMPION
    )
    start = gate["shares"][CHAMPION]["lenient"]
    fits = START_LOW <= start[0] / start[1] <= START_HIGH
    conclude(
        "grpo-learns",
        bar["gain"],
        BAR_GAIN,
        at_least=True,
        also=bar["p"] < BAR_P and seconds <= BAR_SECONDS and fits,
    )


async def _rounds(home: Home, base: str) -> Outcome:
    progress = Shown(Console())
    demo = load(RECIPES / "demo.yaml")
    student = demo.student.model_copy(update={"weights": base})
    made = await run_round(demo.model_copy(update={"student": student}), home, progress)
    if not made.promoted:
        raise SystemExit(f"The demo's student was not promoted: {made.reports['promote']}")
    return await run_round(load(RECIPES / "grpo.yaml"), home, progress)


def _show(gate: dict[str, Any]) -> None:
    rows = []
    for task, measured in {**gate["by_task"], "all": gate["shares"]}.items():
        cells = [_share(measured[who][parser]) for who, parser in _COLUMNS]
        rows.append([task, *cells])
    columns = ["task", *(f"{who}, {parser}" for who, parser in _COLUMNS)]
    show(f"{gate['items']} held-out prompts", columns, rows)
    for one in gate["bars"]:
        print(f"{one['name']}: {one['gain']:+.1%}, McNemar p = {one['p']:.1e}")


_COLUMNS = [(who, parser) for parser in ("strict", "lenient") for who in (CHAMPION, "student")]


def _share(share: list[float]) -> str:
    hits, n, low, high = share
    return f"{hits / n:.1%} [{low:.1%}, {high:.1%}]"


if __name__ == "__main__":
    main()
