"""Runs of our GRPO on requests that people make, as the benchmarks of its speed need them."""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

from pipelines.practice import tell_where
from pipelines.recipe import Rollouts
from pipelines.training.guards import Guards
from pipelines.training.job import PolicyJob, RunFolder
from pipelines.training.run import OnMetric, train
from teachers.engine import Engine, EngineSettings
from teachers.progress import Silent
from teachers.weights import Weights

PROMPTS, GROUP, BATCH = 4, 6, 12
REQUESTS = Path(__file__).parent.parent / "recipes" / "prompts" / "everyday.jsonl"
# What they watch for is no fault of these runs, and one that trips ends a run.
_GUARDS = (
    *("length", "repetition", "entropy", "kl", "format", "watch"),
    *("engine_gap", "surviving_share"),
)
BRIEFLY = "Answer in one or two sentences."

Kind = TypeVar("Kind", bound=PolicyJob)


def requests(n: int = PROMPTS, *, briefly: bool = True) -> list[str]:
    """What people ask for.

    Args:
        briefly: half of them are to be answered so, and then answers are of all lengths.
    """
    rows = [json.loads(line)["question"] for line in REQUESTS.read_text().splitlines()[:n]]
    return [f"{row} {BRIEFLY}" if briefly and at % 2 == 0 else row for at, row in enumerate(rows)]


def job_of(
    base: Weights,
    folder: Path,
    asked: list[str],
    how: dict[str, Any],
    kind: type[Kind],
    **more: Any,
) -> Kind:
    """A job on some requests, in a folder of its own.

    Args:
        how: what its rollouts are.
        more: what it is told otherwise than usual.
    """
    folder.mkdir(parents=True)
    dataset = folder / "prompts.jsonl"
    dataset.write_text("".join(map(_exercise, asked)))
    usual = {"objective": "grpo", "loss": ("dr_grpo",), "batch_size": BATCH}
    return kind(
        base=base.path,
        base_weights=base.fingerprint,
        dataset=dataset,
        rollouts=Rollouts(**{"prompts": PROMPTS, "group": GROUP, **how}),
        guards=Guards.model_validate(dict.fromkeys(_GUARDS)),
        **{**usual, **more},
    )


def _exercise(text: str) -> str:
    prompt = {"task": "requests", "question": text, "verifier": "none"}
    messages = [{"role": "user", "content": text}]
    return json.dumps({"prompt": prompt, "messages": messages}) + "\n"


@contextlib.asynccontextmanager
async def trained(
    job: PolicyJob, base: Weights, folder: Path, on_metric: OnMetric
) -> AsyncIterator[Engine | None]:
    """Train, with a server beside it where the job asks for one; it is there until the end."""
    async with contextlib.AsyncExitStack() as stack:
        engine = None
        if job.rollouts.sampler == "engine":
            engine = Engine(base, folder, settings=EngineSettings(), concurrency=64)
            await stack.enter_async_context(engine)
            await engine.start()
            tell_where(RunFolder(folder), engine)
        await train(job, folder, on_metric, Silent())
        yield engine
