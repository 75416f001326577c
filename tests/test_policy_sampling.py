"""A policy in training is sampled over HTTP: real child processes, and a server that opens the
weights of the tiny model, so that the proof of what it serves decides something."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from judges.rewards import RewardTerm
from pipelines.recipe import Rollouts
from pipelines.store.connection import connect
from pipelines.store.rollouts import of_run
from pipelines.training import grpo
from pipelines.training.job import PolicyJob, RunFolder
from pipelines.training.journal import Journal, Metric, Reader
from pipelines.training.kept import NewBatches
from pipelines.training.resume import last_sealed, step_of
from teachers.client import Tokens
from teachers.errors import GuardTripped, SyncMismatch, TrainingError
from teachers.process import die_with_parent
from tests.places import Place
from tests.runs import exercises, settings
from tests.scripted.opened import Opened
from tests.scripted.running import ROOT, Scripted, running
from tests.steps import one_step

if TYPE_CHECKING:
    from pipelines.training.policy import Handed

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # What TRL and torch say while they are imported and made is not about us.
    pytest.mark.filterwarnings("ignore"),
]

BATCHES, PROMPTS, GROUP, MAX_TOKENS = 4, 4, 4, 12
EARLY = RewardTerm(name="early", verifier="tests.rules:early_letters")
WAIT_S = 120.0


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exercises(tmp_path_factory.mktemp("data"))


def _job(base: Path, dataset: Path) -> PolicyJob:
    usual = settings(base, dataset, accumulation=1, batch_size=PROMPTS * GROUP, save_steps=1)
    return PolicyJob(
        **usual | {"objective": "grpo", "learning_rate": 0.03},
        rewards=(EARLY,),
        rollouts=Rollouts(
            batches=BATCHES, prompts=PROMPTS, group=GROUP, max_tokens=MAX_TOKENS, draws=1
        ),
    )


@contextmanager
def _served(base: Path, root: Path, *flags: str) -> Iterator[Scripted]:
    """A server with the policy's base, and a run's folder `root` that says where it is."""
    root.mkdir()
    with running(root, "--opened", "--model", str(base), *flags) as server:
        address = {"url": server.url, "model": "policy", "key": "any"}
        RunFolder(root).engine.write_text(json.dumps(address))
        yield server


def _asked(log: Path) -> int:
    """Requests for groups of answers that have arrived."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return sum(one["event"] == "arrived" and one["n"] == GROUP for one in lines)


def _tries(run: RunFolder, batch: int) -> list[list[str]]:
    """The groups of a batch as they were written down, parted where they were thrown away."""
    tries = list[list[str]]([[]])
    for line in run.sampled.read_text().splitlines():
        if line == json.dumps({"forget": batch}):
            tries.append([])
        elif line.startswith(f'{{"place": [{batch}, '):
            tries[-1].append(line)
    return tries


def _wait(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_S
    while not reached():
        assert time.monotonic() < until
        time.sleep(0.05)


def _trained(job: PolicyJob, root: Path) -> RunFolder:
    """Train in this process, on from the last checkpoint: a child's work without its start."""
    import torch

    torch.set_num_threads(1)
    run = RunFolder(root)
    with Journal(run.journal) as journal:
        grpo.train(job, run, journal, last_sealed(run.checkpoints))
    return run


@pytest.fixture(scope="module")
def straight(tiny: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that nobody disturbed."""
    root = tmp_path_factory.mktemp("runs") / "straight"
    with _served(tiny, root):
        return _trained(_job(tiny, dataset), root)


def _same(one: RunFolder, other: RunFolder) -> bool:
    """Whether two runs kept the same rollouts, and ended with the same adapter bit by bit."""
    kept = (NewBatches(run.rollouts).read() for run in (one, other))
    ended = ((run.adapter / "adapter_model.safetensors").read_bytes() for run in (one, other))
    return len({*ended}) == 1 and next(kept) == next(kept)


def test_a_run_over_http(straight: RunFolder) -> None:
    assert _asked(straight.root / "requests.jsonl") == BATCHES * PROMPTS
    batches = NewBatches(straight.rollouts).read()
    assert [len(batch) for batch in batches] == [PROMPTS * GROUP] * BATCHES
    assert all(len(one.tokens) == len(one.logprobs) for batch in batches for one in batch)
    told = [one for one in Reader(straight.journal).new() if isinstance(one, Metric)]
    assert 0.0 < max(one.value for one in told if one.name == "engine_gap") < 0.1
    # The first step only warms up: two batches are the base's.
    proven = [one.value for one in told if one.name == "sync_proven"]
    assert proven == [0.0, 0.0, 1.0, 1.0]


@pytest.mark.fault
def test_a_server_that_lost_the_policy_in_a_batch_is_given_it_again(
    straight: RunFolder, tiny: Path, dataset: Path, tmp_path: Path
) -> None:
    # Of the third batch the last three groups are the base's.
    with _served(tiny, tmp_path / "run", "--accident", "restart:10") as server:
        run = _trained(_job(tiny, dataset), tmp_path / "run")
        # And of the fourth, too.
        assert _asked(server.log) == (BATCHES + 2) * PROMPTS
    first, again = _tries(run, 2)
    assert len(first) == len(again) == PROMPTS
    assert len({*first} - {*again}) == 3
    assert _same(run, straight)


@pytest.mark.fault
def test_a_server_that_keeps_losing_the_policy_is_given_up(
    tiny: Path, dataset: Path, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "run")
    with (
        _served(tiny, run.root, "--accident", "restart:3") as server,
        pytest.raises(
            SyncMismatch, match=r"Batch 2 failed 3 times.*changed while it was sampled from"
        ),
    ):
        _trained(_job(tiny, dataset), run.root)
    assert _asked(server.log) == (2 + 3) * PROMPTS
    assert [len(groups) for groups in _tries(run, 2)] == [PROMPTS] * 3 + [0]
    assert len(NewBatches(run.rollouts).read()) == 2


@pytest.mark.fault
def test_a_killed_trainer_asks_only_for_what_was_missing(
    straight: RunFolder, tiny: Path, dataset: Path, tmp_path: Path
) -> None:
    job, run = _job(tiny, dataset), RunFolder(tmp_path / "run")
    with _served(tiny, run.root, "--accident", "silent:11") as server:
        _killed_in_a_batch(job, run)
        assert step_of(last_sealed(run.checkpoints) or run.root) == 2
        assert _asked(server.log) == 3 * PROMPTS
        _trained(job, run.root)
        # The group that nobody had answered is asked for again, and no other.
        assert _asked(server.log) == BATCHES * PROMPTS + 1
    assert _same(run, straight)


@pytest.mark.fault
@pytest.mark.parametrize(("another", "asked"), [(False, 0), (True, PROMPTS)])
def test_what_was_kept_is_used_if_it_is_the_policys(
    straight: RunFolder, tiny: Path, dataset: Path, tmp_path: Path, another: bool, asked: int
) -> None:
    with _served(tiny, tmp_path / "run") as server:
        run = RunFolder(tmp_path / "run")
        _stop_in_the_last_batch(straight, run, another)
        _trained(_job(tiny, dataset), run.root)
        assert _asked(server.log) == asked
    assert _same(run, straight)


def _stop_in_the_last_batch(straight: RunFolder, run: RunFolder, another: bool) -> None:
    """As a kill would have left it, with all groups kept: the policy's, or some other policy's."""
    shutil.copytree(straight.checkpoints, run.checkpoints)
    last = last_sealed(run.checkpoints)
    assert last is not None
    shutil.rmtree(last)
    assert step_of(last_sealed(run.checkpoints) or run.root) == BATCHES - 1
    whole = straight.rollouts.read_text().split("\n")
    run.rollouts.write_text("\n".join(whole[:-2]) + "\n")
    kept = [json.loads(line) for line in straight.sampled.read_text().split("\n") if line]
    for line in kept if another else []:
        line["answers"] = [[ids, [0.9 * p for p in said], e] for ids, said, e in line["answers"]]
    run.sampled.write_text("".join(json.dumps(line) + "\n" for line in kept))


def _all_but_one_kept(run: RunFolder) -> bool:
    return run.sampled.is_file() and len(_tries(run, 2)[0]) == PROMPTS - 1


def _killed_in_a_batch(job: PolicyJob, run: RunFolder) -> None:
    """Kill a training process that has all groups of the third batch but one."""
    run.job.write_text(job.model_dump_json())
    with (
        run.log.open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", job.module, str(run.root)],
            stdout=log,
            stderr=log,
            cwd=ROOT,
            preexec_fn=die_with_parent(os.getpid()),
        ) as training,
    ):
        _wait(lambda: training.poll() is not None or _all_but_one_kept(run))
        training.kill()
    assert training.returncode == -signal.SIGKILL, run.log.read_text()


@pytest.mark.fault
def test_probabilities_that_are_not_the_trainers_pause_the_run(
    tiny: Path, dataset: Path, tmp_path: Path
) -> None:
    with (
        _served(tiny, tmp_path / "run", "--off", "0.5"),
        pytest.raises(GuardTripped, match=r"gap between the engines .* is 0\.[45]"),
    ):
        _trained(_job(tiny, dataset), tmp_path / "run")


def test_the_server_says_what_the_weights_say(tiny: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from pipelines.training.models import logprobs

    tokens = [*range(3, 260)]
    exact = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    said = Opened(tiny, stuck=False, off=0.0).logprobs(tokens)
    assert said == pytest.approx(logprobs(exact, tokens), abs=1e-3)


@pytest.mark.fault
def test_groups_come_as_they_are_answered(tiny: Path, dataset: Path, tmp_path: Path) -> None:
    job, run = _job(tiny, dataset), RunFolder(tmp_path / "run")
    with _served(tiny, run.root, "--accident", "silent:4") as server:
        groups = asyncio.run(_all_but_one(job, run))
        # Nobody waits for the last one any more, and the server is told so.
        _wait(lambda: len(server.events("gone")) == 1)
    assert len({place for place, _ in groups}) == PROMPTS - 1
    for one in (one for _, group in groups for one in group):
        assert 0 < len(one.ids) == len(one.logprobs) <= MAX_TOKENS
        assert all(value < 0.0 for value in one.logprobs)
    assert [len(group) for _, group in groups] == [GROUP] * (PROMPTS - 1)


async def _all_but_one(job: PolicyJob, run: RunFolder) -> list[tuple[int, list[Tokens]]]:
    """What comes of four prompts of which one is never answered."""
    sampler, found = _sampler(job, run)[0], list[tuple[int, list[Tokens]]]()
    await sampler.begin(0)
    prompts = [[5, 6, 7 + at] for at in range(PROMPTS)]
    async with asyncio.timeout(WAIT_S), aclosing(sampler.sample(prompts, GROUP, 0)) as groups:
        async for group in groups:
            found.append(group)
            if len(found) == PROMPTS - 1:
                break
    await sampler.end()
    await sampler.close()
    return found


@pytest.mark.fault
def test_a_server_left_on_old_weights_is_refused(tiny: Path, dataset: Path, tmp_path: Path) -> None:
    job, (well, stuck) = _job(tiny, dataset), (tmp_path / "well", tmp_path / "stuck")
    with _served(tiny, well):
        assert asyncio.run(_moved(job, RunFolder(well))).proven
    with (
        _served(tiny, stuck, "--stuck"),
        pytest.raises(SyncMismatch, match="changed nothing"),
    ):
        asyncio.run(_moved(job, RunFolder(stuck)))


@pytest.mark.fault
def test_a_server_stuck_on_a_killed_trainers_policy_is_refused(
    tiny: Path, dataset: Path, tmp_path: Path
) -> None:
    job, old = _job(tiny, dataset), tmp_path / "old"
    with _served(tiny, tmp_path / "well"):
        asyncio.run(_moved(job, RunFolder(tmp_path / "well"), keep=old))
    # It is most of the way from the base to the next policy, which it does not take.
    with (
        _served(old, tmp_path / "stuck", "--stuck"),
        pytest.raises(SyncMismatch, match=r"changed nothing|does not serve the weights base"),
    ):
        asyncio.run(_moved(job, RunFolder(tmp_path / "stuck"), resumed=True))


@pytest.mark.fault
def test_an_adapter_that_was_lost_on_resume_stops_the_run(
    straight: RunFolder, tiny: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import Trainer

    with _served(tiny, tmp_path / "run"):
        run = RunFolder(tmp_path / "run")
        _stop_in_the_last_batch(straight, run, another=False)
        monkeypatch.setattr(Trainer, "_load_from_checkpoint", lambda *_: None)
        with pytest.raises(TrainingError, match="adapter default was lost on resume"):
            _trained(_job(tiny, dataset), run.root)


async def _moved(
    job: PolicyJob, run: RunFolder, *, resumed: bool = False, keep: Path | None = None
) -> "Handed":
    """What comes of handing over the base, and after a step the policy.

    Args:
        resumed: instead, a trainer hands over its second policy before any other.
        keep: where the policy is left as it was handed over.
    """
    sampler, model = _sampler(job, run)
    try:
        if resumed:
            one_step(model, 0.005)
        else:
            assert not (await sampler.begin(0)).proven
        one_step(model, 0.005)
        handed = cast("Handed", await sampler.begin(2 if resumed else 1))
        if keep:
            shutil.copytree(run.policy, keep)
        return handed
    finally:
        await sampler.close()


def _sampler(job: PolicyJob, run: RunFolder) -> tuple[Any, Any]:
    """A sampler in this process, and the policy that it samples."""
    import torch

    from pipelines.training import models
    from pipelines.training.sampling import EngineSampler

    torch.manual_seed(1)
    model = models.with_adapter(models.base_model(job), job)
    return EngineSampler(model, job.base, run.engine, run.policy, MAX_TOKENS), model


@pytest.mark.fault
def test_a_round_starts_its_server_again(tiny: Path, tmp_path: Path) -> None:
    place = Place(tmp_path, _recipe(tiny), "--opened", "--accident", "die:11")
    place.run(place.recipe())
    assert _asked(place.log) == 4 * PROMPTS
    (run,) = [RunFolder(path) for path in (place.home.root / "runs").iterdir()]
    # The group that died, and whatever the dead server still had to answer.
    assert [len(groups) for groups in _tries(run, 2)] == [PROMPTS - 1, PROMPTS]
    rows = of_run(connect(place.home.store), place.one("select id from training_runs"))
    assert Counter(one.batch for one in rows) == dict.fromkeys(range(3), PROMPTS * GROUP)
    assert not run.engine.exists()


def _recipe(base: Path) -> dict[str, Any]:
    return {
        "name": "practice",
        "student": {"weights": str(base), "instruction": "Add up."},
        "supply": {"generators": [{"generator": "chain_sum", "train": 12, "held_out": 50}]},
        "rollouts": {
            "batches": 3,
            "prompts": PROMPTS,
            "group": GROUP,
            "max_tokens": MAX_TOKENS,
            "draws": 1,
        },
        "rewards": [{"name": EARLY.name, "verifier": EARLY.verifier}],
        "watched": [],
        "train": {
            "objective": "grpo",
            "rank": 4,
            "batch_size": PROMPTS * GROUP,
            "max_length": 400,
            "learning_rate": 0.01,
        },
        "gate": {"max_tokens": 64, "min_items": 50, "beat_few_shot": False},
    }
