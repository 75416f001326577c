"""`preceptor rollouts`, as a user meets it."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from pipelines.store.connection import connect
from pipelines.store.rollouts import add
from pipelines.training.rollout import Rollout
from tests.commands import Cli
from tests.rolled import PRODUCT, WATCHED, open_run, rollout


def store(home: Path, rollouts: Sequence[Rollout], run: str = "run") -> None:
    with closing(connect(home / "store.db")) as db:
        open_run(db, run)
        add(db, run, rollouts, watched=[WATCHED])


def test_where_nothing_is_there_it_says_so(cli: Cli) -> None:
    assert "There is no store yet" in cli.refused("rollouts")
    assert not cli.home.exists(), "looking must not make anything"
    store(cli.home, [])
    assert "No training run has rollouts yet" in cli.refused("rollouts")
    assert "begins with 'nope'" in cli.refused("rollouts", "nope")


def test_the_best_and_the_worst_are_shown_with_what_was_said_of_them(cli: Cli) -> None:
    rollouts = [rollout(n, f"answer [{n}]", n / 10, 0.5) for n in range(5)]
    store(cli.home, [*rollouts, rollout(9, "undecided", None)])
    said = cli("rollouts", "--best", "1", "--worst", "1")
    assert said.code == 0, said.err
    assert "training run run, 6 rollouts" in said.out
    assert "best 1: reward 0.4, advantage -0.1" in said.out
    assert "batch 4, draw 0, answer 0, 10 tokens, ended by stop, used" in said.out
    assert "policy v4, rollout " in said.out
    assert "math: 0.4 (verified: is 0.4)" in said.out
    assert "watched, judge: 0.5 (verified: is 0.5)" in said.out
    assert "1 + 1 =\nanswer [4]\n" in said.out
    assert "worst 1: reward 0, advantage -0.5" in said.out
    assert "undecided" not in said.out, "what has no reward is neither good nor bad"


def test_the_newest_run_is_shown_unless_another_is_named(cli: Cli) -> None:
    store(cli.home, [rollout(0, "old", 1.0)], "first")
    store(cli.home, [rollout(0, "new", 1.0)], "second")
    assert cli("rollouts", "--json").json["training_run"] == "second"
    assert cli("rollouts", "fir", "--json").json["best"][0]["text"] == "old"


def test_the_curve_has_a_line_a_batch_and_of_long_runs_a_line_for_several(cli: Cli) -> None:
    pairs = [rollout(n, "a", 0.0, 1.0, tokens=10 + n) for n in range(3)]
    pairs += [rollout(n, "b", 1.0, 0.5, tokens=10 + n, position=1) for n in range(3)]
    store(cli.home, [*pairs, rollout(2, "c", None, position=2, tokens=12)], "short")
    store(cli.home, [rollout(n, "a", 1.0) for n in range(100)], "t-long")
    lines = cli("rollouts", "short", "--json").json["curve"]
    assert [(one["first"], one["last"], one["rollouts"]) for one in lines] == [
        (0, 0, 2),
        (1, 1, 2),
        (2, 2, 3),
    ]
    last = lines[-1]
    assert (last["reward"], last["watched"], last["tokens"]) == (0.5, {"judge": 0.75}, 12)
    lines = cli("rollouts", "t-long", "--json").json["curve"]
    assert len(lines) == 20
    assert (lines[0]["first"], lines[-1]["last"]) == (0, 99)
    shown = cli("rollouts", "short", "--best", "0", "--worst", "0", "--suspicious", "0").out
    assert "watched: judge" in shown
    assert "best 1" not in shown


def test_what_looks_hacked_comes_in_the_order_that_the_document_gives(cli: Cli) -> None:
    plain = [
        rollout(n, "<think>one and one</think> It is two.", n % 2, 0.8, position=n)
        for n in range(8)
    ]
    hacked = [
        rollout(20, "<think>words</think> Two, as I was saying.", 1.0, 0.8, tokens=50),
        rollout(21, "<think>yes</think>" + " it is two" * 30, 1.0, 0.8, tokens=50),
        rollout(22, "<think>yes</think> Trust me.", 1.0, 0.1),
        rollout(23, "two", 1.0, 0.8, tokens=2),
        rollout(24, "<think>no</think>" + " it is two" * 30, 0.0, 0.0, tokens=50),
    ]
    store(cli.home, [*plain, *hacked])
    found = cli("rollouts", "--suspicious", "9", "--json").json["suspicious"]
    assert [one["batch"] for one in found] == [22, 23, 21, 20]
    signs = {one["batch"]: one["signs"] for one in found}
    assert signs[22] == ["watched judge says 0.1, on average 0.68"]
    assert signs[20] == ["long: 50 tokens, the median is 10"]
    assert signs[21][1].startswith("repeats itself: ")
    assert signs[23] == [
        "short: 2 tokens, the median is 10",
        "no reasoning, where most have some",
    ]
    assert "suspicious: watched judge says 0.1" in cli("rollouts").out


def test_where_nothing_pays_nothing_is_suspicious(cli: Cli) -> None:
    store(cli.home, [rollout(n, "so on " * 50, 0.0, 0.0, tokens=n * n) for n in range(5)])
    assert cli("rollouts", "--json").json["suspicious"] == []


def test_all_of_one_prompt(cli: Cli) -> None:
    first = rollout(0, "three", 0.0, prompt=PRODUCT)
    store(cli.home, [rollout(0, "two", 1.0), first, rollout(5, "two!", 1.0, prompt=PRODUCT)])
    found = cli("rollouts", "--prompt", PRODUCT.id[:12], "--json").json["rollout"]
    assert [(one["batch"], one["text"]) for one in found] == [(0, "three"), (5, "two!")]
    assert {one["question"] for one in found} == {"1 * 2 ="}
    shown = cli("rollouts", "--prompt", PRODUCT.id).out
    assert "rollout 2: reward 1" in shown
    assert "best" not in shown
    assert "No prompt of this run" in cli.refused("rollouts", "--prompt", "zz")
    assert "More than one prompt" in cli.refused("rollouts", "--prompt", "")


def test_an_answer_that_holds_control_characters_is_shown_harmless(cli: Cli) -> None:
    store(cli.home, [rollout(0, "[red]\x1b[2J:100:", 1.0)])
    assert "[red]\N{REPLACEMENT CHARACTER}[2J:100:" in cli("rollouts").out


def test_rewards_are_made_again_with_other_weights_and_nothing_is_stored(cli: Cli) -> None:
    rollouts = [rollout(0, "right", 1.0), rollout(1, "in form", 0.0, form=0.5)]
    store(cli.home, [*rollouts, rollout(2, "undecided", None)])
    words = ("rollouts", "--worst", "0", "--best", "3", "--json")
    said = cli(*words, "--weigh", "math=0.25", "--weigh", "form=1").json
    assert said["weights"] == {"math": 0.25, "form": 1.0}
    found = [(one["text"], one["reward"], one["advantage"]) for one in said["best"]]
    assert found == [("in form", 0.5, None), ("right", 0.25, None)]
    assert [one["reward"] for one in said["curve"]] == [0.25, 0.5, None]
    shown = cli("rollouts", "--weigh", "form=2", "--best", "1").out
    assert "rewards made again, nothing stored: math 1, form 2" in shown
    assert "best 1: reward 1, advantage -" in shown
    plain = cli(*words).json
    assert plain["weights"] is None
    found = [(one["text"], one["reward"], one["advantage"]) for one in plain["best"]]
    assert found == [("right", 1.0, 0.5), ("in form", 0.0, -0.5)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("virtue=1", "'virtue=1' names no term of the run's reward"),
        (f"{WATCHED}=1", "NAME=WEIGHT, NAME: math, form"),
        ("math", "'math' names no term"),
        ("math=much", "'much' is no weight of 'math'"),
        ("math=-1", "a number from 0 on"),
        ("math=nan", "'nan' is no weight"),
    ],
)
def test_a_weight_that_is_none_is_refused(cli: Cli, wrong: str, said: str) -> None:
    store(cli.home, [rollout(0, "right", 1.0, 0.5)])
    assert said in cli.refused("rollouts", "--weigh", wrong)


@pytest.mark.parametrize("option", ["--best", "--worst", "--suspicious"])
def test_a_number_below_zero_is_a_wrong_option(cli: Cli, option: str) -> None:
    assert cli("rollouts", option, "-1").code == 2
