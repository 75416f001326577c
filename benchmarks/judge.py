"""What our path costs between a comparison and a stored verdict, against a bare httpx loop.

    make bench NAME=judge

The very same requests go to the same vLLM server (the packaged model, prefix caching on, emptied
before each pass) at the same concurrency, in turn. Ours stores comparisons, intents, replies and
verdicts; the bare loop keeps replies in memory.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.teacher import CONCURRENCY, Pass, bare, interleaved
from benchmarks.verdict import conclude, show, skip
from judges.compare import compare_call
from judges.constitution_file import load
from judges.judge import Judge, comparing
from judges.records import ORDERS
from pipelines.certification import case_pair
from pipelines.home import Home
from pipelines.judging import Question, judged
from pipelines.recipe import JudgeSection
from pipelines.seat import Seat
from pipelines.workbench import Workbench
from teachers.client import chat_body
from teachers.engine import Engine, EngineSettings
from teachers.errors import WeightsError
from teachers.progress import Silent
from teachers.weights import Weights, prepare

BAR = 0.95
CONSTITUTION = Path(__file__).parents[1] / "constitutions" / "helpful-honest-harmless.yaml"
# Both orders of each: 192 verdicts a pass, of which four share all but the rule.
COMPARISONS, PRINCIPLES = 24, 4
KEY = "PRECEPTOR_BENCH_KEY"


def questions() -> list[Question]:
    """Real texts: the cases of one shipped principle, judged by several."""
    principles = load(CONSTITUTION).principles[:PRINCIPLES]
    pairs = [case_pair(case) for principle in principles for case in principle.cases]
    return [
        Question(pair.compared, principle)
        for pair in pairs[:COMPARISONS]
        for principle in principles
    ]


async def ours(place: JudgeSection, judge: Judge, wanted: Sequence[Question]) -> Pass:
    """Our path into a fresh store."""
    with tempfile.TemporaryDirectory() as folder:
        async with Workbench(Home(Path(folder)), Silent()) as bench:
            began = time.monotonic()
            await judged(bench, Seat(judge, place), wanted, "bench")
            seconds = time.monotonic() - began
            rows, tokens = bench.db.execute(
                "select count(*), (select sum(completion_tokens) from calls) from judgements"
                " where state != 'error'"
            ).fetchone()
    return Pass(seconds, rows, tokens)


async def compared(
    weights: Weights, home: Path, settings: EngineSettings
) -> list[tuple[Pass, Pass]]:
    """Both paths against one server."""
    wanted, judge = questions(), comparing(weights.fingerprint)
    async with Engine(weights, home, settings=settings, concurrency=CONCURRENCY) as engine:
        await engine.start()
        os.environ[KEY] = engine.key
        url, name = engine.client.endpoint.base, engine.name
        place = JudgeSection(url=url, model=name, api_key_env=KEY, concurrency=CONCURRENCY)
        bodies = [
            chat_body(name, compare_call(judge, one.compared.comparison, one.principle, order))
            for one in wanted
            for order in ORDERS
        ]
        return await interleaved(
            "judge",
            lambda: ours(place, judge, wanted),
            lambda: bare(url, engine.key, bodies),
            lambda: engine.client.post("/reset_prefix_cache", {}),
        )


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        try:
            weights = prepare("packaged:SmolLM2-135M-Instruct", home)
        except WeightsError as missing:
            skip("judge", missing.message)
        report(asyncio.run(compared(weights, home, EngineSettings())))


def report(pairs: Sequence[tuple[Pass, Pass]]) -> None:
    """Print and end."""
    speeds = [(a.rows / a.seconds, b.rows / b.seconds) for a, b in pairs]
    ratio = statistics.median(a / b for a, b in speeds)
    medians = [f"{statistics.median(column):.1f}" for column in zip(*speeds, strict=True)]
    columns = ["verdicts a pass", "ours, verdicts/s", "bare, verdicts/s", "ratio", "bar", "pairs"]
    row = [pairs[0][0].rows, *medians, f"{ratio:.3f}", BAR, len(pairs)]
    show("judging (store included) against a bare httpx loop, medians", columns, [row])
    conclude("judge", ratio, BAR, at_least=True)


if __name__ == "__main__":
    main()
