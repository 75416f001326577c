"""What an endpoint can do, found out against scripted ones that can do less and less."""

import asyncio
from pathlib import Path

import pytest

from judges.judge import Judge, Rung, comparing, following
from judges.ladder import Footing, climb
from judges.verdict_call import verdict_call
from pipelines.recipe import JudgeSection
from pipelines.seat import Seat, seated
from teachers.client import Client, Endpoint
from teachers.errors import EndpointError
from tests.judged import PRINCIPLE, Bench, questions
from tests.scripted.running import running


def tried(url: str, judge: Judge, model: str = "judge") -> Footing:
    async def run() -> Footing:
        async with Client(Endpoint(url=url, model=model, retries=0)) as client:
            return await climb(client, judge)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("flags", "rung", "notes"),
    [
        ((), "logprobs", []),
        (("--judge-outside", "0.5"), "logprobs", []),
        (("--no-logprobs",), "choice", [("logprobs", "logprobs is not supported")]),
        (("--letters-split",), "choice", [("logprobs", "'A' is not a single token")]),
        (
            ("--no-choice",),
            "json_schema",
            [
                ("logprobs", "structured_outputs is not supported"),
                ("choice", "structured_outputs is not supported"),
            ],
        ),
        (
            ("--no-choice", "--no-schema"),
            "text",
            [
                ("logprobs", "structured_outputs is not supported"),
                ("choice", "structured_outputs is not supported"),
                ("json_schema", "response_format is not supported"),
            ],
        ),
    ],
)
def test_the_best_rung_that_holds_is_found(
    tmp_path: Path, flags: tuple[str, ...], rung: Rung, notes: list[tuple[str, str]]
) -> None:
    with running(tmp_path, "--judge", "first", *flags) as server:
        footing = tried(server.url, comparing("w"))
    assert (footing.rung, footing.thinks) == (rung, False)
    for note, (missed, why) in zip(footing.notes, notes, strict=True):
        assert note.startswith(f"{missed}: ")
        assert why in note


def test_an_endpoint_that_accepts_a_form_and_ignores_it_is_found_out(tmp_path: Path) -> None:
    with running(tmp_path, "--judge", "first", "--ignores-form", "--no-logprobs") as server:
        footing = tried(server.url, comparing("w"))
        assert footing.rung == "text"
        assert "a reply held to 'B' was 'Answer: A'" in footing.notes[1]


def test_a_model_that_thinks_gets_room_for_it_and_no_constraint(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        footing = tried(server.url, comparing("w"), "fault:think-tags")
    assert (footing.rung, footing.thinks) == ("text", True)
    judge = comparing("w").model_copy(update={"rung": footing.rung, "thinks": True})
    asked = verdict_call(judge, ())
    assert asked.output is None
    assert asked.sampling.max_tokens > 1000


@pytest.mark.parametrize(
    ("words", "flags", "rung", "asked"),
    [
        (20, (), "text", 1),
        (200, (), "text", 2),
        # So long that a verdict would be cut as well; or there is no room to think in.
        (3000, (), "logprobs", 3),
        (200, ("--most-tokens", "1024"), "logprobs", 3),
    ],
)
def test_thinking_that_the_prompt_opens_is_known_by_its_end(
    tmp_path: Path, words: int, flags: tuple[str, ...], rung: Rung, asked: int
) -> None:
    with running(tmp_path, "--judge", "first", "--thinks", str(words), *flags) as server:
        footing = tried(server.url, comparing("w"))
        assert len(server.events("arrived")) == asked
    assert (footing.rung, footing.thinks) == (rung, rung == "text")


@pytest.mark.parametrize("judge", [comparing("w"), following("w")], ids=["letters", "yes or no"])
def test_a_rung_is_good_for_verdicts(tmp_path: Path, judge: Judge) -> None:
    """What was found is what judging then works with, rung by rung."""
    for number, flags in enumerate([(), ("--no-logprobs",), ("--no-choice",)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        with running(folder, "--judge", "keyword:good", *flags) as server:
            place = JudgeSection(url=server.url, model="judge")
            rung = tried(server.url, judge).rung
            bench = Bench(folder, Seat(judge.model_copy(update={"rung": rung}), place))
            found = bench.judge(questions(4, PRINCIPLE))
        assert [one.state for one in found] == ["win"] * 4, rung


def test_an_endpoint_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    with running(tmp_path, "--judge", "first") as server, pytest.raises(EndpointError):
        tried(server.url, comparing("w"), model="fault:503")


def test_an_endpoint_is_tried_once(tmp_path: Path) -> None:
    with running(tmp_path, "--judge", "first", "--no-logprobs") as server:
        section = JudgeSection(url=server.url, model="judge")
        bench = Bench(tmp_path, Seat(comparing("w"), section))

        async def sit() -> Seat:
            async with bench.open() as workbench:
                return await seated(workbench, section)

        seat = asyncio.run(sit())
        assert seat.judge.rung == "choice"
        assert seat.judge.weights == f"{server.url} judge@"
        asked = len(server.events("arrived"))
        assert asyncio.run(sit()) == seat
        assert len(server.events("arrived")) == asked
