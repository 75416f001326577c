"""Training on pairs: TRL's losses and ours, the reference, soft labels, and exact resume."""

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipelines.recipe import Train, Tuning
from pipelines.training.job import PreferenceJob, RunFolder, read_job
from pipelines.training.journal import Journal, Metric, Reader
from pipelines.training.resume import step_of
from teachers.errors import TrainingError
from teachers.files import sha256_of
from tests.runs import copied, killed_in_training, settings, turn

pytestmark = pytest.mark.usefixtures("one_thread")

PAIRS = 32
# One of each trainer, and of each branch of ours.
OBJECTIVES: dict[str, dict[str, Any]] = {
    "dpo": {"objective": "dpo"},
    "dpo, conservative": {"objective": "dpo", "soft_labels": True},
    "dpo, two losses": {"objective": "dpo", "loss": ["ipo", "sft"], "loss_weights": [1.0, 0.1]},
    "kto": {"objective": "kto"},
    "orpo": {"objective": "orpo"},
    "simpo": {"objective": "simpo", "beta": 2.0},
}


class Trained(NamedTuple):
    job: PreferenceJob
    files: RunFolder

    @property
    def adapter(self) -> str:
        return sha256_of(self.files.adapter / "adapter_model.safetensors")

    def values(self, name: str) -> list[float]:
        found = Reader(self.files.journal).new()
        return [entry.value for entry in found if isinstance(entry, Metric) and entry.name == name]


Make = Callable[..., Trained]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [_row(n, f"It is {2 * n}.", f"No idea about {n}, sorry.") for n in range(PAIRS)]
    long = [_row("word " * 100, "short", "no"), _row("word " * 200, "short", "no")]
    path.write_text("".join(rows + long))
    return path


@pytest.fixture(scope="module")
def make(tiny: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Trains in this process, once for each set of changes."""
    done: dict[str, Trained] = {}

    def made(**changes: Any) -> Trained:
        name = json.dumps(changes, sort_keys=True)
        if name not in done:
            files = RunFolder(tmp_path_factory.mktemp("runs"))
            done[name] = _train(_job(tiny, dataset, **changes), files)
        return done[name]

    return made


def _row(number: int | str, chosen: str, rejected: str) -> str:
    row = {
        "prompt": turn("user", f"What is {number} and {number}?"),
        "chosen": turn("assistant", chosen),
        "rejected": turn("assistant", rejected),
        "p": 0.5 + len(chosen) % 5 / 8,
    }
    return json.dumps(row) + "\n"


def _job(base: Path, dataset: Path, **changes: Any) -> PreferenceJob:
    return PreferenceJob(**settings(base, dataset, **{"epochs": 3, **changes}))


def _train(job: PreferenceJob, files: RunFolder, checkpoint: Path | None = None) -> Trained:
    from pipelines.training import preference

    with Journal(files.journal) as journal:
        preference.train(job, files, journal, checkpoint)
    return Trained(job, files)


# --- Training -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_tells_the_sides_apart(make: Make, name: str) -> None:
    trained = make(**OBJECTIVES[name])
    losses, margins = trained.values("loss"), trained.values("rewards/margins")
    assert losses[-1] < losses[0]
    assert margins[-1] > margins[0] + 0.1
    assert trained.values("logps/chosen")[-1] > trained.values("logps/rejected")[-1]
    assert trained.values("rows") == [PAIRS]
    assert trained.values("rows_too_long") == [2]
    if name != "kto":
        assert trained.values("rewards/accuracies")[-1] == 1.0


def test_a_long_side_is_no_reason_to_leave_a_pair_out(tiny: Path, tmp_path: Path) -> None:
    from pipelines.training.models import tokenizer_of
    from pipelines.training.pairs import pairs_of

    path = tmp_path / "pairs.jsonl"
    path.write_text(_row(1, "short", "word " * 200))
    assert len(pairs_of(path, tokenizer_of(tiny), 64).rows) == 1


@pytest.mark.parametrize("name", ["dpo", "dpo, conservative"])
def test_the_reference_is_the_base(make: Make, name: str) -> None:
    trained = make(**OBJECTIVES[name])
    assert trained.values("loss")[0] == pytest.approx(math.log(2))
    assert trained.values("rewards/margins")[0] == 0.0


def test_conservative_dpo_with_sure_labels_is_trls_dpo(
    make: Make, tiny: Path, dataset: Path, tmp_path: Path
) -> None:
    sure = tmp_path / "sure.jsonl"
    rows = [json.loads(line) for line in dataset.read_text().splitlines()]
    sure.write_text("".join(json.dumps({**row, "p": 1.0}) + "\n" for row in rows))
    ours = _train(_job(tiny, sure, objective="dpo", soft_labels=True), RunFolder(tmp_path))
    theirs = make(objective="dpo")
    assert ours.values("loss") == pytest.approx(theirs.values("loss"), abs=1e-5)
    assert ours.values("rewards/margins") == pytest.approx(
        theirs.values("rewards/margins"), abs=1e-3
    )


def test_a_reference_asked_beforehand_is_the_same(make: Make) -> None:
    for name in ("dpo", "dpo, conservative"):
        asked = make(**OBJECTIVES[name], precompute_reference=True)
        assert asked.values("loss") == pytest.approx(make(**OBJECTIVES[name]).values("loss"), 1e-3)


# --- Resume ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_resumes_exactly(make: Make, tmp_path: Path, name: str) -> None:
    straight = make(**OBJECTIVES[name])
    checkpoint = min(straight.files.checkpoints.glob("checkpoint-*"), key=step_of)
    again = RunFolder(tmp_path)
    resumed = _train(straight.job, again, copied(checkpoint, again))
    assert resumed.adapter == straight.adapter
    losses = resumed.values("loss")
    assert losses == straight.values("loss")[step_of(checkpoint) :]
    assert losses


@pytest.mark.fault
def test_a_kill_changes_nothing(make: Make, tmp_path: Path) -> None:
    straight = make(objective="dpo", epochs=8)  # long enough to be caught in the middle
    result = killed_in_training(straight.job, tmp_path / "run")
    assert result.adapter_sha256 == straight.adapter
    assert result.final_loss == straight.values("loss")[-1]


# --- Data -----------------------------------------------------------------------------------------


def test_a_single_answer_lies_beside_other_prompts() -> None:
    from datasets import Dataset

    from pipelines.training.pairs import singles_of

    pairs = [{"prompt": n, "chosen": f"+{n}", "rejected": f"-{n}"} for n in range(9)]
    singles = list(singles_of(Dataset.from_list(pairs), seed=3))
    assert {(row["prompt"], row["completion"]) for row in singles} == {
        (n, f"{sign}{n}") for n in range(9) for sign in "+-"
    }
    assert all(row["label"] == row["completion"].startswith("+") for row in singles)
    prompts = [row["prompt"] for row in singles]
    assert all(one != other for one, other in pairwise(prompts))


@pytest.mark.parametrize("broken", [{"chosen": []}, {"p": 0.4}, {"p": None}])
def test_a_bad_pair_is_named(tiny: Path, tmp_path: Path, broken: dict[str, Any]) -> None:
    from pipelines.training.models import tokenizer_of
    from pipelines.training.pairs import pairs_of

    path = tmp_path / "pairs.jsonl"
    path.write_text(_row(1, "a", "b") + json.dumps({**json.loads(_row(2, "a", "b")), **broken}))
    with pytest.raises(TrainingError, match="line 2 is not a row"):
        pairs_of(path, tokenizer_of(tiny), 128)


# --- Losses ---------------------------------------------------------------------------------------


def _slope(loss: Callable[[Any], Any], at: float) -> float:
    """The gradient that torch finds, checked against a difference quotient."""
    import torch

    point = torch.tensor([at], dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(loss(point).sum(), point)
    step = 1e-6
    with torch.no_grad():
        slope = (loss(point + step) - loss(point - step)) / (2 * step)
    assert found.item() == pytest.approx(slope.item(), abs=1e-6)
    return float(found)


def test_dpos_loss_by_hand() -> None:
    import torch

    from pipelines.training.losses import dpo

    chosen, rejected = torch.tensor([3.0, 0.0]), torch.tensor([-1.0, 0.0])
    # -log(1 / (1 + exp(-0.4))) and -log(1 / 2)
    assert dpo(chosen, rejected, 0.1).tolist() == pytest.approx([0.513015, 0.693147], abs=1e-6)
    # 0.9 * 0.513015 + 0.1 * (0.513015 + 0.4): the other side is as much less likely as z says
    flipped = torch.tensor([0.1, 0.5])
    soft = dpo(chosen, rejected, 0.1, flipped).tolist()
    assert soft == pytest.approx([0.553015, 0.693147], abs=1e-6)
    # At even odds the slope is -beta (1/2 - f); the least loss is where s(z) = 1 - f.
    zero = torch.zeros(1, dtype=torch.float64)
    assert _slope(lambda x: dpo(x, zero, 0.1, 0.2), 0.0) == pytest.approx(-0.03)
    assert _slope(lambda x: dpo(x, zero, 0.1, 0.2), math.log(4) / 0.1) == pytest.approx(0, abs=1e-9)


def test_simpos_loss_by_hand() -> None:
    import torch

    from pipelines.training.losses import simpo

    chosen, rejected = torch.tensor([-0.5]), torch.tensor([-1.0])
    # z = 2 * (-0.5 + 1.0) - 0.5 = 0.5: log(1 + exp(-0.5))
    assert simpo(chosen, rejected, 2.0, 0.5).item() == pytest.approx(0.474077, abs=1e-6)
    # z = 0 where the lead is gamma / beta: the slope is -beta / 2
    zero = torch.zeros(1, dtype=torch.float64)
    assert _slope(lambda x: simpo(x, zero, 2.0, 0.5), 0.25) == pytest.approx(-1.0)


def test_orpos_loss_by_hand() -> None:
    import torch

    from pipelines.training.losses import orpo

    chosen, rejected = torch.tensor([math.log(0.8)]), torch.tensor([math.log(0.5)])
    # odds 4 and 1: s(log 4) = 0.8, so -log 0.8 for learning and 0.1 * -log 0.8 for the odds
    assert orpo(chosen, rejected, 0.1).item() == pytest.approx(1.1 * 0.223144, abs=1e-6)
    # d log odds / d log P = 1 / (1 - P) = 5, times -(1 - 0.8), times beta; and -1 for learning
    even = torch.full((1,), math.log(0.5), dtype=torch.float64)
    slope = _slope(lambda x: orpo(x, even, 0.1), math.log(0.8))
    assert slope == pytest.approx(-1.0 - 0.1 * 0.2 * 5)


def test_orpo_stays_finite_where_an_answer_is_certain() -> None:
    import torch

    from pipelines.training.losses import orpo

    sure = torch.zeros(1, requires_grad=True)
    loss = orpo(sure, torch.tensor([-1.0]), 0.1)
    (slope,) = torch.autograd.grad(loss.sum(), sure)
    assert torch.isfinite(loss).all()
    assert torch.isfinite(slope).all()


def test_a_broken_figure_of_ours_stops_the_run(tmp_path: Path) -> None:
    import torch
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from pipelines.training.callbacks import Live

    now = (
        TrainingArguments(output_dir=str(tmp_path), use_cpu=True),
        TrainerState(global_step=3),
        TrainerControl(),
    )
    with Journal(tmp_path / "metrics.jsonl") as journal:
        live = Live(journal)
        live.note(margin=torch.tensor([1.0, 3.0]))
        live.note(margin=torch.tensor([4.0]))
        live.on_log(*now, logs={"loss": 0.5})
        live.note(margin=torch.tensor([math.inf]))
        with pytest.raises(TrainingError, match="At step 3 margin is inf"):
            live.on_log(*now, logs={"loss": 0.5})
    assert Metric(3, "margin", 3.0) in Reader(tmp_path / "metrics.jsonl").new()


# --- What a recipe may say ------------------------------------------------------------------------


def test_a_recipe_of_before_says_what_it_said() -> None:
    # The ids of rounds and training runs are made from it.
    assert Train().model_dump().keys() == Tuning.model_fields.keys()
    assert Train(rank=4, beta=0.1).model_dump() == Tuning(rank=4).model_dump()


def test_what_differs_is_said() -> None:
    train = Train(objective="simpo", beta=2.0)
    said = train.model_dump(mode="json")
    assert said == {**Tuning().model_dump(), "objective": "simpo", "beta": 2.0}
    assert Train.model_validate(said) == train


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta": 0.2}, "beta is for dpo, kto, orpo, simpo, not sft"),
        ({"objective": "dpo", "packing": True}, "packing is for sft, not dpo"),
        ({"objective": "orpo", "loss": "sigmoid"}, "loss is for dpo, kto, grpo, not orpo"),
        ({"objective": "dpo", "loss": "kto"}, "no such loss: 'kto'; known: sigmoid, hinge"),
        ({"objective": "kto", "loss": ["kto", "apo_zero_unpaired"]}, "kto takes one loss"),
        ({"objective": "kto", "batch_size": 1}, "batch_size must be 2 or more"),
        ({"objective": "dpo", "loss": ["ipo", "sft"], "loss_weights": [1]}, "one number for each"),
        ({"objective": "dpo", "loss": "exo_pair"}, "exo_pair needs label_smoothing"),
        ({"objective": "dpo", "loss": "ipo", "soft_labels": True}, "loss sigmoid alone"),
        ({"objective": "dpo", "loss": "hinge", "label_smoothing": 0.1}, "nothing to 'hinge'"),
        (
            {"objective": "dpo", "loss": ["sigmoid", "robust"], "label_smoothing": 0.1},
            "nothing to 'sigmoid'",
        ),
        ({"objective": "dpo", "soft_labels": True, "label_smoothing": 0.1}, "one or the other"),
    ],
)
def test_settings_that_do_not_go_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Train(**changes)


def test_a_job_is_read_as_what_it_is(tiny: Path, dataset: Path, tmp_path: Path) -> None:
    for changes in OBJECTIVES.values():
        job = _job(tiny, dataset, **changes)
        (tmp_path / "job.json").write_text(job.model_dump_json())
        assert read_job(tmp_path / "job.json") == job
