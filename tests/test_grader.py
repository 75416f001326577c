"""A judge's score as a term of a reward: what it costs when the judge cannot be asked."""

import asyncio

import pytest

from judges.constitution import Principle
from judges.judge import scoring
from judges.records import Verification
from pipelines.training.grader import Charge, Grader
from teachers.client import Endpoint
from teachers.records import Message, Prompt
from tests.scripted.running import Scripted

ASKED = (Message(role="user", content="What is 2 + 2?"),)


async def _grade(url: str, model: str, scope: list[str]) -> Verification | float | None:
    brief = Principle.model_validate({"id": "brief", "text": "Short.", "scope": {"tags": scope}})
    endpoint = Endpoint(url=url, model=model, retries=1)
    grader = Grader(Charge(judge=scoring("any"), principles=(brief,), endpoint=endpoint))
    try:
        prompt = Prompt(task="sums", question="What is 2 + 2?", verifier="none")
        return await grader.grade(prompt, ASKED, "4")
    finally:
        await grader.close()


@pytest.mark.parametrize("fault", ["400", "500", "503", "not-json", "zero-choices"])
def test_an_answer_that_was_not_graded_has_no_grade(scripted: Scripted, fault: str) -> None:
    assert asyncio.run(_grade(scripted.url, f"fault:{fault}", ["sums"])) is None


def test_a_principle_that_is_about_something_else_grades_nothing(scripted: Scripted) -> None:
    found = asyncio.run(_grade(scripted.url, "fault:500", ["poems"]))
    assert isinstance(found, Verification)
    assert found.state == "not_applicable"
