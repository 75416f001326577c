"""The split that never moves, exact duplicates, and held-out items found in training text."""

import itertools

import pytest

from pipelines.hygiene.decontaminate import HeldOut
from pipelines.hygiene.dedup import Seen
from pipelines.hygiene.split import side
from pipelines.hygiene.text import normal, words
from teachers.prompting import tasks

QUESTIONS = [f"What is {n} times {n + 1}?" for n in range(4000)]


def test_normal_form_and_words() -> None:
    assert normal("  \N{FULLWIDTH DIGIT ONE}2  Äpfel\n") == "12 äpfel"
    assert words("3.5 + 4=7,5 don't") == ["3.5", "+", "4", "=", "7", "5", "don", "t"]


# --- The split ----------------------------------------------------------------------------------


def test_the_split_is_fixed_for_ever() -> None:
    # Written down once: another hash would put old held-out items into training.
    held_out = [n for n, question in enumerate(QUESTIONS[:20]) if side(question, 0.3) == "held_out"]
    assert held_out == [4, 14, 16, 18]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_its_share_is_about_right(share: float) -> None:
    held_out = sum(side(question, share) == "held_out" for question in QUESTIONS)
    assert held_out / len(QUESTIONS) == pytest.approx(share, abs=0.03)


def test_the_same_question_in_other_dress_is_on_the_same_side() -> None:
    for question in QUESTIONS[:500]:
        assert side(f"  {question.upper()}\n", 0.3) == side(question, 0.3)


def test_a_larger_share_moves_nothing_to_training() -> None:
    for question in QUESTIONS[:1000]:
        sides = [side(question, share / 20) for share in range(1, 20)]
        assert sorted(sides, key=["train", "held_out"].index) == sides


# --- Duplicates ---------------------------------------------------------------------------------


def test_duplicates_up_to_case_and_spaces() -> None:
    seen = Seen()
    assert seen.add("What is 1 + 1?", "Answer: 2")
    assert not seen.add("what is  1 + 1?\n", "ANSWER: 2")
    assert seen.add("What is 1 + 1?", "Answer: 3")
    assert seen.add("What is 1 + 1? Answer: 2")
    assert seen.add("half a \ud83d pair")


# --- Decontamination ----------------------------------------------------------------------------

PROBLEMS = [
    "Maria bakes 12 trays of rolls every morning, and each tray holds 18 rolls. She sells 170 of "
    "them before noon and gives the rest to the shelter. How many rolls does the shelter get?",
    "A train leaves Porto at 9 in the morning and travels 84 kilometres an hour. A second train "
    "leaves two hours later at 112 kilometres an hour. After how many hours does it catch up?",
    "Tom has three times as many marbles as Ella. Together they have 64 marbles. How many marbles "
    "must Tom give to Ella so that both have the same number?",
    "A garden is 25 metres long and 16 metres wide. A path 2 metres wide runs around it on the "
    "outside. What is the area of the path in square metres?",
    "Nora reads 24 pages a day on weekdays and 40 pages a day at weekends. Her book has 760 pages. "
    "How many whole weeks does she need to finish it?",
    "Sam buys 5 notebooks at 3 dollars each and 4 pens at 2 dollars each. He pays with a 50 dollar "
    "note. How much change does he get?",
    "A farmer has 36 hens. Each hen lays 5 eggs a week. He sells the eggs by the dozen for 4 "
    "dollars. How much does he earn in a week?",
    "Lena runs 6 kilometres on Monday and 2 kilometres more on each following day. How many "
    "kilometres has she run by Friday evening?",
]
OTHERS = [
    "Maria sells 45 rolls on Monday and twice as many on Tuesday. How many rolls does she sell?",
    "A bus leaves Lisbon at 8 in the morning and travels 70 kilometres an hour. How far is it from "
    "Lisbon at noon?",
    "Ella has 18 marbles and Tom has half as many. How many marbles do they have together?",
    "A room is 5 metres long and 4 metres wide. How many square metres of carpet does it need?",
    "Nora reads 30 pages a day. Her book has 450 pages. How many days does she need to finish it?",
    "Sam buys 7 pencils at 1 dollar each and pays with a 10 dollar note. How much change does he "
    "get?",
    "A farmer has 20 cows. Each cow gives 25 litres of milk a day. How much milk is that a week?",
    "Lena swims 40 lengths of a pool that is 25 metres long. How many metres does she swim?",
]
HELD_OUT = HeldOut((str(number), text) for number, text in enumerate(PROBLEMS))


@pytest.mark.parametrize("number", range(len(PROBLEMS)))
def test_a_held_out_problem_is_found(number: int) -> None:
    problem = PROBLEMS[number]
    changed = problem.replace("How many", "how many").replace("18", "19").replace("64", "84")
    for text in (
        problem,
        problem.upper(),
        problem.replace(" ", "\n"),
        f"Here is an exercise that I like. {problem} Let me think about it.",
        changed.replace("25", "27").replace("24", "26").replace(" 5 ", " 6 "),
    ):
        hit = HELD_OUT.find("What is 1 + 1?", text)
        assert hit is not None
        assert hit.item_id == str(number)


@pytest.mark.parametrize("other", OTHERS)
def test_a_different_problem_is_not(other: str) -> None:
    assert HELD_OUT.find(other) is None


def test_an_item_too_short_for_n_grams_is_found_when_it_is_the_text() -> None:
    held_out = HeldOut([("short", "What is 17 + 25?")])
    assert held_out.find("what  is 17 + 25") is not None
    assert held_out.find("What is 17 + 26?") is None
    assert held_out.find("What is 17 - 25?") is None


COLOURS = ["red", "green", "blue", "white"]


def test_items_of_the_same_words_in_another_order_are_told_apart() -> None:
    orders = [" ".join(order) for order in itertools.permutations(COLOURS)]
    held_out = HeldOut((order, order) for order in orders[:20])
    assert held_out.find(orders[3]) is not None
    assert held_out.find(orders[23]) is None


def test_nothing_held_out_finds_nothing() -> None:
    assert HeldOut([]).find("anything", "") is None
    assert HeldOut([("empty", "")]).find("") is None


@pytest.mark.parametrize("generator", ["chain_sum", "needle_haystack"])
def test_questions_of_one_generator_are_not_taken_for_each_other(generator: str) -> None:
    config = {
        "chain_sum": {},
        "needle_haystack": {"min_num_statements": 3, "max_num_statements": 3},
    }
    made = [
        p.question for p in itertools.islice(tasks.generate(generator, config[generator], 7), 550)
    ]
    held_out, training = made[:150], made[150:]
    index = HeldOut((str(number), question) for number, question in enumerate(held_out))
    assert [question for question in training if index.find(question)] == []
    assert [question for question in held_out if not index.find(question)] == []


def test_a_few_hundred_questions_of_a_common_frame_do_not_hide_an_item() -> None:
    frame = "State the final answer to the following arithmetic problem: {} + {} - {} + {} ="
    items = [(str(n), frame.format(n, n + 3, 2 * n, n + 7)) for n in range(100, 400)]
    held_out = HeldOut(items)
    hit = held_out.find("Consider this.", f"I was asked: {items[50][1]} and said 260.")
    assert hit is not None
    assert hit.item_id == items[50][0]
