"""What our path costs between a prompt and a stored answer, against a bare asyncio and httpx loop.

    make bench NAME=teacher

The same requests go to the same running server at the same concurrency, in turn (ours, bare, ours,
…). Ours writes an intent before each call and the answer after it, both on disk; the bare loop
keeps texts in memory.

- engine-bound: a real vLLM server with the packaged model, greedy; tokens/s, bar 0.97.
- client-bound: the scripted endpoint, 20 ms an answer; rows/s, bar 0.8.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from benchmarks.verdict import conclude, show, skip
from pipelines.ask import ask
from pipelines.context import Context
from pipelines.home import Home
from pipelines.recipe import Generator, Recipe, Student, Supply
from pipelines.source import Remote
from pipelines.store.calls import Asked
from teachers.client import Client, Endpoint, chat_body
from teachers.engine import Engine
from teachers.errors import WeightsError
from teachers.progress import Silent
from teachers.prompting.tasks import generate
from teachers.records import Call, Message, Sampling
from teachers.weights import prepare
from tests.scripted.running import running
from tests.tiny import tiny_model

ENGINE_BAR, CLIENT_BAR = 0.97, 0.8
PAIRS = 4
# Short answers would measure how requests start and end, not how a server generates.
LONG = "Explain in many sentences, step by step, how one works this out by hand."
ENGINE_CALLS, ENGINE_TOKENS = 96, 64
CLIENT_CALLS, CLIENT_DELAY_MS = 2000, 20.0
CONCURRENCY = 32


class Pass(NamedTuple):
    """One run through all requests."""

    seconds: float
    rows: int
    tokens: int


OnePass = Callable[[], Awaitable[Pass]]


def calls(weights: str, count: int, max_tokens: int) -> list[Asked]:
    """Different questions that want long answers, greedy."""
    config = {"min_terms": 2, "max_terms": 4, "min_digits": 2, "max_digits": 3}
    prompts = generate("chain_sum", config, seed=5)
    sampling = Sampling(n=1, temperature=0.0, max_tokens=max_tokens)
    return [
        Asked(
            Call(
                weights=weights,
                messages=(Message(role="user", content=f"{LONG}\n{prompt.question}"),),
                sampling=sampling,
            ),
            prompt.id,
            "bench",
        )
        for prompt, _ in zip(prompts, range(count), strict=False)
    ]


async def ours(url: str, key: str, model: str, wanted: Sequence[Asked], base: Path) -> Pass:
    """Our path into a fresh store."""
    recipe = Recipe(
        name="bench",
        student=Student(weights=str(base)),
        supply=Supply(generators=(Generator(generator="chain_sum"),)),
    )
    endpoint = Endpoint(url=url, model=model, concurrency=CONCURRENCY)
    with tempfile.TemporaryDirectory() as folder:
        async with Context(recipe, Home(Path(folder)), Silent()) as context:
            async with Client(endpoint, key=key) as client:
                began = time.monotonic()
                await ask(context, Remote(client), wanted, "bench")
                seconds = time.monotonic() - began
            rows, tokens = context.db.execute(
                "select count(*), (select sum(completion_tokens) from calls) from samples"
            ).fetchone()
    return Pass(seconds, rows, tokens)


async def bare(url: str, key: str, bodies: Sequence[dict[str, Any]]) -> Pass:
    """What one writes without us: a queue, some tasks, httpx."""
    queue = iter(bodies)
    texts: list[str] = []
    tokens = 0

    async def worker(http: httpx.AsyncClient) -> None:
        nonlocal tokens
        for body in queue:
            answer = (await http.post("/v1/chat/completions", json=body)).raise_for_status().json()
            texts.append(answer["choices"][0]["message"]["content"])
            tokens += answer["usage"]["completion_tokens"]

    headers = {"Authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=CONCURRENCY)
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=300, limits=limits) as http:
        began = time.monotonic()
        await asyncio.gather(*(worker(http) for _ in range(CONCURRENCY)))
        return Pass(time.monotonic() - began, len(texts), tokens)


async def interleaved(
    name: str, our_path: OnePass, bare_path: OnePass, before: Callable[[], Awaitable[object]]
) -> list[tuple[Pass, Pass]]:
    """Pairs of passes, after one of each that is not counted."""
    pairs: list[tuple[Pass, Pass]] = []
    for turn in range(PAIRS + 1):
        await before()
        first = await our_path()
        await before()
        second = await bare_path()
        print(f"{name} {turn}: ours {first.seconds:.2f} s, bare {second.seconds:.2f} s", flush=True)
        if first.rows != second.rows:
            raise SystemExit(f"{name}: ours stored {first.rows} rows, bare got {second.rows}")
        if turn:
            pairs.append((first, second))
    return pairs


async def engine_bound(home: Path) -> list[tuple[Pass, Pass]]:
    """Both paths against one vLLM server."""
    weights = prepare("packaged:SmolLM2-135M-Instruct", home)
    wanted = calls(weights.fingerprint, ENGINE_CALLS, ENGINE_TOKENS)
    async with Engine(weights, home) as engine:
        await engine.start()
        url, key, name = engine.client.endpoint.base, engine.key, engine.name
        return await interleaved(
            "engine-bound",
            lambda: ours(url, key, name, wanted, weights.path),
            lambda: bare(url, key, [chat_body(name, asked.call) for asked in wanted]),
            lambda: engine.client.post("/reset_prefix_cache", {}),
        )


async def client_bound(folder: Path) -> list[tuple[Pass, Pass]]:
    """Both paths against the scripted endpoint."""
    base = tiny_model(folder / "tiny")
    wanted = calls("scripted", CLIENT_CALLS, 32)

    async def nothing() -> None:
        return None

    with running(folder, "--delay-ms", str(CLIENT_DELAY_MS)) as server:
        return await interleaved(
            "client-bound",
            lambda: ours(server.url, "none", "scripted", wanted, base),
            lambda: bare(server.url, "none", [chat_body("scripted", one.call) for one in wanted]),
            nothing,
        )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            engine = asyncio.run(engine_bound(Path(folder)))
        except WeightsError as missing:
            skip("teacher", missing.message)
        client = asyncio.run(client_bound(Path(folder)))
    tokens = [(a.tokens / a.seconds, b.tokens / b.seconds) for a, b in engine]
    rows = [(a.rows / a.seconds, b.rows / b.seconds) for a, b in client]
    ratios = []
    lines = []
    for what, unit, pairs, bar in (
        ("engine-bound", "tokens/s", tokens, ENGINE_BAR),
        ("client-bound", "rows/s", rows, CLIENT_BAR),
    ):
        ratio = statistics.median(a / b for a, b in pairs)
        ratios.append((ratio / bar, ratio, bar))
        medians = [f"{statistics.median(column):.1f}" for column in zip(*pairs, strict=True)]
        lines.append([what, unit, *medians, f"{ratio:.3f}", bar, len(pairs)])
    columns = ["case", "unit", "ours", "bare", "ratio (median of pairs)", "bar", "pairs"]
    show("ours (store included) against a bare httpx loop, medians", columns, lines)
    closest = min(ratios)
    conclude("teacher", closest[1], closest[2], at_least=True)


if __name__ == "__main__":
    main()
