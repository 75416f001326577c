"""PPO with adapters as roles, on the tiny model: each rule that elsewhere is broken silently."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from judges.rewards import RewardTerm
from pipelines.recipe import Rollouts
from pipelines.training.job import PpoJob
from pipelines.training.journal import Journal
from pipelines.training.rollout import Rollout
from teachers.errors import TrainingError
from tests.counted import counted
from tests.runs import settings

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # What torch and transformers say while a trainer is made is not about us.
    pytest.mark.filterwarnings("ignore"),
]

PROMPTS, GROUP, UPDATES, EPOCHS, BATCHES = 2, 4, 2, 2, 3
SIZE, STEPS = PROMPTS * GROUP, UPDATES * EPOCHS


class Scripted:
    """Answers that were never sampled, drawn once and for all: the same to every run.

    Args:
        undecided: which of a batch's answers have no reward.
        engine: what another engine said of each of their tokens, in nats; None: there was none.
        group: answers a prompt.
    """

    def __init__(
        self, undecided: Sequence[int] = (), engine: float | None = None, group: int = GROUP
    ) -> None:
        self._undecided, self._engine, self._group = undecided, engine, group
        self.others = 0
        """What the undecided ones say is drawn with."""

    def batch(self, number: int) -> list[Rollout]:
        import torch

        drawn = torch.Generator().manual_seed(number)
        prompts = [
            tuple(torch.randint(3, 200, (4 + one % 3,), generator=drawn).tolist())
            for one in range(SIZE // self._group)
        ]
        return [self._one(number, at, prompts[at // self._group], drawn) for at in range(SIZE)]

    def kept(self, number: int) -> list[Rollout]:
        return self.batch(number)

    def _one(self, number: int, at: int, prompt: tuple[int, ...], drawn: Any) -> Rollout:
        import torch

        long = 2 + int(torch.randint(1, 7, (), generator=drawn))
        tokens = torch.randint(3, 200, (long,), generator=drawn)
        undecided = at in self._undecided
        if undecided:
            tokens = tokens.roll(self.others)
        return Rollout(
            batch=number,
            draw=0,
            prompt_id=str(at // self._group),
            position=at % self._group,
            policy=f"policy-{number}",
            prompt_tokens=prompt,
            tokens=tuple(tokens.tolist()),
            logprobs=() if self._engine is None else (self._engine,) * long,
            text="",
            finish_reason="length" if at == 1 else "stop",
            reward=None if undecided else float(tokens.sum() % 7) / 6,
            fate="unrewarded" if undecided else "used",
        )


def _job(base: Path, **changes: Any) -> PpoJob:
    rollouts = {"batches": BATCHES, "prompts": PROMPTS, "group": GROUP, "updates": UPDATES}
    usual = settings(base, base / "none", accumulation=1, batch_size=4, save_steps=STEPS)
    usual |= {"objective": "ppo", "ppo_epochs": EPOCHS, "learning_rate": 0.02}
    usual |= {"schedule": "constant_with_warmup", "warmup_share": 0.0}
    how = Rollouts(sampler="transformers", **{**rollouts, **changes.pop("rollouts", {})})
    early = RewardTerm(name="early", verifier="tests.rules:early_letters")
    return PpoJob(**{**usual, **changes}, rewards=(early,), rollouts=how)


class Heard(Journal):
    """A journal in memory."""

    def __init__(self) -> None:
        self.told: dict[str, dict[int, float]] = {}
        """Metrics by name and step."""

    def metric(self, step: int, name: str, value: float) -> None:
        self.told.setdefault(name, {})[step] = value

    def phase(self, name: str, total: int | None = None) -> None:
        """Not listened to."""


class Trained:
    """A trainer, and what is left of its run."""

    def __init__(self, job: PpoJob, folder: Path, source: Any = None) -> None:
        import torch
        from transformers import set_seed

        from pipelines.training.actor_critic import ActorCritic
        from pipelines.training.callbacks import Live
        from pipelines.training.ppo_trainer import PpoTrainer
        from pipelines.training.ppo_trainer import settings as told

        torch.set_num_threads(1)
        set_seed(job.seed)
        self._journal, self.folder = Heard(), folder / "checkpoints"
        self.actors = ActorCritic(job)
        self.trainer = PpoTrainer(
            job,
            self.actors,
            source or Scripted(),
            Live(self._journal),
            args=told(job, self.folder),
        )

    def run(self, checkpoint: Path | None = None) -> "Trained":
        self.trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        return self

    @property
    def weights(self) -> dict[str, Any]:
        """Of everything that was trained."""
        return {
            name: one.detach().clone()
            for name, one in self.actors.model.named_parameters()
            if "lora_" in name or "value_head" in name
        }

    def values(self, name: str) -> dict[int, float]:
        """A metric by its step."""
        return self._journal.told.get(name, {})


@pytest.fixture(scope="module")
def straight(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(_job(tiny), tmp_path_factory.mktemp("straight")).run()


def _same(ones: dict[str, Any], others: dict[str, Any]) -> bool:
    import torch

    return ones.keys() == others.keys() and all(
        torch.equal(one, others[name]) for name, one in ones.items()
    )


def _of(role: str, weights: dict[str, Any]) -> dict[str, Any]:
    return {name: one for name, one in weights.items() if f".{role}." in name}


# --- What holds at the start of each batch ------------------------------------------------------


def test_the_first_update_of_each_batch_begins_at_a_ratio_of_exactly_1(straight: Trained) -> None:
    ratios = straight.values("ratio")
    assert len(ratios) == BATCHES * STEPS
    firsts = range(1, BATCHES * STEPS, STEPS)
    assert [ratios[step] for step in firsts] == [1.0] * BATCHES
    assert [straight.values("approx_kl")[step] for step in firsts] == [0.0] * BATCHES
    assert [straight.values("clip_fraction")[step] for step in firsts] == [0.0] * BATCHES
    assert all(value != 1.0 for step, value in ratios.items() if step not in firsts)


def test_the_policy_is_the_reference_at_the_start_and_not_after(straight: Trained) -> None:
    first, *later = straight.values("kl_answer").values()
    assert first == 0.0
    assert all(later)


def test_dropout_is_off(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, base := tmp_path / "base")
    config = (base / "config.json").read_text()
    (base / "config.json").write_text(
        config.replace('"attention_dropout": 0.0', '"attention_dropout": 0.5')
    )
    assert "0.5" in (base / "config.json").read_text()
    run = Trained(_job(base, rollouts={"batches": 1}), tmp_path / "run").run()
    assert run.values("ratio")[1] == 1.0
    assert run.values("kl_answer")[1] == 0.0


def test_every_figure_is_told_under_its_name(straight: Trained) -> None:
    of_updates = (
        *("policy_loss", "value_loss", "clip_fraction", "value_clip_fraction", "approx_kl"),
        *("ratio", "entropy", "loss", "grad_norm", "value_grad_norm"),
    )
    of_batches = ("score", "kl", "rlhf_reward", "explained_variance", "eos_rate", "kl_coefficient")
    for name in of_updates:
        assert len(straight.values(name)) == BATCHES * STEPS, name
    for name in of_batches:
        assert len(straight.values(name)) == BATCHES, name
    # One of eight is cut.
    assert straight.values("eos_rate")[1] == 7 / 8


# --- Roles --------------------------------------------------------------------------------------


def test_each_role_gets_the_gradient_that_a_model_of_its_own_would_get(
    tiny: Path, tmp_path: Path
) -> None:
    """Policy and critic as two models that share nothing, their losses written out plainly."""
    import torch

    job = _job(tiny, rollouts={"updates": 1}, batch_size=SIZE, entropy_bonus=0.1)
    run = Trained(job, tmp_path)
    shared = run.actors.model.float()
    torch.manual_seed(0)
    for weight in (*run.actors.weights("policy"), *run.actors.weights("value")):
        torch.nn.init.normal_(weight, std=0.1)
    one = run.trainer._experienced(0).rows(torch.arange(SIZE))
    alone = {role: _alone(tiny, job, role, shared) for role in ("policy", "value")}
    _plain_policy_loss(alone["policy"], one, job).backward()
    _plain_value_loss(alone["value"], one, job).backward()
    run.trainer.training_step(shared, {})
    found: dict[str, Any] = {n: weight.grad for n, weight in shared.named_parameters()}
    for model in alone.values():
        wanted = {n: w.grad for n, w in model.named_parameters() if w.requires_grad}
        assert len(wanted) in (2 * 7 * 2, 2 * 7 * 2 + 2)
        for name, gradient in wanted.items():
            assert gradient.abs().max() > 1e-4, name
            assert torch.allclose(found[name], gradient, atol=1e-6), name


def _alone(base: Path, job: PpoJob, role: str, shared: Any) -> Any:
    """A model with one of the adapters only, and the critic's head."""
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    from pipelines.training.models import adapter_config

    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(plain, adapter_config(job), adapter_name=role)
    if role == "value":
        model.value_head = torch.nn.Linear(64, 1)
    weights = shared.state_dict()
    model.load_state_dict({name: weights[name] for name in model.state_dict()})
    return model


def _read(one: Any) -> dict[str, Any]:
    asked = one.asked
    return {
        "input_ids": asked.ids,
        "attention_mask": asked.mask,
        "position_ids": asked.positions,
        "output_hidden_states": True,
    }


def _plain_policy_loss(model: Any, one: Any, job: PpoJob) -> Any:
    import torch

    spoken, width = one.asked.spoken, one.asked.answers.size(1)
    said = torch.log_softmax(model(**_read(one)).logits[:, -width - 1 : -1], -1)
    new = said.gather(2, one.asked.answers[..., None])[..., 0]
    entropy = -(said.exp() * said).sum(-1)
    ratio, (low, high) = torch.exp(new - one.old), job.clips
    gain = torch.minimum(ratio * one.advantages, ratio.clamp(1 - low, 1 + high) * one.advantages)
    return -((gain + job.entropy_bonus * entropy) * spoken).sum() / spoken.sum()


def _plain_value_loss(model: Any, one: Any, job: PpoJob) -> Any:
    import torch

    spoken, width = one.asked.spoken, one.asked.answers.size(1)
    hidden = model(**_read(one)).hidden_states[-1][:, -width - 1 : -1]
    values = model.value_head(hidden)[..., 0]
    near = one.values + (values - one.values).clamp(-job.clip_value, job.clip_value)
    worse = torch.maximum((values - one.returns) ** 2, (near - one.returns) ** 2)
    return 0.5 * (worse * spoken).sum() / spoken.sum()


def test_whoever_acts_everybody_that_is_trained_can_be_learned_from(
    tiny: Path, tmp_path: Path
) -> None:
    """PEFT freezes the others whenever one becomes active, and when adapters come back on."""
    actors = Trained(_job(tiny), tmp_path).actors
    trained = [*actors.weights("policy"), *actors.weights("value")]
    assert len(trained) == 2 * 2 * 7 * 2 + 2
    for role in ("policy", "value", "policy"):
        with actors.roles.acting(role):
            assert actors.model.active_adapter == role
            assert all(weight.requires_grad for weight in trained)
    with actors.roles.nobody():
        pass
    assert all(weight.requires_grad for weight in trained)
    assert actors.model.active_adapter == "policy"
    base = [one for name, one in actors.model.named_parameters() if "base_layer" in name]
    assert base
    assert not any(weight.requires_grad for weight in base)


def test_the_reference_is_the_base_bit_by_bit(tiny: Path, straight: Trained) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from pipelines.training.models import logprobs

    base = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16)
    tokens = [*range(3, 60)]
    with straight.actors.roles.nobody():
        assert logprobs(straight.actors.model, tokens) == logprobs(base, tokens)
    assert logprobs(straight.actors.model, tokens) != logprobs(base, tokens)


def test_layers_that_are_computed_again_are_the_same_roles(tiny: Path, tmp_path: Path) -> None:
    # A prompt that several answers share is computed once, but for this: here none does.
    runs = [
        Trained(
            _job(tiny, gradient_checkpointing=again, rollouts={"prompts": SIZE, "group": 1}),
            tmp_path / str(again),
            Scripted(group=1),
        ).run()
        for again in (False, True)
    ]
    assert _same(runs[0].weights, runs[1].weights)


def test_the_critic_learns_alone_at_first(tiny: Path, tmp_path: Path) -> None:
    job = _job(tiny, value_warmup=1, rollouts={"batches": 1})
    run = Trained(job, tmp_path)
    before = run.weights
    after = run.run().weights
    assert _same(_of("policy", before), _of("policy", after))
    assert not _same(_of("value", before), _of("value", after))
    assert not run.values("ratio")


def test_what_was_said_is_learned_from_bit_by_bit_and_not_said_again(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.training.actor_critic import ActorCritic

    names = ("log_probabilities", "values")
    spoken = [counted(monkeypatch, ActorCritic, name) for name in names]
    runs, counts = [], []
    for room in (0.0, 0.0004, 1.0):
        job = _job(tiny, first_pass_gib=room, batch_size=2, accumulation=2)
        runs.append(Trained(job, tmp_path / str(room)).run())
        counts.append([len(calls) / BATCHES for calls in spoken])
        for calls in spoken:
            calls.clear()
    for run in runs[1:]:
        assert _same(run.weights, runs[0].weights)
        assert run.values("ratio") == runs[0].values("ratio")
    # Of 8 answers by twos: policy, reference and critic are heard once, two of them learn twice.
    # Two of the four micro-batches are of the first update.
    assert counts[0] == [4 + 4 + 8, 4 + 8]
    assert sum(counts[0]) - 4 < sum(counts[1]) < sum(counts[0])
    assert counts[2] == [4 + 4 + 6, 4 + 6]


def test_a_critic_that_learns_alone_keeps_nothing_of_the_policys(
    tiny: Path, tmp_path: Path
) -> None:
    run = Trained(_job(tiny, value_warmup=1, rollouts={"batches": 1}), tmp_path)
    next(run.trainer._parts)
    assert [role for role, _ in run.trainer._first_pass._kept] == ["value"]


def test_an_epoch_that_went_too_far_is_the_policys_last(tiny: Path, tmp_path: Path) -> None:
    run = Trained(_job(tiny, stop_kl=1e-9, rollouts={"batches": 2}), tmp_path).run()
    told = sorted(run.values("ratio"))
    assert told == [1, 2, 5, 6]
    assert sorted(run.values("value_loss")) == list(range(1, 9))


def test_roles_learn_at_rates_of_their_own(tiny: Path, tmp_path: Path) -> None:
    run = Trained(_job(tiny, value_learning_rate=0.005), tmp_path)
    groups = run.trainer.create_optimizer().param_groups
    assert [group["lr"] for group in groups] == [0.02, 0.005]
    assert [len(group["params"]) for group in groups] == [28, 30]


# --- What counts --------------------------------------------------------------------------------


def test_an_answer_without_a_reward_teaches_nothing(tiny: Path, tmp_path: Path) -> None:
    job = _job(tiny, rollouts={"batches": 1})
    one, other = Scripted(undecided=(2, 5)), Scripted(undecided=(2, 5))
    other.others = 1
    assert one.batch(0)[2].tokens != other.batch(0)[2].tokens
    ran = [Trained(job, tmp_path / str(at), source) for at, source in enumerate((one, other))]
    assert _same(ran[0].run().weights, ran[1].run().weights)


def test_an_answer_that_was_cut_pays_for_it(straight: Trained, tiny: Path, tmp_path: Path) -> None:
    free = Trained(_job(tiny, missing_end_penalty=0.0), tmp_path).run()
    paid = straight.values("score")[1]
    assert free.values("score")[1] - paid == pytest.approx(1 / 8)


def test_what_another_engine_sampled_counts_by_the_ratio(tiny: Path, tmp_path: Path) -> None:
    import torch

    run = Trained(_job(tiny), tmp_path, Scripted(engine=-5.0))
    experience = run.trainer._experienced(0)
    spoken = experience.asked.spoken
    wanted = torch.exp(experience.old + 5.0).clamp(max=2.0)
    assert torch.allclose(experience.correction[spoken], wanted[spoken])
    assert len({*experience.correction[spoken].tolist()}) > 5


def test_a_micro_batch_is_a_part_of_an_update_and_not_an_update(tiny: Path, tmp_path: Path) -> None:
    import torch

    whole, parts = (
        Trained(_job(tiny, batch_size=size, rollouts={"updates": 1}), tmp_path / str(size))
        for size in (8, 2)
    )
    for run, steps in ((whole, 1), (parts, 4)):
        run.actors.model.float()
        for _ in range(steps):
            run.trainer.training_step(run.actors.model, {})
    for role in ("policy", "value"):
        pairs: Any = zip(whole.actors.weights(role), parts.actors.weights(role), strict=True)
        assert all(torch.allclose(one.grad, other.grad, atol=1e-6) for one, other in pairs)


def test_a_base_of_4_bits(tiny: Path, tmp_path: Path) -> None:
    run = Trained(_job(tiny, adapter="qlora", rollouts={"batches": 1}), tmp_path)
    before = run.weights
    after = run.run().weights
    assert all(one.dtype.itemsize == 4 for one in after.values())
    assert run.values("ratio")[1] == 1.0
    assert not _same(_of("policy", before), _of("policy", after))


# --- Checkpoints --------------------------------------------------------------------------------


def test_a_run_goes_on_from_a_batch_exactly(straight: Trained, tiny: Path, tmp_path: Path) -> None:
    job = _job(tiny, kl_target=0.5)
    whole = Trained(job, tmp_path / "whole").run()
    resumed = Trained(job, tmp_path / "resumed")
    last = resumed.folder / f"checkpoint-{(BATCHES - 1) * STEPS}"
    shutil.copytree(whole.folder / last.name, last)
    resumed.run(last)
    assert resumed.trainer.state.global_step == BATCHES * STEPS
    assert _same(whole.weights, resumed.weights)
    # Which is not what the last batch alone would have taught.
    assert not _same(straight.weights, resumed.weights)
    assert resumed.values("kl_coefficient")[9] == whole.values("kl_coefficient")[9] != 0.05


def test_a_checkpoint_has_every_role_in_a_folder_of_its_own(straight: Trained) -> None:
    last = straight.folder / f"checkpoint-{BATCHES * STEPS}"
    kept = {str(path.relative_to(last)) for path in last.rglob("*.safetensors")}
    # At the root, an adapter among several would be passed over on resume.
    assert kept == {
        "policy/adapter_model.safetensors",
        "value/adapter_model.safetensors",
        "value_head.safetensors",
    }
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth", "ppo.json"} <= {
        path.name for path in last.iterdir()
    }


def test_a_run_does_not_go_on_from_other_answers(tiny: Path, tmp_path: Path) -> None:
    job = _job(tiny)
    whole = Trained(job, tmp_path / "whole", Scripted(undecided=(2,))).run()
    last = whole.folder / f"checkpoint-{(BATCHES - 1) * STEPS}"
    other = Scripted(undecided=(2,))
    other.others = 1
    with pytest.raises(TrainingError, match="after other answers than those that are kept"):
        Trained(job, tmp_path / "resumed", other).run(last)
