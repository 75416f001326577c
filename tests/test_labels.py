"""Human labels: what they say in figures, whom to ask what, and the terminal that asks."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlite_utils import Database

from judges.agreement import agreement, cohen_kappa
from judges.constitution import Principle
from judges.judge import comparing, following
from judges.labels import (
    Choice,
    Label,
    Labelled,
    annotators,
    pairs_of_ranking,
    peoples_word,
)
from judges.records import ORDERS, Answer, Comparison, Order, Reading
from pipelines import labelling, ranking
from pipelines.agreement import with_people
from pipelines.store import judgements, labels
from pipelines.store.connection import connect, transaction
from pipelines.store.judgements import Compared, JudgementRow, ScoreRow
from pipelines.store.lookup import find
from service.cli import main
from teachers.records import Message

ROOT = Path(__file__).parents[1]
BRIEF = Principle(id="brief", text="The answer is brief.")
KIND = Principle(id="kind", text="The answer is kind.")


def compared(question: str, first: str, second: str) -> Compared:
    asked = (Message(role="user", content=question),)
    return Compared(Comparison(conversation=asked, first=first, second=second), "round")


SIX = [compared(f"question {n}", f"short {n}", f"much longer {n}") for n in range(6)]
# Three answers to one request, each compared with each.
ANSWERS = ["one", "two", "three"]
RING = [compared("which?", ANSWERS[n], ANSWERS[(n + 1) % 3]) for n in range(3)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def db(home: Path) -> Iterator[Database]:
    db = connect(home / "store.db")
    yield db
    db.close()


@pytest.fixture
def filled(db: Database) -> Database:
    with transaction(db):
        judgements.add_comparisons(db, SIX)
    return db


def stored(db: Database) -> list[Label]:
    return [label for label, _, _ in labels.labelled(db)]


def test_cohen_kappa_by_hand() -> None:
    # Observed 35 of 50; expected (25 * 30 + 25 * 20) / 50^2 = 0.5.
    named = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10
    named += [("no", "no")] * 15
    assert cohen_kappa(named) == pytest.approx(0.4)
    assert agreement(named).share[:2] == (35, 50)
    assert cohen_kappa([("a", "a"), ("b", "b")]) == 1.0
    assert cohen_kappa([("a", "b"), ("b", "a")]) == -1.0
    assert cohen_kappa([("a", "a")] * 9) == 0.0, "who always says the same says nothing"


def test_a_ranking_is_all_its_pairs() -> None:
    assert pairs_of_ranking([["b"], ["a", "c"]]) == [
        ("b", "a", "first"),
        ("b", "c", "first"),
        ("a", "c", "tie"),
    ]
    assert len(pairs_of_ranking([[name] for name in "abcdef"])) == 15
    assert pairs_of_ranking([["a"]]) == []
    with pytest.raises(ValueError, match="twice"):
        pairs_of_ranking([["a"], ["a"]])


@pytest.mark.parametrize(
    ("choices", "state", "p"),
    [
        (["first"], "win", 1.0),
        (["second", "second", "first"], "loss", 1 / 3),
        (["first", "second"], "tie", 0.5),
        (["first", "tie"], "tie", 0.75),
        (["both_bad", "skip"], "tie", 0.5),
        (["first", "first", "tie", "skip", "skip"], "win", 5 / 6),
    ],
)
def test_what_most_people_say(choices: list[Choice], state: str, p: float) -> None:
    word = peoples_word(choices)
    assert word is not None
    assert word.state == state
    assert word.p == pytest.approx(p)


def test_who_only_skips_says_nothing() -> None:
    assert peoples_word(["skip"]) is None


def labels_of(name: str, *words: tuple[Choice, Order, float]) -> list[Labelled]:
    """Labels on comparisons 0, 1, 2, … whose first answer is the longer one, save the last's."""
    return [
        Labelled(
            Label(
                comparison_id=str(n), annotator=name, choice=choice, shown=shown, seconds=seconds
            ),
            5,
            5 if n == 4 else 3,
        )
        for n, (choice, shown, seconds) in enumerate(words)
    ]


def test_annotators_in_figures() -> None:
    ann = labels_of(
        "ann",
        ("first", "forward", 1.0),
        ("second", "backward", 2.0),
        ("first", "backward", 6.0),
        ("skip", "forward", 4.0),
        ("first", "forward", 3.0),
    )
    bob = labels_of(
        "bob", ("first", "forward", 9.0), ("second", "forward", 9.0), ("tie", "forward", 9)
    )
    one, other = annotators([*bob, *ann])
    assert (one.name, one.labels, one.skipped, one.seconds) == ("ann", 5, 1, 3.0)
    assert one.first_slot == 3 / 4
    assert one.picks_longer == 2 / 3, "answers of one length say nothing of it"
    # Both on 0, 1, 2: first-first, second-second, first-tie. Expected (2*1 + 1*1) / 9.
    assert one.against["bob"].share[:2] == (2, 3)
    assert one.against["bob"].kappa == pytest.approx((2 / 3 - 1 / 3) / (1 - 1 / 3))
    assert other.against["ann"] == one.against["bob"]
    assert (other.first_slot, other.picks_longer) == (1 / 2, 1 / 2)


def test_another_principle_is_another_question() -> None:
    (overall,) = labels_of("ann", ("first", "forward", 1.0))
    by_principle = overall.label.model_copy(update={"annotator": "bob", "principle_id": "p"})
    one, _ = annotators([overall, overall._replace(label=by_principle)])
    assert one.against == {}
    assert overall.label.id != by_principle.id


def test_everything_is_asked_once_a_person(filled: Database) -> None:
    asked: list[str] = []
    while one := labelling.next_to_label(filled, "ann", None, "round"):
        left = labelling.left_to_label(filled, "ann", None, "round")
        assert left == 6 - len(asked)
        asked.append(one.comparison.id)
        labelling.record(filled, one.comparison, "ann", None, "skip", 1.0)
    assert sorted(asked) == sorted(one.comparison.id for one in SIX)
    assert labelling.left_to_label(filled, "ann", BRIEF, "round") == 6
    assert labelling.next_to_label(filled, "bob", None, "case") is None


def test_what_fewest_have_labelled_comes_first(filled: Database) -> None:
    for one in SIX[:5]:
        labelling.record(filled, one.comparison, "ann", None, "first", 1.0)
    assert labelling.next_to_label(filled, "bob", None, "round") == SIX[5]
    labelling.record(filled, SIX[5].comparison, "carl", BRIEF, "tie", 1.0)
    assert labelling.next_to_label(filled, "bob", None, "round") == SIX[5]


def judged(db: Database, readings: Sequence[tuple[Compared, float, float]]) -> str:
    """Readings of a comparing judge by BRIEF: what it says of A, forward and backward."""
    judge = comparing("some-model")
    rows = [
        JudgementRow(
            f"{order} {id}",
            id,
            BRIEF.text_id,
            judge.id,
            order,
            Reading(state="read", value=value),
            None,
        )
        for one, *values in readings
        for id in [one.comparison.id]
        for order, value in zip(ORDERS, values, strict=True)
    ]
    with transaction(db):
        judgements.add_judge(db, judge, "{}")
        judgements.add_principles(db, [BRIEF])
        judgements.add_judgements(db, rows)
    return judge.name


def test_what_judges_are_least_sure_of_comes_before_the_rest(filled: Database) -> None:
    judged(
        filled,
        [
            (SIX[0], 0.9, 0.1),  # sure of the first
            (SIX[1], 0.4, 0.7),  # 0.35: a little for the second
            (SIX[2], 0.99, 0.6),  # a flip
        ],
    )
    order = []
    while one := labelling.next_to_label(filled, "ann", None, "round"):
        order.append(SIX.index(one))
        labelling.record(filled, one.comparison, "ann", None, "first", 1.0)
    assert order[:3] == [2, 1, 0]
    assert order[3:] == sorted(order[3:], key=lambda n: SIX[n].comparison.id)


def test_the_order_shown_is_fair_and_recorded(filled: Database) -> None:
    many = [compared("q", f"x {n}", f"y {n}").comparison for n in range(400)]
    forward = sum(labelling.shown("ann", one) == "forward" for one in many)
    assert 160 < forward < 240
    assert any(labelling.shown("bob", one) != labelling.shown("ann", one) for one in many)
    label = labelling.record(filled, SIX[0].comparison, "ann", None, "tie", 2.5, "why")
    assert stored(filled) == [label]
    assert label.shown == labelling.shown("ann", SIX[0].comparison)


def test_who_changes_their_mind_has_one_label(filled: Database) -> None:
    labelling.record(filled, SIX[0].comparison, "ann", BRIEF, "first", 1.0)
    labelling.record(filled, SIX[0].comparison, "ann", BRIEF, "second", 1.0)
    assert [label.choice for label in stored(filled)] == ["second"]


def test_human_verdicts(filled: Database) -> None:
    first, second, third = (one.comparison for one in SIX[:3])
    for name in ("ann", "bob"):
        labelling.record(filled, first, name, None, "first", 1.0)
    labelling.record(filled, first, "carl", None, "second", 1.0)
    labelling.record(filled, second, "ann", None, "skip", 1.0)
    labelling.record(filled, third, "ann", BRIEF, "second", 1.0)
    ids = [one.comparison.id for one in SIX]
    overall = labelling.human_verdicts(filled, ids)
    assert {name: one.state for name, one in overall.items()} == {first.id: "win"}
    assert labelling.human_verdicts(filled, ids, BRIEF)[third.id].state == "loss"
    assert labelling.human_verdicts(filled, ids, KIND) == {}


def test_judges_and_people(filled: Database) -> None:
    name = judged(
        filled,
        [
            (SIX[0], 0.9, 0.1),  # win
            (SIX[1], 0.1, 0.9),  # loss
            (SIX[2], 0.8, 0.8),  # flip
            (SIX[3], 0.9, 0.1),  # win
        ],
    )
    choices: list[Choice] = ["first", "second", "tie", "second", "first"]
    for one, choice in zip(SIX, choices, strict=False):
        labelling.record(filled, one.comparison, "ann", BRIEF, choice, 1.0)
    labelling.record(filled, SIX[0].comparison, "ann", None, "second", 1.0)
    overall, same = with_people(filled)
    assert (overall.judge, overall.overall, overall.all.share[:2]) == (name, True, (0, 1))
    assert (same.judge, same.overall, same.principle) == (name, False, BRIEF.text)
    # win-win, loss-loss, tie-tie, win-loss. Expected (2*1 + 1*2 + 1*1) / 16 = 5/16.
    assert same.all.share[:2] == (3, 4)
    assert same.all.kappa == pytest.approx((3 / 4 - 5 / 16) / (1 - 5 / 16))
    assert same.decided is not None
    assert same.decided.share[:2] == (2, 3)


def test_grading_judges_are_held_against_people_too(filled: Database) -> None:
    judge = following("some-model")
    comparison = SIX[0].comparison
    grades = {comparison.first: 0.9, comparison.second: 0.2}
    with transaction(filled):
        judgements.add_judge(filled, judge, "{}")
        judgements.add_principles(filled, [BRIEF])
        answers = [Answer(conversation=comparison.conversation, text=text) for text in grades]
        judgements.add_scores(
            filled,
            [
                ScoreRow(one.id, one.id, None, BRIEF.text_id, judge.id, reading, None)
                for one in answers
                for reading in [Reading(state="read", value=grades[one.text])]
            ],
        )
    labelling.record(filled, comparison, "ann", BRIEF, "first", 1.0)
    (row,) = with_people(filled)
    assert (row.judge, row.all.share[:2]) == (judge.name, (1, 1))


def test_a_ranking_becomes_labels(filled: Database) -> None:
    with transaction(filled):
        judgements.add_comparisons(filled, RING)
    found = ranking.next_to_rank(filled, "ann", None, "round")
    assert found is not None
    assert sorted(found.answers) == sorted(ANSWERS)
    made = ranking.record_ranking(filled, found, "ann", None, [["two"], ["one", "three"]], 6.0)
    assert {label.comparison_id for label in made} == {one.comparison.id for one in RING}
    choices = {label.comparison_id: label.choice for label in made}
    # one-two, two-three, three-one
    assert [choices[one.comparison.id] for one in RING] == ["second", "first", "tie"]
    assert {label.ranking_id for label in made} == {made[0].ranking_id} != {None}
    assert [label.seconds for label in made] == [2.0] * 3
    for label in made:
        (one,) = (one.comparison for one in RING if one.comparison.id == label.comparison_id)
        before = found.answers.index(one.first) < found.answers.index(one.second)
        assert label.shown == ("forward" if before else "backward")
    assert ranking.next_to_rank(filled, "ann", None, "round") is None
    assert labelling.left_to_label(filled, "ann", None, "round") == 6


def test_a_ranking_makes_the_comparisons_that_were_missing(db: Database) -> None:
    with transaction(db):
        judgements.add_comparisons(db, RING[:2])
    found = ranking.next_to_rank(db, "ann", None, "round")
    assert found is not None
    groups = [["three"], ["two"], ["one"]]
    made = ranking.record_ranking(db, found, "ann", None, groups, 1.0)
    every = labels.compared(db, [label.comparison_id for label in made])
    assert len(every) == 3
    for label in made:
        one = every[label.comparison_id].comparison
        better = one.first if label.choice == "first" else one.second
        worse = one.second if label.choice == "first" else one.first
        assert groups.index([better]) < groups.index([worse])


def test_a_ranking_can_be_skipped(db: Database) -> None:
    with transaction(db):
        judgements.add_comparisons(db, RING)
    found = ranking.next_to_rank(db, "ann", None, "round")
    assert found is not None
    ranking.record_ranking(db, found, "ann", None, [], 1.0)
    assert [label.choice for label in stored(db)] == ["skip"] * 3


class Said(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


class Terminal:
    """Runs `preceptor label` in this process, with what is typed into it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, typed: str, *words: str) -> Said:
        self._monkeypatch.setattr(sys, "argv", ["preceptor", "label", *words])
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Said(code, *self._capsys.readouterr())


@pytest.fixture
def terminal(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    monkeypatch.setenv("PRECEPTOR_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "120")
    return Terminal(monkeypatch, capsys)


def test_labels_are_typed_in(filled: Database, terminal: Terminal) -> None:
    typed = "A\nwhat\nb\no\nnot sure\nt\nn\ns\nq\n"
    done = terminal(typed, "--annotator", "ann")
    assert done.code == 0
    assert done.out.count("Not understood.") == 1
    assert "1 of 6" in done.out
    assert "question 3" in done.out
    assert "much longer 3" in done.out
    assert "5 done and kept, 1 comparisons left for ann" in done.out
    made = stored(filled)
    assert [label.chose_shown_first for label in made] == [True, False, None, None, None]
    assert [label.choice for label in made[2:]] == ["tie", "both_bad", "skip"]
    assert [label.note for label in made] == ["", "", "not sure", "", ""]
    assert "1 of 1" in terminal("a\n", "--annotator", "ann").out
    assert "Nothing is left to label" in terminal("", "--annotator", "ann").out
    assert "1 of 2" in terminal("", "--annotator", "bob", "--limit", "2").out


def test_labels_by_a_principle(filled: Database, terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("name: c\nprinciples:\n  - id: brief\n    text: The answer is brief.\n")
    words = ("--principle", "brief", "--constitution", str(file), "--limit", "1")
    done = terminal("a\n", *words)
    assert BRIEF.text in done.out
    (label,) = stored(filled)
    assert label.principle_id == BRIEF.text_id
    assert label.annotator
    assert terminal("", "--principle", "brief").code == 2
    assert terminal("", "--json").code == 2
    wrong = terminal("", "--principle", "breif", "--constitution", str(file))
    assert "Did you mean 'brief'?" in wrong.err


def test_without_a_store_it_says_what_to_do(home: Path, terminal: Terminal) -> None:
    refused = terminal("")
    assert refused.code == 1
    assert "preceptor run RECIPE" in refused.err
    assert not home.exists()


def test_rankings_are_typed_in(filled: Database, terminal: Terminal) -> None:
    with transaction(filled):
        judgements.add_comparisons(filled, RING)
    done = terminal("a b\na b b\na b d\nb a = c\n", "--rank", "--annotator", "ann")
    assert done.out.count("Not understood.") == 3
    assert "1 done and kept" in done.out
    assert "6 comparisons left for ann: preceptor label" in (
        terminal("", "--rank", "--annotator", "ann").out
    )
    assert sorted(label.choice == "tie" for label in stored(filled)) == [False, False, True]


def test_who_has_no_name_labels_by_number(
    filled: Database, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert terminal("a\n").code == 0
    (label,) = stored(filled)
    assert label.annotator == str(os.getuid())


def test_statistics(filled: Database, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nobody has labelled anything yet" in terminal("", "--stats").out
    judged(filled, [(SIX[0], 0.9, 0.1)])
    for name in ("ann", "bob"):
        labelling.record(filled, SIX[0].comparison, name, None, "first", 2.0)
    monkeypatch.setenv("COLUMNS", "80")
    shown = terminal("", "--stats").out
    assert "ann" in shown
    assert "some-model" in shown
    assert "The answer is brief.  overall       100% [21%, 100%] of 1  0.00" in shown
    assert "where both prefer one: 100% [21%, 100%] of 1, kappa 0.00" in shown
    assert max(map(len, shown.splitlines())) <= 80
    found: dict[str, Any] = json.loads(terminal("", "--stats", "--json").out)
    ann, _ = found["annotators"]
    assert (ann["name"], ann["labels"], ann["against"]["bob"]["agree"]) == ("ann", 1, 1.0)
    (judge,) = found["judges"]
    assert (judge["overall"], judge["all"]["n"]) == (True, 1)


def test_every_id_of_judging_can_be_looked_up(filled: Database, home: Path) -> None:
    name = judged(filled, [(SIX[0], 0.9, 0.1)])
    label = labelling.record(filled, SIX[0].comparison, "ann", BRIEF, "first", 2.0)
    comparison = find(home / "store.db", SIX[0].comparison.id)
    assert list(comparison.related) == ["labels", "judgements"]
    assert find(home / "store.db", label.id[:12]).table == "labels"
    assert find(home / "store.db", BRIEF.text_id).row["text"] == BRIEF.text
    assert find(home / "store.db", comparing("some-model").id).table == "judges"
    assert comparing("some-model").name == name


def test_answers_cannot_move_the_cursor(db: Database, terminal: Terminal) -> None:
    with transaction(db):
        judgements.add_comparisons(
            db, [compared("q", "\x1b[2Jcleared \x9b1m", "[bold]x[/nothing]")]
        )
    done = terminal("a\n")
    assert "\x1b" not in done.out
    assert "cleared" in done.out
    assert "[bold]x[/nothing]" in done.out


@pytest.mark.fault
def test_a_kill_keeps_what_was_answered(filled: Database, home: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "service.cli", "label", "--annotator", "ann"],
        env={**os.environ, "PRECEPTOR_HOME": str(home)},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin
        assert child.stdout
        child.stdin.write("a\nt\no\n")
        child.stdin.flush()
        for printed in child.stdout:
            if "3 of 6" in printed:
                break
        child.kill()
    assert len(stored(filled)) == 2
    assert labelling.left_to_label(filled, "ann", None, "round") == 4
