"""How long the API takes over a full store, while a round is writing into it.

    make bench NAME=api

The store has 100,000 answers of 80 words, drawn so that a few words are common and most are rare.
The service's API is a process of its own, asked over HTTP; beside it a real round asks the scripted
endpoint as fast as it can, and commits each answer. Bar: the 95th percentile of the slowest kind of
request, in milliseconds.
"""

import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.verdict import conclude, show
from pipelines.home import Home
from pipelines.store import calls, rounds
from pipelines.store.calls import Asked
from pipelines.store.connection import connect, transaction
from teachers.client import Completion, Usage
from teachers.records import Call, Message, Prompt, Sample, Sampling
from tests.commands import free_port
from tests.places import Place, usual
from tests.tiny import tiny_model

BAR_MS = 50.0
PROMPTS, EACH, WORDS = 10_000, 10, 80
VOCABULARY, CHUNK = 20_000, 250
REQUESTS, WARM_UPS = 200, 20
WRITTEN = 50
"""Answers that the round has to have written meanwhile, at least."""
SERVER = """
import sys, uvicorn
from pathlib import Path
from pipelines.home import Home
from service.app import create_api
from service.auth import Door
home = Home(Path(sys.argv[1]))
uvicorn.run(create_api(home, Door(home, open_=True)), port=int(sys.argv[2]), log_level="warning")
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tiny_model(root / "model")
        place = Place(root, usual(root), "--delay-ms", "5")
        began = time.monotonic()
        _fill(place.home)
        print(f"{PROMPTS * EACH:,} answers stored in {time.monotonic() - began:.0f} s", flush=True)
        with _served(place.home) as url, _writing(place):
            before = place.one("select count(*) from samples")
            taken = _asked(url)
            written = place.one("select count(*) from samples") - before
    rows = [
        [kind, f"{statistics.median(times):.1f}", f"{_p95(times):.1f}", f"{max(times):.1f}"]
        for kind, times in taken.items()
    ]
    title = f"milliseconds, {REQUESTS} requests each, while a round wrote {written} answers"
    show(title, ["request", "median", "p95", "longest"], rows)
    worst = max(_p95(times) for times in taken.values())
    conclude("api", worst, BAR_MS, at_least=False, also=written >= WRITTEN)


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def _fill(home: Home) -> None:
    """Store prompts, calls and their answers, as rounds do."""
    drawn = random.Random(1)
    shares = [1 / (rank + 3) for rank in range(VOCABULARY)]
    asked = [Prompt(task="made", question=f"Question {n}?") for n in range(PROMPTS)]
    with closing(connect(home.store)) as db:
        with transaction(db):
            rounds.open_round(db, "filled", "filled", 1, "{}")
            calls.add_prompts(db, "filled", ((one, "train", "made") for one in asked))
        for start in range(0, PROMPTS, CHUNK):
            with transaction(db):
                for prompt in asked[start : start + CHUNK]:
                    words = drawn.choices(range(VOCABULARY), shares, k=EACH * WORDS)
                    _answer(Asked(_call(prompt), prompt.id, "teach"), words, db)


def _call(prompt: Prompt) -> Call:
    message = Message(role="user", content=prompt.question)
    return Call(weights="none", messages=(message,), sampling=Sampling(n=EACH))


def _answer(asked: Asked, words: list[int], db: Any) -> None:
    samples = tuple(
        Sample(
            call_id=asked.call.id,
            position=position,
            text=" ".join(f"w{word}" for word in words[position * WORDS : (position + 1) * WORDS]),
            finish_reason="length" if words[position] % 100 == 7 else "stop",
            tokens=WORDS,
        )
        for position in range(EACH)
    )
    attempt = calls.send(db, "filled", asked)
    calls.finish(db, asked, attempt, Completion(samples, Usage(10, EACH * WORDS)))


@contextmanager
def _served(home: Home) -> Iterator[str]:
    port = free_port()
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(home.root), port])
    url = f"http://127.0.0.1:{port}"
    try:
        while server.poll() is None:
            try:
                httpx.get(f"{url}/version")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait()


@contextmanager
def _writing(place: Place) -> Iterator[None]:
    """A round that is asking its teacher."""
    many = {"generators": [{"generator": "chain_sum", "train": 20_000, "held_out": 60}]}
    recipe = place.recipe(supply=many, teacher={"concurrency": 8})
    before = place.one("select count(*) from samples")
    with place.start(recipe) as process:
        try:
            while place.one("select count(*) from samples") == before:
                if process.poll() is not None:
                    raise SystemExit(f"The round ended: {process.communicate()}")
                time.sleep(0.2)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()


def _asked(url: str) -> dict[str, list[float]]:
    """Milliseconds of each request, by its kind; the kinds take turns."""
    drawn = random.Random(2)
    with httpx.Client(base_url=url) as client:
        some = client.get("/samples", params={"limit": 500}).json()["items"]

        def kinds() -> dict[str, tuple[str, dict[str, Any]]]:
            one = drawn.choice(some)
            rare = drawn.randrange(5_000, VOCABULARY)
            return {
                "list, newest": ("/samples", {}),
                "list, far back": ("/samples", {"after": drawn.randrange(100, PROMPTS * EACH)}),
                "filter, of a prompt": ("/samples", {"prompt_id": one["prompt_id"]}),
                "filter, 1 in 100": ("/samples", {"finish_reason": "length"}),
                "search, a common word": ("/samples", {"q": "w0"}),
                "search, a rare word": ("/samples", {"q": f"w{rare}"}),
                "search, two words": ("/samples", {"q": f"w1 w{drawn.randrange(50, 500)}"}),
                "search, and filter": ("/samples", {"q": "w2", "finish_reason": "length"}),
                "one row": (f"/samples/{one['id']}", {}),
                "prompts, search": ("/prompts", {"q": f"question {drawn.randrange(PROMPTS)}"}),
            }

        taken: dict[str, list[float]] = {name: [] for name in kinds()}
        for turn in range(WARM_UPS + REQUESTS):
            for name, (path, asked) in kinds().items():
                began = time.perf_counter()
                client.get(path, params=asked).raise_for_status()
                if turn >= WARM_UPS:
                    taken[name].append(1000 * (time.perf_counter() - began))
    return taken


if __name__ == "__main__":
    main()
