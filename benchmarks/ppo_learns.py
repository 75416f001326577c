"""PPO on the CPU, paid by a verifier and paid by a reward model.

    make bench NAME=ppo-learns

Whole rounds of the recipes that are shipped; the two that only prepare are shortened. The demo
makes a student, and `recipes/ppo.yaml` goes on from it: right answers to held-out tasks decide.
`recipes/reward.yaml` makes a reward model of brevity, and `recipes/ppo-concise.yaml` earns it: the
length of held-out answers decides, which the reward model has no say in. In both the score of the
policy's own answers has to rise, and the policy has to stay as near to its base as the recipe's
`gate.max_kl` says.
"""

import asyncio
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from rich.console import Console
from scipy.stats import mannwhitneyu

from benchmarks.verdict import conclude, show, skip
from pipelines.home import Home
from pipelines.recipe import Recipe
from pipelines.recipe_file import load
from pipelines.round import Outcome, run_round
from pipelines.store import checkpoints
from pipelines.store.connection import connect
from service.progress import Shown
from teachers.engine import has_nvidia
from teachers.errors import WeightsError
from teachers.weights import prepare

BAR_P, BAR_SECONDS = 0.01, 40 * 60
ENDS = 4
"""Batches at the start, and at the end, whose scores are held against each other."""
PREPARED = 160
"""Prompts of each source that student and reward model are made from."""
CURVES = ("score", "kl", "explained_variance", "length")
RECIPES = Path(__file__).parent.parent / "recipes"


class Learned(NamedTuple):
    """What a round of PPO came to."""

    task: str
    first: float
    last: float
    """Mean scores of the first batches and of the last."""
    score_p: float
    """That scores were as high at first (Mann-Whitney, one-sided)."""
    held_out: str
    p: float
    kl: dict[str, Any]
    curves: dict[str, list[tuple[int, float]]]
    right_way: bool

    @property
    def proven(self) -> bool:
        """Whether everything that is asked for holds."""
        return self.right_way and max(self.score_p, self.p) < BAR_P and bool(self.kl["passed"])


def main() -> None:
    mine, began = Home.find(), time.monotonic()
    try:
        base = prepare("packaged:SmolLM2-135M-Instruct", mine.root)
    except WeightsError as missing:
        skip("ppo-learns", missing.message)
    with tempfile.TemporaryDirectory() as place:
        found = asyncio.run(_rounds(Path(place), str(base.path)))
    picture = mine.reports / "ppo-learns.png"
    _draw(found, picture)
    rows = [
        [
            one.task,
            f"{one.first:.2f} -> {one.last:.2f}",
            f"{one.score_p:.1e}",
            one.held_out,
            f"{one.p:.1e}",
            f"{one.kl['found']}, {one.kl['wanted']}",
        ]
        for one in found
    ]
    columns = ["paid by", "score", "p", "held out", "p", "distance"]
    show(f"PPO; first and last {ENDS} batches", columns, rows)
    seconds = time.monotonic() - began
    print(f"{seconds / 60:.1f} min in all; the picture is {picture}")
    worst = max(max(one.score_p, one.p) for one in found)
    proven = all(one.proven for one in found) and seconds <= BAR_SECONDS
    conclude("ppo-learns", worst, BAR_P, at_least=False, also=proven)


async def _rounds(place: Path, base: str) -> list[Learned]:
    tasks, wishes = Home(place / "tasks"), Home(place / "wishes")
    await _round(_shortened(load(RECIPES / "demo.yaml")), tasks, base)
    right = await _round(_shared(load(RECIPES / "ppo.yaml")), tasks)
    await _round(_shortened(load(RECIPES / "reward.yaml")), wishes, base)
    brief = await _round(_shared(load(RECIPES / "ppo-concise.yaml")), wishes, base)
    return [_of_tasks(right, tasks), _of_wishes(brief, wishes)]


def _shortened(recipe: Recipe) -> Recipe:
    """From fewer prompts, a student in one epoch; the base with examples is not measured."""
    supply = {
        kind: tuple(one.model_copy(update={"train": PREPARED}) for one in sources)
        for kind, sources in (
            ("files", recipe.supply.files),
            ("generators", recipe.supply.generators),
        )
    }
    changed = {
        "supply": recipe.supply.model_copy(update=supply),
        "gate": recipe.gate.model_copy(update={"beat_few_shot": False}),
    }
    if recipe.train.makes_student:
        changed["train"] = recipe.train.model_copy(update={"epochs": 1})
    return recipe.model_copy(update=changed)


def _shared(recipe: Recipe) -> Recipe:
    """On a CPU in two processes, which compute what one would, and sooner."""
    processes = 1 if has_nvidia() else 2
    share = recipe.rollouts.size // (recipe.rollouts.updates * processes)
    changed = {"processes": processes, "batch_size": min(recipe.train.batch_size, share)}
    shared = recipe.model_copy(update={"train": recipe.train.model_copy(update=changed)})
    return Recipe.model_validate(shared.model_dump(exclude_unset=True))


async def _round(recipe: Recipe, home: Home, base: str | None = None) -> Outcome:
    if base is not None:
        student = recipe.student.model_copy(update={"weights": base})
        recipe = recipe.model_copy(update={"student": student})
    return await run_round(recipe, home, Shown(Console()))


def _of_tasks(outcome: Outcome, home: Home) -> Learned:
    gate = outcome.reports["gate"]
    bar = next(one for one in gate["bars"] if one["parser"] == "strict")
    return _learned(
        "a verifier",
        outcome,
        home,
        f"{bar['gain']:+.1%} right",
        bar["p"],
        right_way=bar["gain"] > 0,
    )


def _of_wishes(outcome: Outcome, home: Home) -> Learned:
    gate = outcome.reports["gate"]
    [length] = [one for one in gate["conditions"] if one["name"] == "length"]
    shorter = gate["length_ratio"][0] < 1
    return _learned(
        "a reward model", outcome, home, length["found"], length["p"], right_way=shorter
    )


def _learned(
    task: str, outcome: Outcome, home: Home, held_out: str, p: float, *, right_way: bool
) -> Learned:
    run = str(outcome.reports["train"]["training_run"])
    with closing(connect(home.store)) as db:
        curves = {name: checkpoints.metrics_of(db, run, name) for name in CURVES}
        earned = [
            # Answers to one prompt resemble each other: their mean is one figure.
            (int(batch), float(reward))
            for batch, reward in db.execute(
                "select batch, avg(reward) from rollouts"
                " where training_run_id = ? and reward is not null group by batch, prompt_id",
                (run,),
            )
        ]
    end = max(batch for batch, _ in earned) + 1
    first = [reward for batch, reward in earned if batch < ENDS]
    last = [reward for batch, reward in earned if batch >= end - ENDS]
    score_p = float(mannwhitneyu(last, first, alternative="greater").pvalue)
    kl = outcome.reports["gate"]["kl"]
    return Learned(task, fmean(first), fmean(last), score_p, held_out, p, kl, curves, right_way)


def _draw(found: list[Learned], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(found), len(CURVES), squeeze=False)
    for one, axes in zip(found, grid, strict=True):
        for name, axis in zip(CURVES, axes, strict=True):
            axis.plot(*zip(*one.curves[name], strict=True))
            axis.set(title=name.replace("_", " "), xlabel="step")
        axes[0].set_ylabel(f"paid by {one.task}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
