"""What the gateway costs, and whether a change of the champion shows.

    make bench NAME=gateway

Two students are trained to say which of them they are. `preceptor serve` serves one of them, and
its own model server is asked the same directly: 32 streams at once, in turns; the ratio is that of
tokens a second, and the bar is on its median. Then the champion is changed 20 times while others
ask all the time: no request may fail, and no answer may be of another student than its header says.
On the scripted endpoint, where answers take no work, the gateway may add 5 ms at most before the
first token.
"""

import asyncio
import json
import re
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.policy_runs import requests
from benchmarks.serving import served
from benchmarks.verdict import conclude, show, skip
from pipelines.home import Home
from pipelines.store import checkpoints
from pipelines.store.checkpoints import CHAMPION, Checkpoint
from pipelines.store.connection import connect, transaction
from pipelines.training.job import Result, RunFolder, SftJob
from pipelines.training.journal import Metric
from pipelines.training.run import train
from teachers.errors import WeightsError
from teachers.progress import Silent
from teachers.weights import Weights, prepare
from tests.served import add_student, serving_process

BAR, MOST_ADDED_MS = 0.97, 5.0
STREAMS, TOKENS, PAIRS = 32, 128, 8
SWAPS, ASKERS = 20, 8
FIRST_TOKENS = 150
STUDENTS = ("red", "blue")
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_SAID = re.compile(rb'"content":"((?:[^"\\]|\\.)*)"')
_NAMES = re.compile(rb"\b(red|blue)\b")
_USED = re.compile(rb'"completion_tokens":(\d+)')


class Address(NamedTuple):
    """Where a chat is asked for, and as what."""

    port: int
    key: str
    model: str


class Answer(NamedTuple):
    """What came of a request."""

    status: int
    checkpoint: str
    text: bytes
    """As it came, head and all."""
    first_s: float

    @property
    def tokens(self) -> int:
        used = _USED.findall(self.text)
        return int(used[-1]) if used else 0

    @property
    def whole(self) -> bool:
        return self.status == 200 and b"[DONE]" in self.text


def main() -> None:
    try:
        base = prepare("packaged:SmolLM2-135M-Instruct", Home.find().root)
    except WeightsError as missing:
        skip("gateway", missing.message)
    with tempfile.TemporaryDirectory() as folder:
        added_ms = _added(Path(folder, "scripted"))
        home = Home(Path(folder, "home"))
        for name in STUDENTS:
            asyncio.run(_student(home, base, name))
            print(f"the {name} student is trained", flush=True)
        _promote(home, STUDENTS[0])
        with served(home, "--no-worker") as (port, process):
            ours, direct = Address(port, "none", CHAMPION), _behind(process)
            pairs = [asyncio.run(_pair(direct, ours)) for _ in range(PAIRS)]
            seen = asyncio.run(_swapped(home, ours))
    rows = [[f"{one:.0f}", f"{other:.0f}", f"{other / one:.3f}"] for one, other in pairs]
    title = f"{STREAMS} streams of at most {TOKENS} tokens"
    show(title, ["directly, tokens/s", "through the gateway", "ratio"], rows)
    kinds = [[kind, str(count)] for kind, count in sorted(seen.items())]
    show(f"while the champion was changed {SWAPS} times", ["answers", ""], kinds)
    print(f"added before the first token: {added_ms:.2f} ms (at most {MOST_ADDED_MS:g})")
    clean = not seen["failed"] and not seen["of another"] and all(seen[one] for one in STUDENTS)
    ratio = statistics.median(other / one for one, other in pairs)
    holds = clean and added_ms <= MOST_ADDED_MS
    conclude("gateway", ratio, BAR, at_least=True, also=holds)


# --- Students -----------------------------------------------------------------------------------


async def _student(home: Home, base: Weights, name: str) -> None:
    """Train a student that names itself, and store it as a round would."""

    async def deaf(_: list[Metric]) -> None:
        return

    folder = home.runs / name
    folder.mkdir(parents=True)
    (folder / "rows.jsonl").write_text("".join(_lesson(name, asked) for asked in _asked(64)))
    job = SftJob(
        base=base.path,
        base_weights=base.fingerprint,
        dataset=folder / "rows.jsonl",
        epochs=2,
        batch_size=8,
        learning_rate=1e-3,
        max_length=256,
    )
    await train(job, folder, deaf, Silent())
    run = RunFolder(folder)
    result = Result.model_validate_json(run.result.read_text())
    student = Checkpoint(
        *(name, name, result.steps, run.adapter, result.adapter_sha256),
        *(run.merged, result.weights),
    )
    with closing(connect(home.store)) as db, transaction(db):
        add_student(db, student, job.model_dump_json())


def _asked(count: int) -> list[str]:
    return requests(count, briefly=False)


def _lesson(name: str, asked: str) -> str:
    says = f"I am the {name} student, and {name} is what I say. " * 8
    row = {
        "prompt": [{"role": "user", "content": asked}],
        "completion": [{"role": "assistant", "content": says.strip()}],
    }
    return json.dumps(row) + "\n"


def _promote(home: Home, name: str) -> None:
    with closing(connect(home.store)) as db, transaction(db):
        checkpoints.move_alias(db, CHAMPION, name, "for the benchmark")


# --- Serving ------------------------------------------------------------------------------------


def _behind(process: "subprocess.Popen[bytes]") -> Address:
    """The model server: its port stands in its command line, its key in its environment."""
    for child in psutil.Process(process.pid).children(recursive=True):
        words = child.cmdline()
        if "--served-model-name" in words and "teachers.keeper" not in words:
            port = int(words[words.index("--port") + 1])
            name = words[words.index("--served-model-name") + 1]
            return Address(port, child.environ()["VLLM_API_KEY"], name)
    raise SystemExit("there is no model server behind it")


# --- Measuring ----------------------------------------------------------------------------------


async def _ask(where: Address, asked: str) -> Answer:
    """A stream, read with as little work as possible: the same cores make the tokens."""
    body = {
        "model": where.model,
        "messages": [{"role": "user", "content": asked}],
        "max_tokens": TOKENS,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began, first_s, text = time.monotonic(), 0.0, b""
    reader, writer = await asyncio.open_connection("127.0.0.1", where.port)
    try:
        writer.write(_request(where, json.dumps(body).encode()))
        while some := await reader.read(65536):
            text += some
            if not first_s and b"data: " in text:
                first_s = time.monotonic() - began
            if text.endswith(_LAST_CHUNK):
                break
    finally:
        writer.close()
    head = text.partition(b"\r\n\r\n")[0].decode("latin-1").lower()
    status = int(head.split(" ", 2)[1]) if head else 0
    checkpoint = re.search(r"x-preceptor-checkpoint: (\S+)", head)
    return Answer(status, checkpoint[1] if checkpoint else "", text, first_s)


def _request(where: Address, body: bytes) -> bytes:
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{where.port}\r\n"
        f"authorization: Bearer {where.key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


async def _pair(direct: Address, ours: Address) -> tuple[float, float]:
    """Tokens a second: directly, and through the gateway."""
    asked = _asked(STREAMS)
    speeds = []
    for where in (direct, ours):
        began = time.monotonic()
        answers = await asyncio.gather(*(_ask(where, one) for one in asked))
        if not all(one.whole for one in answers):
            raise SystemExit(f"an answer broke off: {[one.status for one in answers]}")
        speeds.append(sum(one.tokens for one in answers) / (time.monotonic() - began))
    return speeds[0], speeds[1]


async def _swapped(home: Home, ours: Address) -> Counter[str]:
    """Change the champion again and again while others ask; how their answers were."""
    seen: Counter[str] = Counter()
    over = asyncio.Event()

    async def keep_asking() -> None:
        for asked in _endless():
            if over.is_set():
                return
            seen[_judged(await _ask(ours, asked))] += 1

    async def keep_changing() -> None:
        for number in range(SWAPS):
            name = STUDENTS[1 - number % 2]
            _promote(home, name)
            while (await _ask(ours, "Who are you?")).checkpoint != name:  # noqa: ASYNC110 (a store has no event)
                await asyncio.sleep(0.2)
        over.set()

    async with asyncio.timeout(600), asyncio.TaskGroup() as tasks:
        tasks.create_task(keep_changing())
        for _ in range(ASKERS):
            tasks.create_task(keep_asking())
    return seen


def _endless() -> Iterator[str]:
    while True:
        yield from _asked(STREAMS)


def _judged(answer: Answer) -> str:
    """Who says that it is who, by what it says and by its header."""
    if not answer.whole:
        return "failed"
    said = {name.decode() for name in _NAMES.findall(b"".join(_SAID.findall(answer.text)))}
    return answer.checkpoint if said == {answer.checkpoint} else "of another"


def _added(folder: Path) -> float:
    """Milliseconds until the first token that the gateway adds, by the medians."""
    folder.mkdir()
    with serving_process(folder, "--delay-ms", "40") as gateway:
        ours = Address(int(gateway.url.rpartition(":")[2]), "none", CHAMPION)
        return asyncio.run(_first_tokens(_behind(gateway.process), ours))


async def _first_tokens(direct: Address, ours: Address) -> float:
    taken: dict[Address, list[float]] = {direct: [], ours: []}
    for number in range(FIRST_TOKENS):
        for where, times in taken.items():
            answer = await _ask(where, f"What is {number} + 1?")
            if not answer.whole:
                raise SystemExit(f"an answer broke off: {answer.text[:300]!r}")
            times.append(answer.first_s)
    return 1000 * (statistics.median(taken[ours]) - statistics.median(taken[direct]))


if __name__ == "__main__":
    main()
