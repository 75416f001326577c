"""Training runs: real child processes on a model of a tenth of a million weights."""

import asyncio
import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.training.child import as_child
from pipelines.training.job import (
    DONE,
    FULL,
    LOCKED,
    REFUSED,
    Result,
    RunFolder,
    SftJob,
    read_job,
)
from pipelines.training.journal import Journal, Metric, Phase, Reader
from pipelines.training.resume import last_sealed, seal
from pipelines.training.run import train
from teachers.errors import TrainingError
from teachers.process import alive, started_at
from teachers.progress import Silent
from teachers.sync import MIN_TOKENS, Probe, mean_difference, prove
from teachers.weights import child_environment
from tests.runs import SAVE_STEPS, Run, settings, turn

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    short = (_row(f"What is {n} and {n}?", f"It is {2 * n}.") for n in range(64))
    path.write_text("".join(short) + _row("Write at length.", "word " * 100))
    return path


@pytest.fixture(scope="module")
def straight(tiny: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nobody disturbed."""
    return Run(_job(tiny, dataset), tmp_path_factory.mktemp("runs") / "straight")


def _row(question: str, answer: str) -> str:
    row = {"prompt": turn("user", question), "completion": turn("assistant", answer)}
    return json.dumps(row) + "\n"


def _job(base: Path, dataset: Path, **changes: Any) -> SftJob:
    return SftJob(**settings(base, dataset, dropout=0.1, **changes))


def _until(what: Callable[[], bool], limit_s: float = 60.0) -> None:
    until = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)


def _child(folder: Path, **how: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pipelines.training.sft", str(folder)]
    environment = child_environment()
    return subprocess.run(command, env=environment, capture_output=True, text=True, **how)


async def _deaf(_: list[Metric]) -> None:
    return


# --- A run that nobody disturbs -----------------------------------------------------------------


def test_a_run_learns_and_says_so(straight: Run) -> None:
    losses = straight.values("loss")
    assert straight.result.steps == 48 == len(losses)
    assert losses[-1] == straight.result.final_loss < 0.8 * losses[0]
    assert straight.result.resumed_from == 0
    assert straight.result.peak_bytes > 100 * 2**20
    assert Metric(0, "rows", 64) in straight.metrics
    assert Metric(0, "rows_too_long", 1) in straight.metrics


def test_the_adapter_is_a_plain_folder(straight: Run) -> None:
    names = {path.name for path in straight.files.adapter.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json"} <= names
    assert not any(path.is_dir() for path in straight.files.adapter.iterdir())


def test_a_finished_run_is_not_done_again(straight: Run) -> None:
    log = straight.files.log.stat().st_mtime_ns
    again = asyncio.run(train(straight.job, straight.files.root, _deaf, Silent()))
    assert again == straight.result
    assert straight.files.log.stat().st_mtime_ns == log
    assert _child(straight.files.root).returncode == DONE


def test_a_folder_belongs_to_one_job(straight: Run) -> None:
    other = straight.job.model_copy(update={"seed": 1})
    with pytest.raises(TrainingError, match="another training run"):
        asyncio.run(train(other, straight.files.root, _deaf, Silent()))
    moved = straight.job.model_copy(update={"base": straight.job.base.parent / "elsewhere"})
    again = asyncio.run(train(moved, straight.files.root, _deaf, Silent()))
    assert again == straight.result


def test_a_job_from_before_there_were_objectives_is_the_same(straight: Run, tmp_path: Path) -> None:
    old = json.loads(straight.job.model_dump_json())
    del old["objective"]
    (tmp_path / "job.json").write_text(json.dumps(old))
    found = read_job(tmp_path / "job.json")
    assert isinstance(found, SftJob)
    assert found.same_as(straight.job)


def test_the_merged_copy_is_base_and_adapter(straight: Run) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def whole(folder: Path) -> Any:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    ids = torch.arange(3, 203)[None]
    with torch.inference_mode():
        before = whole(straight.job.base)(ids).logits
        trained = PeftModel.from_pretrained(whole(straight.job.base), straight.files.adapter)
        wanted = trained(ids).logits
        merged = whole(straight.files.merged)(ids).logits
    moved, off = (wanted - before).abs().mean(), (wanted - merged).abs().mean()
    assert off < 0.02 * moved  # what rounding the merged weights to bf16 costs
    assert AutoTokenizer.from_pretrained(straight.files.merged).chat_template


def test_the_probe_proves_the_swap(straight: Run) -> None:
    probe = Probe.read(straight.files.probe)
    old, new = straight.job.base_weights, straight.result.weights
    assert MIN_TOKENS <= len(probe.tokens) <= 640
    assert set(probe.logprobs) == {old, new}
    assert all(len(row) == len(probe.tokens) - 1 for row in probe.logprobs.values())
    assert max(max(row) for row in probe.logprobs.values()) <= 0.0
    assert mean_difference(probe.logprobs[old], probe.logprobs[new]) > 0.1
    prove(probe, probe.logprobs[old], probe.logprobs[new], old=old, new=new)


# --- QLoRA, packing and gradient checkpointing ----------------------------------------------------


def test_qlora_serves_what_it_trained(tiny: Path, dataset: Path, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from pipelines.training import sft
    from pipelines.training.models import base_model

    options = {"packing": True, "gradient_checkpointing": True, "save_steps": 50}
    job = _job(tiny, dataset, adapter="qlora", accumulation=1, **options)
    files = RunFolder(tmp_path)
    files.job.write_text(job.model_dump_json())
    assert as_child(tmp_path, sft.train) == DONE
    found = Reader(files.journal).new()
    losses = [entry.value for entry in found if isinstance(entry, Metric) and entry.name == "loss"]
    assert losses[-1] < 0.9 * losses[0]
    ids = torch.arange(3, 203)[None]
    with torch.inference_mode():
        trained = PeftModel.from_pretrained(base_model(job), str(files.adapter))
        wanted = trained(ids).logits.float()
        served = AutoModelForCausalLM.from_pretrained(files.merged, dtype=torch.bfloat16)
        off = (served(ids).logits.float() - wanted).abs().mean()
        plain = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16)
        quantized = (base_model(job)(ids).logits - plain(ids).logits).abs().mean()
    # Merged into the original weights, it would be off by what the 4 bits took away.
    assert off < 0.25 * quantized


def test_packed_rows_do_not_see_each_other(tiny: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    first, second = torch.arange(3, 43), torch.arange(90, 140)
    with torch.inference_mode():
        alone = model(second[None]).logits[0]
        positions = torch.cat([torch.arange(40), torch.arange(50)])[None]
        both = torch.cat([first, second])[None]
        packed = model(both, position_ids=positions, use_cache=False).logits[0, 40:]
    assert torch.allclose(alone, packed, atol=1e-4)


# --- Data -----------------------------------------------------------------------------------------


def test_only_the_completion_carries_loss(tiny: Path, dataset: Path) -> None:
    from pipelines.training.dataset import tokens_of
    from pipelines.training.models import tokenizer_of

    tokenizer = tokenizer_of(tiny)
    rows, too_long = tokens_of(dataset, tokenizer, 128)
    assert too_long == 1
    row = rows[7]
    trained = [token for token in row["labels"] if token != -100]
    assert tokenizer.decode(trained) == "It is 14.<|im_end|>\n"
    start = len(row["labels"]) - len(trained)
    assert set(row["labels"][:start]) == {-100}
    assert row["labels"][start:] == row["input_ids"][start:]
    question = "<|im_start|>user\nWhat is 7 and 7?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(row["input_ids"][:start]) == question


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no rows"),
        (_row("Long?", "long " * 100), "All 1 rows .* exceed 128 tokens"),
        (_row("a", "b") + '{"prompt": []}\n', "line 2 is not a row"),
    ],
)
def test_a_bad_dataset_is_named(tiny: Path, tmp_path: Path, content: str, message: str) -> None:
    from pipelines.training.dataset import tokens_of
    from pipelines.training.models import tokenizer_of

    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(TrainingError, match=message):
        tokens_of(path, tokenizer_of(tiny), 128)


# --- Kills, torn files and full disks -------------------------------------------------------------

PARENT = """
import asyncio, sys
from pathlib import Path
from pipelines.training.job import read_job
from pipelines.training.run import train
from teachers.progress import Silent

async def deaf(_): ...

job = read_job(Path(sys.argv[1]))
asyncio.run(train(job, Path(sys.argv[2]), deaf, Silent()))
"""


@pytest.mark.fault
def test_kills_change_nothing(straight: Run, tmp_path: Path) -> None:
    """The parent is killed, its child adopted; then that is killed too, in mid-training."""
    files = RunFolder(tmp_path / "run")
    (tmp_path / "job.json").write_text(straight.job.model_dump_json())
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "job.json"), str(files.root)],
        env=child_environment(OPENAI_API_KEY="secret"),
    )
    _until(files.process.is_file)
    parent.kill()
    parent.wait()
    child = json.loads(files.process.read_text())
    assert alive(child["pid"], child["started"])
    assert b"secret" not in Path(f"/proc/{child['pid']}/environ").read_bytes()

    second = _child(files.root)
    assert second.returncode == LOCKED
    assert "Another process is training" in second.stderr

    torn = files.checkpoints / "checkpoint-999"
    killed: list[int] = []

    async def kill_once(metrics: list[Metric]) -> None:
        if not killed and any(metric.step > SAVE_STEPS for metric in metrics):
            killed.append(metrics[-1].step)
            assert json.loads(files.process.read_text()) == child  # nobody started another
            os.kill(child["pid"], signal.SIGKILL)
            torn.mkdir()
            (torn / "trainer_state.json").write_text("{")

    result = asyncio.run(train(straight.job, files.root, kill_once, Silent()))
    assert killed
    assert not torn.exists()
    assert 0 < result.resumed_from < result.steps
    assert result.adapter_sha256 == straight.result.adapter_sha256
    assert result.weights == straight.result.weights
    assert result.final_loss == straight.result.final_loss


@pytest.mark.fault
def test_a_full_disk_is_said_and_survived(straight: Run, tmp_path: Path) -> None:
    files = RunFolder(tmp_path / "run")
    files.root.mkdir()
    files.job.write_text(straight.job.model_dump_json())
    limit = 32 * 1024  # bytes a file; the optimizer's state is larger
    full = _child(
        files.root,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert full.returncode == FULL, full.stderr
    assert full.stderr.splitlines()[-1] == f"There is no space left for {files.root}."
    assert not files.result.exists()
    assert last_sealed(files.checkpoints) is None


@pytest.mark.fault
def test_cancelling_stops_the_process(straight: Run, tmp_path: Path) -> None:
    files = RunFolder(tmp_path / "run")

    async def cancelled() -> dict[str, Any]:
        task = asyncio.create_task(train(straight.job, files.root, _deaf, Silent()))
        await asyncio.to_thread(_until, files.process.is_file)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        found: dict[str, Any] = json.loads(files.process.read_text())
        return found

    child = asyncio.run(cancelled())
    assert started_at(child["pid"]) is None


def test_a_checkpoint_counts_once_it_is_sealed(tmp_path: Path) -> None:
    for step in (4, 12, 20):
        folder = tmp_path / f"checkpoint-{step}" / "policy"
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_bytes(b"weights")
        (folder.parent / "optimizer.pt").write_bytes(b"momentum")
        if step < 20:
            seal(folder.parent)
    (tmp_path / "checkpoint-12" / "optimizer.pt").write_bytes(b"momen")
    assert last_sealed(tmp_path) == tmp_path / "checkpoint-4"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-4"]
    assert last_sealed(tmp_path / "nowhere") is None


def test_a_torn_line_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    reader = Reader(path)
    assert reader.new() == []
    with Journal(path) as journal:
        journal.phase("train", 9)
    with path.open("a") as torn:
        torn.write('{"step": 1, "na')
    assert reader.new() == [Phase("train", 9)]
    with Journal(path) as journal:
        journal.metric(1, "loss", 0.5)
    assert reader.new() == [Metric(1, "loss", 0.5)]


# --- How a process ends ---------------------------------------------------------------------------


def _refuse(*_: object) -> None:
    raise TrainingError("This data cannot be used.")


def _fill(*_: object) -> None:
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    except OSError as full:
        raise RuntimeError("saving failed") from full


@pytest.mark.parametrize(
    ("objective", "code", "message"),
    [(_refuse, REFUSED, "This data cannot be used."), (_fill, FULL, "There is no space left")],
)
def test_an_end_has_a_code_and_one_line(
    straight: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    objective: Callable[..., None],
    code: int,
    message: str,
) -> None:
    files = RunFolder(tmp_path)
    files.job.write_text(straight.job.model_dump_json())
    assert as_child(tmp_path, objective) == code
    assert capsys.readouterr().err.startswith(message)
    assert not files.result.exists()


def test_a_refused_run_is_not_tried_again(tiny: Path, tmp_path: Path) -> None:
    files = RunFolder(tmp_path / "run")
    job = _job(tiny, tmp_path / "no-such-rows.jsonl")
    with pytest.raises(TrainingError, match=r"no-such-rows.jsonl cannot be read"):
        asyncio.run(train(job, files.root, _deaf, Silent()))
    assert files.log.read_text().count("no-such-rows") == 2  # one line that names it twice


def test_a_broken_loss_stops_the_run(tmp_path: Path) -> None:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from pipelines.training.callbacks import Live

    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    now = (arguments, TrainerState(global_step=3), TrainerControl())
    with (
        Journal(tmp_path / "metrics.jsonl") as journal,
        pytest.raises(TrainingError, match="At step 3 loss is nan"),
    ):
        Live(journal).on_log(*now, logs={"loss": float("nan")})


def test_a_result_survives_the_disk(straight: Run) -> None:
    kept = Result.model_validate_json(straight.files.result.read_text())
    assert kept == straight.result
