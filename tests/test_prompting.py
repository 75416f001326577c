"""Where prompts come from, and how they are put to a model."""

import itertools
import json
from pathlib import Path

import pytest

from teachers.errors import ConfigError
from teachers.prompting import files, tasks
from teachers.prompting.files import BadLine
from teachers.prompting.template import Example, Template
from teachers.records import Prompt

EASY = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}


def some(generator: str, seed: int, many: int = 50) -> list[Prompt]:
    return list(itertools.islice(tasks.generate(generator, {}, seed), many))


def test_the_same_seed_gives_the_same_prompts() -> None:
    first, again, other = some("chain_sum", 1), some("chain_sum", 1), some("chain_sum", 2)
    assert [prompt.id for prompt in first] == [prompt.id for prompt in again]
    assert not {prompt.id for prompt in first} & {prompt.id for prompt in other}


def test_questions_are_distinct_and_a_generator_that_repeats_itself_ends() -> None:
    questions = [prompt.question for prompt in tasks.generate("chain_sum", EASY, seed=1)]
    assert len(questions) == len(set(questions))
    assert 150 < len(questions) <= 10 * 10 * 2  # of a million indices


def test_a_generated_prompt_has_what_its_scorer_needs() -> None:
    prompt = next(tasks.generate("chain_sum", {}, seed=1, name="sums"))
    assert (prompt.task, prompt.verifier) == ("sums", "reasoning_gym")
    assert prompt.reference == prompt.entry["answer"]
    json.dumps(prompt.entry)


def test_an_unknown_generator_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="no generator 'chain_sums'") as unknown:
        next(tasks.generate("chain_sums", {}, seed=1))
    assert "'chain_sum'" in unknown.value.hint


def test_an_unknown_parameter_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="has no parameter 'max_term'") as unknown:
        next(tasks.generate("chain_sum", {"max_term": 3}, seed=1))
    assert "max_terms" in unknown.value.hint


@pytest.mark.parametrize("config", [{"min_terms": 5, "max_terms": 2}, {"min_terms": "many"}])
def test_a_parameter_out_of_range_is_refused(config: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="chain_sum refuses its parameters"):
        next(tasks.generate("chain_sum", config, seed=1))


# --- Files --------------------------------------------------------------------------------------


def read(path: Path, content: str | bytes, verifier: str = "number") -> list[Prompt | BadLine]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(files.read(path, "file", question="question", answer="answer", verifier=verifier))


def test_gsm8ks_format_is_taken_apart(tmp_path: Path) -> None:
    row = {
        "question": "Natalia sold clips to 48 of her friends … ",
        "answer": "In May she sold 48/2 = <<48/2=24>>24.\n24+48 = 72 clips.\n#### 72",
    }
    (prompt,) = read(tmp_path / "gsm8k.jsonl", json.dumps(row) + "\n")
    assert isinstance(prompt, Prompt)
    assert prompt.question == "Natalia sold clips to 48 of her friends …"
    assert prompt.reference == "72"
    assert prompt.entry["working"].endswith("24+48 = 72 clips.")


@pytest.mark.parametrize(("answer", "reference"), [("7", "7"), (7, "7"), (-1.5, "-1.5"), (0, "0")])
def test_an_answer_may_be_a_number(tmp_path: Path, answer: object, reference: str) -> None:
    (prompt,) = read(tmp_path / "f.jsonl", json.dumps({"question": "q", "answer": answer}))
    assert isinstance(prompt, Prompt)
    assert prompt.reference == reference
    assert prompt.entry == {}


def test_bad_lines_are_named_by_number_and_the_good_ones_go_on(tmp_path: Path) -> None:
    lines = [
        b'{"question": "1 + 1", "answer": "2"}',
        b"{not json",
        b"",
        b"[1, 2]",
        b'{"question": "1 + 2"}',
        b'{"question": "   ", "answer": "3"}',
        b'{"question": "1 + 3", "answer": null}',
        b'{"question": "caf\xe9", "answer": "4"}',
        b'{"question": ["1 + 4"], "answer": "5"}',
        b'{"question": "2 + 2", "answer": "4", "more": true}',
    ]
    found = read(tmp_path / "f.jsonl", b"\n".join(lines))
    bad = [row for row in found if isinstance(row, BadLine)]
    assert [row.question for row in found if isinstance(row, Prompt)] == ["1 + 1", "2 + 2"]
    assert [line.number for line in bad] == [2, 4, 5, 6, 7, 8, 9]
    assert str(bad[1]) == f"{tmp_path / 'f.jsonl'}:4: not a JSON object"
    assert bad[2].why == "no 'answer' in it"
    assert isinstance(found[1], BadLine), "a bad line stands where it was"


@pytest.mark.parametrize("content", ["", "\n \n\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(ConfigError, match="is empty"):
        read(tmp_path / "f.jsonl", content)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no file"):
        list(files.read(tmp_path / "no", "t", question="q", answer="a", verifier="number"))


# --- The template -------------------------------------------------------------------------------

TEMPLATE = Template(
    instruction='End with "Answer: X".',
    system="You are a teacher.",
    examples={"sums": (Example(question="1 + 1 =", answer="1 + 1 = 2\nAnswer: 2"),)},
)


def test_a_student_is_asked_plainly() -> None:
    (message,) = TEMPLATE.zero_shot(Prompt(task="sums", question="2 + 2 ="))
    assert (message.role, message.content) == ("user", '2 + 2 =\nEnd with "Answer: X".')


def test_a_teacher_is_shown_the_examples_of_the_task() -> None:
    shown = TEMPLATE.few_shot(Prompt(task="sums", question="2 + 2 ="))
    assert [message.role for message in shown] == ["system", "user", "assistant", "user"]
    assert shown[1].content == '1 + 1 =\nEnd with "Answer: X".'
    assert shown[-1:] == TEMPLATE.zero_shot(Prompt(task="sums", question="2 + 2 ="))
    other = TEMPLATE.few_shot(Prompt(task="names", question="Who?"))
    assert [message.role for message in other] == ["system", "user"]


def test_without_an_instruction_the_question_stands_alone() -> None:
    assert Template().few_shot(Prompt(task="t", question="Who?")) == (
        Template().zero_shot(Prompt(task="t", question="Who?"))
    )
    assert Template().zero_shot(Prompt(task="t", question="Who?"))[0].content == "Who?"
