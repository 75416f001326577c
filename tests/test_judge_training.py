"""A judge of one's own: what it learns, where it reads its verdict, and what it refuses."""

import json
import math
from pathlib import Path

import pytest

from pipelines.training.job import JudgeJob, RunFolder, read_job
from pipelines.training.journal import Journal
from teachers.errors import TrainingError
from teachers.files import sha256_of
from tests.runs import Run, copied, settings, turn

pytestmark = pytest.mark.usefixtures("one_thread")

ROWS = 32


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "judged.jsonl"
    rows = [_row(f"It is {n}.", f"No idea about {n}, sorry, none.") for n in range(ROWS)]
    path.write_text("".join([*rows, _row("short", "word " * 100)]))
    return path


@pytest.fixture(scope="module")
def straight(tiny: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nobody disturbed."""
    return Run(_job(tiny, dataset), tmp_path_factory.mktemp("runs") / "straight")


def _row(better: str, worse: str, weight: float = 1.0) -> str:
    sides = {
        "better": turn("user", f"Is this good? {better}"),
        "worse": turn("user", f"Is this good? {worse}"),
    }
    return json.dumps({**sides, "weight": weight}) + "\n"


def _job(base: Path, dataset: Path, words: tuple[str, str] = ("Y", "N")) -> JudgeJob:
    return JudgeJob(**settings(base, dataset, epochs=3), words=words)


def test_a_judge_learns_and_stays_around_zero(straight: Run) -> None:
    assert straight.values("rows") == [ROWS]
    assert straight.values("rows_too_long") == [1]
    assert straight.values("accuracy")[-1] == 1.0
    assert straight.values("margin")[-1] > straight.values("margin")[0] + 1
    assert straight.values("loss")[-1] < 0.5 * straight.values("loss")[0]
    assert abs(straight.values("center")[-1]) < abs(straight.values("center")[0])
    assert straight.result.steps == 12


def test_the_merged_judge_says_so_where_its_turn_begins(straight: Run) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(straight.files.merged)
    judge = AutoModelForCausalLM.from_pretrained(straight.files.merged, dtype=torch.float32)

    def score(answer: str) -> float:
        ids = tokenizer.apply_chat_template(
            turn("user", f"Is this good? {answer}"),
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=False,
        )
        with torch.inference_mode():
            said = judge(ids).logits[0, -1]
        good, bad = (said[tokenizer.convert_tokens_to_ids(word)].item() for word in "YN")
        return float(good - bad)

    assert score("It is 7.") > 0 > score("No idea about 7, sorry, none.")


def test_a_judge_resumes_exactly(straight: Run, tmp_path: Path) -> None:
    from pipelines.training import judge

    assert isinstance(straight.job, JudgeJob)
    again = RunFolder(tmp_path)
    checkpoint = copied(straight.files.checkpoints / "checkpoint-8", again)
    with Journal(again.journal) as journal:
        judge.train(straight.job, again, journal, checkpoint)
    adapter = sha256_of(again.adapter / "adapter_model.safetensors")
    assert adapter == straight.result.adapter_sha256


def test_a_verdict_of_several_tokens_is_refused(tiny: Path) -> None:
    from pipelines.training.judge import single_token
    from pipelines.training.models import tokenizer_of

    tokenizer = tokenizer_of(tiny)
    assert tokenizer.decode([single_token(tokenizer, "Y")]) == "Y"
    with pytest.raises(TrainingError, match="'yes' is 3 tokens"):
        single_token(tokenizer, "yes")


def test_padding_does_not_count(tiny: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from pipelines.training.trainers import judged_batch

    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    rows = [
        {"better": [5, 6, 7, 8, 9], "worse": [5, 6], "weight": 1.0},
        {"better": [7], "worse": [9, 8, 7], "weight": 2.0},
    ]
    batch = judged_batch(0)(rows)
    assert batch.pop("weight").tolist() == [1.0, 2.0]
    with torch.inference_mode():
        together = model(**batch, logits_to_keep=1).logits[:, -1]
        sides = [row[side] for side in ("better", "worse") for row in rows]
        alone = [model(torch.tensor([side])).logits[0, -1] for side in sides]
    assert torch.allclose(together, torch.stack(alone), atol=1e-4)


def test_the_judges_loss_by_hand() -> None:
    import torch

    from pipelines.training.losses import bradley_terry

    better = torch.tensor([2.0, 3.0], requires_grad=True)
    worse = torch.tensor([-1.0, 1.0], requires_grad=True)
    loss = bradley_terry(better, worse, torch.tensor([1.0, 2.0]), center=0.01)
    # log(1 + exp(-3)) + 0.01 * 1 and twice log(1 + exp(-2)) + 0.01 * 16
    assert loss.tolist() == pytest.approx([0.058587, 2 * 0.286928], abs=1e-6)
    (slope,) = torch.autograd.grad(loss.sum(), better)
    # -s(-3) + 0.02 * 1 and twice -s(-2) + 0.02 * 4
    wanted = [-1 / (1 + math.exp(3)) + 0.02, 2 * (-1 / (1 + math.exp(2)) + 0.08)]
    assert slope.tolist() == pytest.approx(wanted, abs=1e-6)


def test_a_judges_job_is_read_as_one(tiny: Path, dataset: Path, tmp_path: Path) -> None:
    job = _job(tiny, dataset)
    (tmp_path / "job.json").write_text(job.model_dump_json())
    assert read_job(tmp_path / "job.json") == job
