"""Rollouts as rows: nothing is lost, rewards can be made again, pass rates are the student's."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlite_utils import Database

from judges.rewards import Reward, recombined
from pipelines.store.checkpoints import Checkpoint, add_checkpoint, open_training
from pipelines.store.connection import connect, sqlite3, transaction
from pipelines.store.rollouts import add, of_run, pass_rates, reward_terms, run_with_rollouts
from pipelines.training.curriculum import Task
from pipelines.training.rollout import Rollout
from teachers.errors import ConfigError
from teachers.records import Prompt
from tests.rolled import PRODUCT, SUM, TERMS, WATCHED, open_run, rollout, said


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    """A store with three rounds of one recipe, one of another, and a training run of each."""
    db = connect(tmp_path / "store.db")
    for run, name in (("a", "mine"), ("b", "mine"), ("x", "other"), ("c", "mine")):
        open_run(db, run, name)
    yield db
    db.close()


def group(letters: str, batch: int = 0, prompt: Prompt = SUM) -> list[Rollout]:
    """A group by a letter an answer: right, wrong or undecided. The watched term likes them all."""
    values = {"r": 1.0, "w": 0.0, "u": None}
    return [
        rollout(batch, "2", values[letter], 0.7, prompt=prompt, position=place)
        for place, letter in enumerate(letters)
    ]


def test_a_rollout_comes_back_with_its_terms(db: Database) -> None:
    one = rollout(judge=0.7, tokens=3)
    add(db, "a", [one], watched=[WATCHED])
    (found,) = of_run(db, "a")
    assert found.id == one.id("a")
    assert (found.tokens, found.logprob, found.text, found.policy) == (3, -1.5, "2", "v0")
    assert (found.reward, found.advantage, found.fate) == (1.0, 0.5, "used")
    assert found.terms == {"math": one.terms["math"], "form": one.terms["form"]}
    assert found.watched == {WATCHED: one.terms[WATCHED]}


def test_the_jail_of_a_rollouts_code_is_kept(db: Database) -> None:
    one = rollout()
    jailed = {"code": said(1.0).model_copy(update={"jail": "landlock"}), **one.terms}
    add(db, "a", [one.model_copy(update={"terms": jailed})])
    (found,) = of_run(db, "a")
    assert found.terms == jailed


def test_what_no_rule_could_decide_is_a_row_without_a_reward(db: Database) -> None:
    add(db, "a", [rollout(math=None)])
    (found,) = of_run(db, "a")
    assert (found.reward, found.advantage, found.fate) == (None, None, "unrewarded")
    assert found.terms["math"] == said(None)


def test_a_reward_is_made_again_from_rows_under_other_weights(db: Database) -> None:
    add(db, "a", [rollout(), rollout(math=0.0, position=1)], watched=[WATCHED])
    stored = [Reward(total=one.reward, terms=one.terms) for one in of_run(db, "a")]
    math, form = reward_terms(db, "a")
    assert (math, form) == TERMS
    light = math.model_copy(update={"weight": 0.5})
    assert [one.total for one in recombined([light, form], stored)] == [0.5, 0.0]
    gate = form.model_copy(update={"gate": True})
    assert [one.total for one in recombined([light, gate], stored)] == [0.0, 0.0]


def test_stored_twice_is_one_row_and_sampled_again_is_the_newer_one(db: Database) -> None:
    add(db, "a", [rollout(text="first", judge=0.7), rollout(judge=0.7, position=1)])
    add(db, "a", [rollout(text="again", judge=0.7)])
    assert [one.text for one in of_run(db, "a")] == ["again", "2"]
    assert db.execute("select count(*) from rollout_terms").fetchone() == (6,)


def test_the_same_answer_in_two_runs_is_two_rows(db: Database) -> None:
    for run in ("a", "b"):
        add(db, run, [rollout()])
    assert len(of_run(db, "a")) == len(of_run(db, "b")) == 1


def test_rollouts_come_in_the_order_of_batches(db: Database) -> None:
    add(db, "a", [*group("rr", batch=10), *group("rr", batch=9)])
    assert [(one.batch, one.position) for one in of_run(db, "a")] == [
        (9, 0),
        (9, 1),
        (10, 0),
        (10, 1),
    ]


def test_a_rollout_of_nobodys_run_or_prompt_is_refused_whole(db: Database) -> None:
    strange = Prompt(task="t", question="unheard of")
    with pytest.raises(sqlite3.IntegrityError), transaction(db):
        add(db, "a", [rollout(), rollout(prompt=strange)])
    with pytest.raises(sqlite3.IntegrityError), transaction(db):
        add(db, "nobody", [rollout()])
    assert of_run(db, "a") == []


def test_a_join_leads_from_a_rollout_to_its_checkpoint_and_its_question(db: Database) -> None:
    add(db, "a", [rollout()])
    add_checkpoint(db, Checkpoint("made", "a", 10, Path("p"), "1", Path("m"), "w"))
    rows = db.execute(
        "select checkpoints.id, question, rounds.name from rollouts"
        " join checkpoints using (training_run_id) join prompts on prompts.id = prompt_id"
        " join training_runs on training_runs.id = training_run_id"
        " join rounds on rounds.id = training_runs.round_id"
    ).fetchall()
    assert rows == [("made", "1 + 1 =", "mine")]


@pytest.mark.parametrize(
    ("where", "index"),
    [
        ("training_run_id = 'a' and batch = 3", "rollouts_by_batch"),
        ("prompt_id = 'p'", "rollouts_by_prompt"),
    ],
)
def test_the_indexes_are_used(db: Database, where: str, index: str) -> None:
    plan = db.execute(f"explain query plan select * from rollouts where {where}").fetchall()
    assert index in str(plan)


def test_the_newest_run_is_meant_unless_another_is_named(db: Database) -> None:
    with pytest.raises(ConfigError, match="No training run has rollouts yet"):
        run_with_rollouts(db)
    add(db, "b", [rollout()])
    add(db, "a", [rollout()])
    assert run_with_rollouts(db) == "b", "started later, though its rollouts came first"
    assert run_with_rollouts(db, "a") == "a"
    with pytest.raises(ConfigError, match="No run with rollouts begins with 'c'"):
        run_with_rollouts(db, "c")


def test_a_beginning_that_two_runs_have_is_refused(db: Database, tmp_path: Path) -> None:
    open_training(db, "ab", "ra", "da", "{}", tmp_path)
    for run in ("a", "ab"):
        add(db, run, [rollout()])
    with pytest.raises(ConfigError, match="More than one training run"):
        run_with_rollouts(db, "a")


def test_pass_rates_count_what_was_decided_in_earlier_rounds_of_the_recipe(db: Database) -> None:
    add(db, "a", [*group("rwwu"), *group("uu", prompt=PRODUCT)])
    add(db, "x", group("rrrr"))  # another recipe's student
    add(db, "c", group("rrrr"))  # the run itself
    assert pass_rates(db, "rc", "math") == [Task(SUM.id, 3, 1, 1)], "`b` has no rollouts"
    assert pass_rates(db, "ra", "math") == [], "nothing comes before the first round"


def test_pass_rates_know_how_many_rounds_ago_a_prompt_was_tried(db: Database) -> None:
    add(db, "a", [*group("ww"), *group("rw", prompt=PRODUCT)])
    add(db, "b", group("rr", prompt=PRODUCT))
    by_prompt = {task.prompt_id: task for task in pass_rates(db, "rc", "math")}
    assert by_prompt == {
        SUM.id: Task(SUM.id, 2, 0, 2),
        PRODUCT.id: Task(PRODUCT.id, 4, 3, 1),
    }


def test_the_newest_tries_count(db: Database) -> None:
    add(db, "a", group("wwww"))
    add(db, "b", [*group("wwrr", batch=0), *group("rrrr", batch=1)])
    assert pass_rates(db, "rc", "math", newest=4) == [Task(SUM.id, 4, 4, 1)]
    assert pass_rates(db, "rc", "math", newest=8) == [Task(SUM.id, 8, 6, 1)]
    assert pass_rates(db, "rc", "math") == [Task(SUM.id, 12, 6, 1)]


def test_a_hit_is_what_the_named_term_verified(db: Database) -> None:
    add(db, "a", group("rw"))
    assert pass_rates(db, "rb", "form") == [Task(SUM.id, 2, 0, 1)]
    assert pass_rates(db, "rb", WATCHED) == [Task(SUM.id, 2, 2, 1)], "passed, though below 1"
    assert pass_rates(db, "rb", "no such term") == []
