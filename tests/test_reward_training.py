"""A reward model: what it learns, how it is resumed, and that anybody can open it."""

import json
import math
from pathlib import Path
from typing import Any, cast

import pytest

from pipelines.training.job import RewardJob, RunFolder, read_job
from pipelines.training.journal import Journal
from pipelines.training.reward_notes import Norm, Origin
from teachers.errors import TrainingError
from teachers.files import sha256_of
from tests.counted import counted
from tests.runs import Run, killed_in_training, settings, turn

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = 32


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [_row(f"It is {n}.", f"No idea about {n}, sorry, none.") for n in range(ROWS)]
    path.write_text("".join([*rows, _row("short", "word " * 100)]))
    return path


@pytest.fixture(scope="module")
def straight(tiny: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nobody disturbed."""
    return Run(_job(tiny, dataset), tmp_path_factory.mktemp("runs") / "straight")


def _row(chosen: str, rejected: str, **more: float) -> str:
    sides = {
        "prompt": turn("user", "How much is it?"),
        "chosen": turn("assistant", chosen),
        "rejected": turn("assistant", rejected),
    }
    return json.dumps({**sides, "source": "judge", **more}) + "\n"


def _job(base: Path, dataset: Path, **changes: object) -> RewardJob:
    return RewardJob(**settings(base, dataset, epochs=3, **changes), objective="reward")


def test_it_learns_which_answer_is_better(straight: Run) -> None:
    assert straight.values("rows") == [ROWS]
    assert straight.values("rows_too_long") == [1]
    assert straight.values("accuracy")[-1] == 1.0
    assert straight.values("margin")[-1] > straight.values("margin")[0] + 1
    assert straight.values("loss")[-1] < 0.5 * straight.values("loss")[0]
    assert straight.result.steps == 12


def test_nothing_is_merged(straight: Run) -> None:
    assert not straight.files.merged.exists()
    assert not straight.files.probe.exists()
    adapter = sha256_of(straight.files.adapter / "adapter_model.safetensors")
    assert straight.result.adapter_sha256 == straight.result.weights == adapter


def test_a_killed_run_ends_with_the_same_adapter(straight: Run, tmp_path: Path) -> None:
    # Long enough to be killed in: nothing is merged or measured after it.
    job = straight.job.model_copy(update={"epochs": 40})
    result = killed_in_training(job, tmp_path / "killed")
    assert result.adapter_sha256 == Run(job, tmp_path / "straight").result.adapter_sha256


def test_anybody_can_open_it(straight: Run, tiny: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = straight.files.adapter
    tokenizer = AutoTokenizer.from_pretrained(folder)
    base = AutoModelForSequenceClassification.from_pretrained(
        tiny, num_labels=1, dtype=torch.float32, pad_token_id=tokenizer.pad_token_id
    )
    model = PeftModel.from_pretrained(base, folder).eval()
    better, worse = (
        str(
            tokenizer.apply_chat_template(
                [*turn("user", "How much is it?"), *turn("assistant", text)], tokenize=False
            )
        ).rstrip()
        for text in ("It is 7.", "No idea about 7, sorry, none.")
    )
    batch = tokenizer([better, worse], return_tensors="pt", padding=True, add_special_tokens=False)
    with torch.no_grad():
        scores = model(**batch).logits[:, 0]
    assert scores[0] > scores[1] + 1


def test_adapter_and_head_are_in_float32_and_the_base_is_named(straight: Run) -> None:
    import torch
    from safetensors.torch import load_file

    weights = load_file(straight.files.adapter / "adapter_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert weights["base_model.model.score.weight"].shape == (1, 64)
    origin = Origin.read(straight.files.adapter)
    assert (origin.base, origin.adapter) == (straight.job.base_weights, "lora")
    assert Norm.of(straight.files.adapter) is None


def test_on_a_cpu_its_own_arithmetic_is_what_runs(
    tiny: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.training.on_cpu import adapted, attention
    from pipelines.training.reward import train

    layers = counted(monkeypatch, cast("Any", adapted)._Adapted, "apply")
    heads = counted(monkeypatch, attention, "attended")
    run = RunFolder(tmp_path)
    with Journal(run.journal) as journal:
        train(_job(tiny, dataset), run, journal, None)
    assert layers
    assert heads


def test_weights_reach_the_loss(tiny: Path, tmp_path: Path) -> None:
    """Every pair is there turned round as well, at a quarter of its weight."""
    path = tmp_path / "pairs.jsonl"
    good, poor = "It is {n}.", "No idea about {n}."
    rows = [_row(good.format(n=n), poor.format(n=n), weight=4.0) for n in range(16)]
    rows += [_row(poor.format(n=n), good.format(n=n), weight=1.0) for n in range(16)]
    path.write_text("".join(rows))
    run = Run(_job(tiny, path, center_coefficient=0.0), tmp_path / "run")
    # Where the two balance the lead is log 4; equal weights would leave none.
    assert _lead(run, "It is 3.", "No idea about 3.") > 0.5


def _lead(run: Run, *texts: str) -> float:
    """How far the first answer is ahead of the second."""
    from pipelines.training.dataset import answered
    from pipelines.training.models import tokenizer_of
    from pipelines.training.scoring import Scorer
    from teachers.records import Message

    tokenizer = tokenizer_of(run.job.base)
    question = [Message(role="user", content="How much is it?")]
    sides = [
        answered(tokenizer, question, [Message(role="assistant", content=text)]) for text in texts
    ]
    first, second = Scorer.alone(run.job.base, run.files.adapter, "cpu").scores(
        [(side, ()) for side in sides]
    )
    return first - second


def test_margins_are_the_log_odds_of_the_label(tiny: Path, tmp_path: Path) -> None:
    from pipelines.training.models import tokenizer_of
    from pipelines.training.pairs import weighted_of

    path = tmp_path / "pairs.jsonl"
    path.write_text(_row("a", "b", p=0.8, weight=2.0) + _row("a", "b") + _row("a", "b", p=0.5))
    rows = weighted_of(path, tokenizer_of(tiny), 128).rows
    assert rows["margin"][:] == pytest.approx([math.log(4), 0.0, 0.0])
    assert rows["weight"][:] == [2.0, 1.0, 1.0]


def test_the_loss_with_a_margin_by_hand() -> None:
    import torch

    from pipelines.training.losses import bradley_terry

    better, worse = torch.tensor([2.0]), torch.tensor([-1.0])
    loss = bradley_terry(better, worse, torch.tensor([2.0]), 0.01, torch.tensor([1.0]))
    # Twice log(1 + exp(-(3 - 1))) + 0.01 * 1
    assert loss.item() == pytest.approx(2 * (math.log1p(math.exp(-2)) + 0.01), abs=1e-6)


def test_an_answer_ends_with_its_turn(tiny: Path) -> None:
    from pipelines.training.dataset import answered, rendered
    from pipelines.training.models import tokenizer_of
    from teachers.records import Message

    tokenizer = tokenizer_of(tiny)
    question = [Message(role="user", content="Well?")]
    whole = answered(tokenizer, question, [Message(role="assistant", content="Yes.")])
    asked = rendered(tokenizer, question, answer_follows=True)
    said = tokenizer("Yes.<|im_end|>", add_special_tokens=False)["input_ids"]
    # What a policy would have been asked, and the tokens that it would have sampled.
    assert whole == asked + said


def test_what_pads_does_not_end_a_turn(tiny: Path) -> None:
    from pipelines.training.heads import pad_apart
    from pipelines.training.models import tokenizer_of

    tokenizer = tokenizer_of(tiny)
    pad_apart(tokenizer)
    assert tokenizer.pad_token == "<|pad|>"
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.add_special_tokens({"bos_token": "<|im_start|>"})
    pad_apart(tokenizer)
    assert tokenizer.pad_token == "<|im_start|>"
    bare = tokenizer_of(tiny)
    bare.pad_token = bare.eos_token
    with pytest.raises(TrainingError, match="no special token to pad with"):
        pad_apart(bare)


def test_a_reward_job_is_read_as_one(tiny: Path, dataset: Path, tmp_path: Path) -> None:
    job = _job(tiny, dataset)
    (tmp_path / "job.json").write_text(job.model_dump_json())
    assert read_job(tmp_path / "job.json") == job


def test_a_base_in_four_bits_keeps_its_head_whole(
    tiny: Path, dataset: Path, tmp_path: Path
) -> None:
    run = Run(_job(tiny, dataset, adapter="qlora"), tmp_path / "run")
    assert run.values("accuracy")[-1] == 1.0
    assert Origin.read(run.files.adapter).adapter == "qlora"
    assert _lead(run, "It is 3.", "No idea about 3, sorry, none.") > 1
