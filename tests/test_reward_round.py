"""Whole reward rounds: pairs that a judge labelled, a reward model trained on most of them, and
measured on the rest before it gets a name.
"""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import scoring
from pipelines.hygiene.split import kept_back
from pipelines.store.connection import connect, transaction
from pipelines.training.reward_notes import Norm
from teachers.errors import RoundStopped, Uncertified
from teachers.files import Growing
from tests.commands import Cli
from tests.places import Meddler, Place
from tests.steered import constitution, principle, requests
from tests.tiny import tiny_model

TRAIN, N, SHARE = 120, 4, 0.4
# About half of all scripted answers end in a number with it, long ones and short ones alike.
DIGIT = "1"
ADAPTER = "select adapter_path from checkpoints where adapter_path = merged_path"
TASTE = principle("ones", "The answer has a one in it.", DIGIT)

pytestmark = pytest.mark.usefixtures("one_thread")


def usual(root: Path) -> dict[str, Any]:
    """What the recipes of this file say."""
    open_ = {"path": "open.jsonl", "name": "open", "verifier": "none"}
    return {
        "name": "taste",
        "student": {"weights": str(root / "model")},
        "constitution": "tested.yaml",
        "judge": {"weights": str(root / "model")},
        "supply": {"files": [{**open_, "train": TRAIN, "held_out": 0}]},
        "teacher": {"sampling": {"n": N, "max_tokens": 64}, "concurrency": 8},
        "pairs": {"minimum": 10, "weights": {"judge": 0.5}},
        "train": {
            "objective": "reward",
            "rank": 8,
            "epochs": 6,
            "learning_rate": 5e-3,
            "max_length": 400,
        },
        "appraisal": {"held_out": SHARE, "min_pairs": 20},
    }


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One whole round, start to end, of a reward model that passes."""
    root = tmp_path_factory.mktemp("reward")
    tiny_model(root / "model")
    requests(root, 4 * TRAIN)
    constitution(root, TASTE)
    place = Place(root, usual(root), "--judge", f"keyword:{DIGIT}")
    place.run(place.recipe())
    place.keep()
    return place


@pytest.fixture
def place(first: Place) -> Place:
    """The first round, just done."""
    first.back()
    return first


def report(place: Place, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(place.one("select report from stages where name = ?", stage))
    return found


def trained_on(place: Place) -> list[dict[str, Any]]:
    """The frozen rows."""
    path = Path(place.one("select path from datasets"))
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_it_is_measured_and_gets_its_name(place: Place) -> None:
    found = report(place, "appraise")
    assert (found["passed"], found["alias"], found["faults"]) == (True, "taste", [])
    assert place.ask("select name, checkpoint_id, why from aliases") == [
        ("taste", found["checkpoint"], "appraised")
    ]
    hits, n, low, _ = found["accuracy"]
    assert n == report(place, "pair")["held_out"] >= 20
    assert low > 0.5
    assert hits - found["longer"][0] == found["gained"] - found["lost"] > 0
    assert sum(group[1] for group in found["by"]["length"].values()) == n
    assert found["by"]["source"] == {"judge": found["accuracy"]}
    assert found["by"]["principle"] == {"ones": found["accuracy"]}
    assert 0 <= found["calibration_error"] < 0.5
    # The judge agrees with it ever more, the more there is to choose from.
    assert [n for n, *_ in found["best_of"]] == [1, 2, 4]
    assert found["best_of"][0][2] == pytest.approx(0.5, abs=0.05)
    assert found["best_of"][0][2] < found["best_of"][1][2] < found["best_of"][2][2]
    assert Path(found["picture"]).read_bytes().startswith(b"\x89PNG")
    assert place.ask("select name from stages order by started_at") == [
        (name,) for name in ("supply", "sample", "compare", "pair", "train", "appraise")
    ]


def test_usual_answers_score_zero_with_a_deviation_of_one(place: Place) -> None:
    from statistics import fmean, pstdev

    folder = Path(place.one(ADAPTER))
    norm = Norm.of(folder)
    assert norm is not None
    rows = place.ask(
        "select score, prompt_id from reward_scores join samples on samples.id = sample_id"
    )
    scores = [norm.apply(score) for score, _ in rows]
    assert all(kept_back(name, SHARE) for _, name in rows)
    # The pairs' sides are among the answers that it was measured on.
    assert len(scores) == norm.samples
    assert fmean(scores) == pytest.approx(0, abs=1e-6)
    assert pstdev(scores) == pytest.approx(1, abs=1e-6)


def test_held_out_prompts_are_not_trained_on(place: Place) -> None:
    held_out = {
        question
        for name, question in place.ask("select id, question from prompts")
        if kept_back(name, SHARE)
    }
    rows = trained_on(place)
    assert len(rows) == report(place, "pair")["rows"]
    assert not held_out & {row["prompt"][-1]["content"] for row in rows}
    learned = place.ask(
        "select distinct prompt_id from dataset_rows join samples on samples.id = sample_id"
    )
    assert not any(kept_back(name, SHARE) for (name,) in learned)


def test_its_rows_say_who_labelled_them_and_how_much_that_counts(place: Place) -> None:
    assert {(row["source"], row["weight"], row["p"]) for row in trained_on(place)} == {
        ("judge", 0.5, 0.95)
    }


def test_a_second_run_scores_nothing(place: Place) -> None:
    before = place.one("select max(created_at) from reward_scores")
    place.run(place.recipe())
    assert place.one("select max(created_at) from reward_scores") == before


class FirstAlone(Growing):
    """Gives the first of some lines."""

    def new(self) -> list[bytes]:
        return super().new()[:1]


def test_a_killed_appraisal_goes_on_where_it_was(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = place.one("select count(*) from reward_scores")
    place.empty()

    def stop() -> None:
        raise RuntimeError("stopped")

    # However soon the scores come: the first is kept before the others are read.
    with monkeypatch.context() as slowed:
        slowed.setattr(scoring, "Growing", FirstAlone)
        with pytest.raises(RuntimeError, match="stopped"):
            place.run(place.recipe(), Meddler("score held-out pairs", 1, stop))
    kept = place.ask("select id, created_at from reward_scores")
    assert len(kept) == 1 < every
    assert not list(place.home.root.glob("score-*"))
    place.run(place.recipe())
    assert set(kept) < set(place.ask("select id, created_at from reward_scores"))
    assert place.one("select count(*) from reward_scores") == every


def test_what_is_no_better_than_length_gets_no_name(place: Place, told: Cli) -> None:
    place.empty()
    changes = {"train": {"epochs": 1, "learning_rate": 1e-6}}
    said = told("run", str(place.recipe(**changes)))
    assert said.code == 0
    found = report(place, "appraise")
    assert (found["passed"], found["alias"]) == (False, None)
    assert place.ask("select * from aliases") == []
    assert "not passed: " in said.out
    assert "always the longer answer is right on 60%" in said.out
    # The first round alone left one.
    assert len(list(place.home.runs.glob("*/adapter/norm.json"))) == 1


def test_too_few_held_out_pairs_are_told_before_training(place: Place) -> None:
    place.empty()
    with pytest.raises(RoundStopped, match=r"it takes 1000 \(appraisal.min_pairs\)"):
        place.run(place.recipe(appraisal={"min_pairs": 1000}))
    assert place.one("select count(*) from training_runs") == 0


def test_the_command_line_shows_what_it_reaches(place: Place, told: Cli) -> None:
    said = told("run", str(place.recipe()), "--serve").out
    assert "always the longer" in said
    assert "chosen shorter" in said
    assert "is called taste now" in said
    assert "nothing new is served: what was trained is no student" in said
    status = told("status")
    assert f"reward model taste: {report(place, 'appraise')['checkpoint'][:16]}" in status.out
    assert "champion: none yet" in status.out
    assert told("status", "--json").json["reward_models"][0]["name"] == "taste"
    checked = told("recipe", "check", str(place.recipe())).out
    assert "trains: a reward model from " in checked


def test_it_answers_nobody(place: Place, told: Cli) -> None:
    assert "is a reward model: it answers nobody" in told.refused("promote", "taste")
    recipe = place.recipe(name="student", student={"weights": "checkpoint:taste"})
    assert "is a reward model" in told.refused("run", str(recipe))


# --- Scoring what is stored -----------------------------------------------------------------------


def test_stored_answers_are_scored_once(place: Place, told: Cli) -> None:
    before = place.one("select count(*) from reward_scores")
    said = told("score", "taste", "--json").json
    assert (said["answers"], said["prompts"]) == (TRAIN * N, TRAIN)
    assert said["lowest"] < 0 < said["highest"]
    # Answers that say the same are one score.
    texts = place.one(
        "select count(*) from (select distinct samples.prompt_id, text from samples"
        " join calls on calls.id = call_id where purpose = 'teach')"
    )
    assert before < place.one("select count(*) from reward_scores") == texts
    name = place.one("select sample_id from reward_scores limit 1")
    assert told("show", name, "--json").json["related"]["reward scores"]
    newest = place.one("select max(created_at) from reward_scores")
    assert told("score", "taste", "--json").json == said
    assert place.one("select max(created_at) from reward_scores") == newest


def test_the_best_of_several_answers_are_a_dataset(place: Place, told: Cli) -> None:
    out = place.root / "best.jsonl"
    said = told("score", "taste", "--best-of", str(N), "--out", str(out)).out
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert f"written: {len(rows)}" in said
    assert len(rows) == TRAIN
    chosen = [row["completion"][0]["content"] for row in rows]
    with_it = sum(DIGIT in text for text in chosen) / TRAIN
    every = place.ask(
        "select text from samples join calls on calls.id = call_id where purpose = 'teach'"
    )
    usual = sum(DIGIT in text for (text,) in every) / len(every)
    assert with_it > usual + 0.2
    assert rows[0]["prompt"][-1]["content"].startswith("What do you make of thing")
    some = told("score", "taste", "--best-of", "1", "--out", str(out), "--at-least", "0", "--json")
    assert some.json["written"] == len(out.read_text().splitlines()) < TRAIN


def test_a_filter_says_which_answers_are_scored(place: Place, told: Cli) -> None:
    prompt = place.one("select id from prompts limit 1")
    assert told("score", "taste", "--prompt", prompt[:12], "--json").json["answers"] == N
    round_id = place.one("select id from rounds")
    said = told("score", "taste", "--round", round_id[:12], "--json").json
    assert said["answers"] == TRAIN * N
    assert "No stored answer fits" in told.refused("score", "taste", "--round", "none")
    alone = told("score", "taste", "--best-of", "4")
    assert (alone.code, "go together" in alone.err) == (2, True)


# --- As a reward --------------------------------------------------------------------------------


def practice(place: Place, weights: str = "checkpoint:taste", **train: Any) -> Path:
    """A recipe of a policy that is paid by the reward model."""
    content = yaml.safe_load(place.recipe("--right", "0.4", "--right-after", "0.95").read_text())
    for section in ("constitution", "judge", "pairs", "appraisal"):
        del content[section]
    content |= {
        "name": "practice",
        "supply": {"generators": [{"generator": "chain_sum", "train": 12, "held_out": 60}]},
        "rollouts": {
            "sampler": "transformers",
            "batches": 2,
            "prompts": 3,
            "group": 4,
            "max_tokens": 8,
            "draws": 1,
        },
        "rewards": [{"name": "taste", "verifier": "reward_model"}],
        "reward_model": {"weights": weights},
        "watched": [{"name": "right", "verifier": "own"}],
        "train": {"objective": "grpo", "rank": 4, "batch_size": 6, "max_length": 400, **train},
        "gate": {"max_tokens": 64, "min_items": 50, "beat_few_shot": False},
    }
    path = place.root / "practice.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_policy_is_paid_by_what_the_reward_model_says(place: Place) -> None:
    from pipelines.training.models import tokenizer_of
    from pipelines.training.rater import Rater, Told
    from pipelines.training.score_job import ScoreJob
    from teachers.records import Message

    place.run(practice(place))
    rows = place.ask(
        "select question, text, finish_reason, value, reward from rollouts"
        " join rollout_terms on rollout_id = rollouts.id join prompts on prompts.id = prompt_id"
        " where name = 'taste'"
    )
    assert len(rows) == 2 * 3 * 4
    assert len({value for *_, value, _ in rows}) > 2
    assert all(0 < value < 1 and value == reward for *_, value, reward in rows)
    base, folder = place.root / "model", Path(place.one(ADAPTER))
    rater = Rater.alone(ScoreJob(base=base, adapter=folder, device="cpu"))
    question, text, ended, value, _ = rows[0]
    asked = [Message(role="user", content=question)]
    assert tokenizer_of(base).eos_token_id is not None
    assert rater.rate([Told(asked, text, ended)]) == pytest.approx([value], abs=1e-2)


def test_one_that_did_not_pass_pays_nobody(place: Place) -> None:
    checkpoint = report(place, "appraise")["checkpoint"]
    failed = {"passed": False, "faults": ["its interval begins at 40%"]}
    with closing(connect(place.home.store)) as db, transaction(db):
        db.execute(
            "update stages set report = json_patch(report, ?) where name = 'appraise'",
            (json.dumps(failed),),
        )
    with pytest.raises(Uncertified, match=r"did not pass on 40 held-out pairs: (?s:.*)begins at"):
        place.run(practice(place, f"checkpoint:{checkpoint}"))
    with closing(connect(place.home.store)) as db, transaction(db):
        db.execute("delete from stages where name = 'appraise'")
    with pytest.raises(Uncertified, match="never been appraised"):
        place.run(practice(place))


def test_a_reward_model_is_named_where_a_term_asks_for_one(place: Place, told: Cli) -> None:
    path = practice(place, "checkpoint:nobody")
    said = told.refused("recipe", "check", str(path))
    assert "reward_model.weights: no checkpoint is called 'nobody'" in said
    content = yaml.safe_load(path.read_text())
    del content["reward_model"]
    path.write_text(yaml.safe_dump(content))
    assert "reward_model names the model" in told.refused("recipe", "check", str(path))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": {"objective": "dpo"}}, "are for train.objective reward"),
        ({"name": "champion"}, "a judge or a reward model needs another name"),
        ({"pairs": {"revisions": 1}}, "pairs.revisions are for a student's pairs"),
        ({"pairs": {"weights": {"nobody": 1.0}}}, "pairs.weights.nobody"),
        ({"judge": None}, "there is no judge"),
    ],
)
def test_what_does_not_fit_is_refused(
    place: Place, told: Cli, changes: dict[str, Any], said: str
) -> None:
    assert said in told.refused("recipe", "check", str(place.recipe(**changes)))
