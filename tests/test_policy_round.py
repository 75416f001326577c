"""A whole round that learns from rewards: real store, verifiers and training; the gate's answers
come from the scripted server."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines.store.connection import connect
from pipelines.store.rollouts import of_run
from service.tables import show_gate
from teachers.errors import ConfigError, GuardTripped, Uncertified
from tests.places import Place
from tests.scripted.running import running
from tests.steered import CAREFUL, WORD, constitution
from tests.tiny import tiny_model

BATCHES, PROMPTS, GROUP = 4, 3, 4
HACKED = "select id from rounds where name = 'hacked'"
PAUSED = (
    "select count(*) from rollouts join training_runs on training_runs.id = training_run_id"
    f" where round_id in ({HACKED})"
)

pytestmark = pytest.mark.usefixtures("one_thread")


def usual(root: Path) -> dict[str, Any]:
    """What the recipes of this file say."""
    return {
        "name": "practice",
        "student": {"weights": str(root / "model"), "instruction": "Add up."},
        "supply": {"generators": [{"generator": "chain_sum", "train": 12, "held_out": 60}]},
        "rollouts": {
            "sampler": "transformers",
            "batches": BATCHES,
            "prompts": PROMPTS,
            "group": GROUP,
            "max_tokens": 8,
            "draws": 1,
        },
        "rewards": [{"name": "early", "verifier": "tests.rules:early_letters"}],
        "watched": [],
        "train": {
            "objective": "grpo",
            "rank": 4,
            "batch_size": 6,
            "max_length": 400,
            "save_steps": 2,
            "learning_rate": 0.01,
        },
        "gate": {"max_tokens": 64, "min_items": 50, "beat_few_shot": False},
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("practice")
    tiny_model(root / "model")
    place = Place(root, usual(root), "--right", "0.4", "--right-after", "0.95")
    place.run(place.recipe())
    return place


def test_the_round_is_promoted_and_its_rollouts_are_rows(place: Place) -> None:
    assert place.one("select state from rounds") == "done"
    assert place.one("select decision from promotions") == "promoted"
    run = place.one("select id from training_runs")
    rows = of_run(connect(place.home.store), run)
    assert len(rows) == BATCHES * PROMPTS * GROUP
    assert {row.policy for row in rows} == {f"policy-{batch}" for batch in range(BATCHES)}
    assert all(row.terms["early"].state in ("verified", "refuted") for row in rows)
    means = dict(place.ask("select batch, avg(reward) from rollouts group by batch"))
    told = dict(place.ask("select step - 1, value from metrics where name = 'reward'"))
    assert told == pytest.approx(means)


def test_run_again_it_asks_nothing_and_trains_nothing(place: Place) -> None:
    before = place.ask("select count(*), max(created_at) from rollouts")
    assert place.run(place.recipe()).promoted
    assert place.ask("select count(*), max(created_at) from rollouts") == before


def test_the_next_round_knows_how_the_prompts_went(place: Place) -> None:
    # Another seed is another training run of the same recipe.
    place.run(place.recipe(train={"seed": 2}))
    paths = [Path(path) for (path,) in place.ask("select path from datasets order by created_at")]
    first, second = (path.read_text() for path in paths)
    assert '"tries": 4' not in first
    assert '"tries": 4' in second


def test_a_round_with_a_critic(place: Place) -> None:
    outcome = place.run(
        place.recipe(
            name="critic",
            train={"objective": "ppo", "ppo_epochs": 2},
            rollouts={"group": 1, "prompts": 12},
        )
    )
    run = outcome.reports["train"]["training_run"]
    rows = of_run(connect(place.home.store), run)
    assert len(rows) == BATCHES * 12
    assert {(row.fate, row.advantage) for row in rows} == {("used", None)}
    told = dict(
        place.ask(f"select name, count(*) from metrics where training_run_id = '{run}' group by 1")
    )
    assert told["value_loss"] == told["ratio"] == told["loss"] == 2 * BATCHES
    assert told["score"] == told["explained_variance"] == told["eos_rate"] == BATCHES


def test_a_policy_that_went_too_far_from_its_base_is_kept_aside(place: Place) -> None:
    changes: dict[str, Any] = {"name": "far", "train": {"seed": 5, "learning_rate": 0.05}}
    near = place.run(place.recipe(**changes, gate={"max_kl": 50.0})).reports["gate"]
    assert near["kl"]["passed"]
    far = place.run(place.recipe(**changes, gate={"max_kl": 1e-9})).reports["gate"]
    assert not far["promoted"]
    assert not far["kl"]["passed"]
    assert "nats a token from the base, needs at most 1e-09" in far["reason"]
    console = Console(record=True, width=120)
    show_gate(console, far)
    assert re.search(r"nats a token from the base +at most 1e-09 +missed", console.export_text())


def test_open_requests_are_compared_and_not_counted(place: Place) -> None:
    (place.root / "wishes.jsonl").write_text(
        "".join(json.dumps({"question": f"Tell me about {n}."}) + "\n" for n in range(200))
    )
    wishes = {"path": str(place.root / "wishes.jsonl"), "name": "wishes", "verifier": "none"}
    changes: dict[str, Any] = {
        "name": "wishes",
        "supply": {"generators": [], "files": [{**wishes, "train": 12, "held_out": 25}]},
        "rollouts": {"batches": 2},
    }
    with pytest.raises(ConfigError, match="has nothing to decide by"):
        place.run(place.recipe(**changes))
    with pytest.raises(ConfigError, match=r"gate\.min_gain is about right answers"):
        place.run(place.recipe(**changes, gate={"length": "shorter", "min_gain": 0.1}))
    gate = place.run(place.recipe(**changes, gate={"length": "shorter", "min_items": 20})).reports[
        "gate"
    ]
    assert gate["kind"] == "preference"
    assert [one["name"] for one in gate["conditions"]] == ["length"]
    assert gate["items"] >= 20


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rollouts": {"updates": 5}}, "cannot be shared out"),
        ({"train": {"save_steps": 3}, "rollouts": {"updates": 2}}, "multiple of 2, the steps of"),
        ({"train": {"objective": "ppo", "save_steps": 6}}, "multiple of 4, the steps of"),
        (
            {"train": {"objective": "ppo", "save_steps": 4}, "rollouts": {"draws": 2}},
            "not with ppo",
        ),
        ({"train": {"objective": "ppo", "kl": 0.1}}, "kl is for grpo, rloo, not ppo"),
        ({"train": {"kl_coefficient": 0.1}}, "kl_coefficient is for ppo, not grpo"),
        (
            {"train": {"objective": "ppo", "save_steps": 4, "processes": 5}},
            "updates of train.batch_size 6 in 5 processes",
        ),
        (
            {"train": {"objective": "ppo", "save_steps": 4, "value_from": "reward_model"}},
            "no term of the reward asks one",
        ),
        ({"rollouts": {"group": 1, "prompts": 12}}, "its answers are compared"),
        ({"train": {"accumulation": 2}}, "train.accumulation follows"),
        ({"rewards": []}, "at least one term"),
        ({"rewards": [{"name": "x", "verifier": "length", "weight": 0}]}, "nothing is paid for"),
        ({"rewards": [{"name": "x", "verifier": "numbr"}]}, "There is no verifier 'numbr'"),
        ({"rewards": [{"name": "x", "verifier": "judge"}]}, "a reward asks for a judge"),
        ({"watched": [{"name": "early", "verifier": "length"}]}, "two terms of one name"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    place: Place, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        place.run(place.recipe(**changes))


def test_a_guard_stops_the_round_with_its_evidence(place: Place) -> None:
    guards: dict[str, Any] = {"window": 2, "patience": 1, "entropy": None}
    lengths = [{"name": "long", "verifier": "tests.rules:long"}]
    changes: dict[str, Any] = {
        "name": "hacked",
        "guards": {**guards, "kl": 0.01},
        "rewards": lengths,
        "watched": [{"name": "early", "verifier": "tests.rules:early_letters"}],
        "rollouts": {"batches": 12},
        "train": {"learning_rate": 0.05, "seed": 3},
    }
    with pytest.raises(GuardTripped, match="distance to the reference"):
        place.run(place.recipe(**changes))
    assert place.one("select state from rounds where name = 'hacked'") == "stopped"
    reached = place.one(PAUSED)
    # Somebody has looked, and the same run goes on where it was.
    place.run(place.recipe(**{**changes, "guards": {**guards, "kl": None}}))
    assert place.one("select count(*) from training_runs where round_id in (" + HACKED + ")") == 1
    assert place.one(PAUSED) > reached


def _judged(place: Place, url: str, **changes: Any) -> Path:
    principles = constitution(place.root, CAREFUL)
    terms = [
        {"name": "early", "verifier": "tests.rules:early_letters"},
        {"name": "careful", "verifier": "judge", "weight": 0.5},
    ]
    judge = {"url": url, "model": "judge", "kind": "score"}
    return place.recipe(
        name="judged",
        constitution=str(principles),
        judge=judge,
        rewards=terms,
        rollouts={"batches": 2},
        **changes,
    )


def test_a_certified_judges_score_is_a_term(place: Place) -> None:
    with running(place.root, "--judge", f"keyword:{WORD}") as server:
        place.run(_judged(place, server.url))
    rows = place.ask("select value, state from rollout_terms where name = 'careful'")
    assert len(rows) == 2 * PROMPTS * GROUP
    # Random letters do not have the word that this judge wants.
    assert {state for _, state in rows} == {"refuted"}
    assert all(0.0 <= value < 0.5 for value, _ in rows)
    both = place.ask(
        "select reward, sum(value * iif(name = 'careful', 0.5, 1)) from rollouts"
        " join rollout_terms on rollout_id = id where name in ('early', 'careful')"
        " and id in (select rollout_id from rollout_terms where name = 'careful') group by id"
    )
    assert all(reward == pytest.approx(total) for reward, total in both)
    assert list((place.home.root / "runs").glob("*/judge.json")) == []


def test_an_uncertified_judge_rewards_nothing(place: Place) -> None:
    runs = place.one("select count(*) from rollouts")
    with (
        running(place.root, "--judge", "first") as server,
        pytest.raises(Uncertified, match="careful"),
    ):
        place.run(_judged(place, server.url, train={"seed": 4}))
    assert place.one("select count(*) from rollouts") == runs
