"""A constitution steers a student: there, and back again after one principle is turned round.

    make bench NAME=steering

From SmolLM2-135M, twice over. First with labels by a judge of our own, which is trained here and
certified on cases that it never saw, then with labels by construction:

    round 1   DPO under `concise-assistant`: answers get shorter
    round 2   the principle is edited to its opposite, the next round starts from round 1's student

Measured on held-out everyday requests, answers of at most 512 tokens: the median length against
the start, with a bootstrap interval; Wilcoxon's p of each movement; and what sums lose, asked with
worked examples, of which the start gets about two in five right.
"""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks.verdict import conclude, show, skip
from pipelines.gates.statistics import Change, change, median_ratio, moved
from pipelines.home import Home
from pipelines.recipe import Recipe
from pipelines.recipe_file import load
from pipelines.round import run_round
from pipelines.store import checkpoints
from pipelines.store.checkpoints import CHAMPION
from pipelines.store.connection import connect, transaction
from service.progress import Shown
from teachers.errors import Uncertified, WeightsError
from teachers.progress import Progress
from teachers.weights import Weights, prepare

BAR_THERE, BAR_BACK, BAR_P, BAR_LOSS = 0.67, 0.9, 0.01, -0.05
# What the start cannot do, it cannot lose.
START_RIGHT = 0.3
LEAST_PROMPTS = 150
RECIPES = Path(__file__).parent.parent / "recipes"
OPPOSITE = RECIPES / "constitutions" / "thorough-assistant.yaml"
ARMS = ("judge", "construction")
# The way back takes more: with the same rate both ways it ends short of where it started.
LEARNING_RATES = {1: 1e-4, 2: 2e-4}


class Round(NamedTuple):
    """What one round did to the student."""

    arm: str
    number: int
    pairs: int
    before: list[int]
    """Tokens of each answer of the round's incumbent,"""
    after: list[int]
    """and of its student."""
    ratio: Change
    """Median length against the start's."""
    p: float
    """Of the movement in this round: from the start, or from round 1's student."""
    accuracy: Change
    """Of the sums, against the start."""
    start_right: float
    """Share of the sums that the start gets right."""
    promoted: bool
    checkpoint: str
    seconds: float


def main() -> None:
    console = Console()
    try:
        base = prepare("packaged:SmolLM2-135M-Instruct", Home.find().root)
    except WeightsError as missing:
        skip("steering", missing.message)
    with tempfile.TemporaryDirectory() as place:
        rounds, judge = asyncio.run(_experiment(Home(Path(place)), base, Shown(console)))
    _show_judge(judge)
    _show_rounds(rounds)
    firsts = [one for one in rounds if one.number == 1]
    conclude(
        "steering",
        max(one.ratio.value for one in firsts),
        BAR_THERE,
        at_least=False,
        also=len(rounds) == 2 * len(ARMS) and all(map(_holds, rounds)),
    )


def _holds(one: Round) -> bool:
    there = one.ratio.value <= BAR_THERE if one.number == 1 else one.ratio.value >= BAR_BACK
    enough = len(one.after) >= LEAST_PROMPTS
    kept = one.accuracy.low > BAR_LOSS and one.start_right >= START_RIGHT
    return there and one.p < BAR_P and kept and enough


async def _experiment(
    home: Home, base: Weights, progress: Progress
) -> tuple[list[Round], dict[str, Any]]:
    rounds: list[Round] = []
    judge: dict[str, Any] = {}
    folder = str(base.path)
    for arm in ARMS:
        if arm == "judge":
            progress.say("a judge of one's own")
            judge = await _train_judge(home, folder, progress)
            if not judge["passed"]:
                progress.say("it may not label: there is no such arm")
                continue
        with closing(connect(home.store)) as db, transaction(db):
            checkpoints.move_alias(db, CHAMPION, None, "both arms start from the base")
        start = folder
        for number in (1, 2):
            progress.say(f"{arm}, round {number}")
            try:
                recipe = _recipe(folder, start, arm, number)
                done = await _round(home, recipe, progress, rounds, base.fingerprint)
            except Uncertified as refused:
                progress.say(str(refused))
                break
            rounds.append(done)
            start = f"checkpoint:{done.checkpoint}"
    return rounds, judge


def _recipe(base: str, start: str, arm: str, number: int) -> Recipe:
    """The shipped recipe, with what makes this round this round."""
    recipe = load(RECIPES / "concise.yaml")
    changes: dict[str, Any] = {
        "name": f"{arm}-{number}",
        "student": recipe.student.model_copy(update={"weights": start}),
        "teacher": recipe.teacher.model_copy(update={"weights": base}),
        "train": recipe.train.model_copy(update={"learning_rate": LEARNING_RATES[number]}),
        "pairs": recipe.pairs.model_copy(update={"source": arm}),
    }
    if arm == "construction":
        changes["judge"] = None
    if number == 2:
        changes["constitution"] = str(OPPOSITE)
        changes["gate"] = recipe.gate.model_copy(update={"length": "longer"})
    return recipe.model_copy(update=changes)


async def _train_judge(home: Home, base: str, progress: Progress) -> dict[str, Any]:
    recipe = load(RECIPES / "concise-judge.yaml")
    student = recipe.student.model_copy(update={"weights": base})
    began = time.monotonic()
    outcome = await run_round(recipe.model_copy(update={"student": student}), home, progress)
    return {**outcome.reports["certify"], "seconds": time.monotonic() - began}


async def _round(
    home: Home, recipe: Recipe, progress: Progress, earlier: Sequence[Round], start_weights: str
) -> Round:
    began = time.monotonic()
    outcome = await run_round(recipe, home, progress)
    gate = outcome.reports["gate"]
    before, after = gate["lengths"].values()
    arm, _, number = recipe.name.rpartition("-")
    first = earlier[-1] if number == "2" else None
    accuracy, start_right = _accuracy(home, start_weights, str(gate["checkpoint"]))
    return Round(
        arm=arm,
        number=int(number),
        pairs=outcome.reports["pair"]["rows"],
        before=before,
        after=after,
        ratio=median_ratio(first.before if first else before, after),
        p=moved(first.after if first else before, after),
        accuracy=accuracy,
        start_right=start_right,
        promoted=outcome.promoted,
        checkpoint=str(gate["checkpoint"]),
        seconds=time.monotonic() - began,
    )


def _accuracy(home: Home, start: str, checkpoint: str) -> tuple[Change, float]:
    """Of the sums: the student's share of right answers minus the start's, and the start's."""
    with closing(connect(home.store)) as db:
        rows = db.execute(
            "select start.lenient = 'verified', student.lenient = 'verified'"
            " from eval_items student join eval_items start using (prompt_id)"
            " where student.eval_id = (select id from evals where checkpoint_id = ?)"
            " and start.eval_id = (select id from evals where weights = ?)",
            (checkpoint, start),
        ).fetchall()
    was = [bool(first) for first, _ in rows]
    return change(was, [bool(second) for _, second in rows]), sum(was) / len(was)


def _show_judge(judge: dict[str, Any]) -> None:
    rows = []
    for one in judge.get("principles", ()):
        for who in ("base", "judge"):
            for gold, found in one[who].items():
                accuracy = f"{found['accuracy']:.0%} [{found['low']:.0%}, {found['high']:.0%}]"
                passed = "not passed" if found["faults"] else "passed"
                rows.append([one["text"][:60], who, gold, found["n"], accuracy, passed])
    title = f"the judge, {judge.get('seconds', 0):.0f} s, on what it never saw"
    show(title, ["principle", "who", "pairs", "n", "accuracy", ""], rows)


def _show_rounds(rounds: Sequence[Round]) -> None:
    columns = ["labels, round", "pairs", "prompts", "median tokens", "of the start", "p"]
    columns += ["sums: start, change", "promoted", "min", "bars"]
    show("length of held-out answers", columns, [_line(one) for one in rounds])


def _line(one: Round) -> list[object]:
    return [
        f"{one.arm} {one.number}",
        one.pairs,
        len(one.after),
        f"{_median(one.before)} -> {_median(one.after)}",
        f"{one.ratio.value:.2f} [{one.ratio.low:.2f}, {one.ratio.high:.2f}]",
        f"{one.p:.1e}",
        f"{one.start_right:.0%}, {one.accuracy}",
        "yes" if one.promoted else "no",
        f"{one.seconds / 60:.1f}",
        "holds" if _holds(one) else "missed",
    ]


def _median(lengths: Sequence[int]) -> int:
    return sorted(lengths)[len(lengths) // 2]


if __name__ == "__main__":
    main()
