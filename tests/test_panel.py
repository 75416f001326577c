"""Several judges as one, their families, and the warning about kin."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from judges.constitution import Principle
from judges.family import marks_of_config, marks_of_source, named
from judges.judge import comparing
from judges.panel import settle
from judges.records import Comparison, Judgement
from pipelines.home import Home
from pipelines.judging import Question
from pipelines.kinship import family, warn_of_kin
from pipelines.panel import paneled
from pipelines.recipe import Place
from pipelines.seat import Seat
from pipelines.source import identity
from pipelines.store.connection import connect
from pipelines.store.judgements import Compared
from pipelines.workbench import Workbench
from teachers.errors import ConfigError, EndpointError
from teachers.progress import Silent
from teachers.records import Message
from tests.hollow import hollow_model
from tests.places import Heard
from tests.scripted.running import Scripted, running

WIN, LOSS = Judgement(state="win", p=0.9), Judgement(state="loss", p=0.2)
FLIP, LOST = Judgement(state="flip", p=0.7), Judgement(state="error")
WARM = Principle(id="warm", text="The answer is warm.")


def test_a_panel_is_the_mean_of_its_judges() -> None:
    found = settle([WIN, WIN, LOSS])
    assert found.judgement.state == "win"
    assert found.judgement.p == pytest.approx((0.9 + 0.9 + 0.2) / 3)
    assert (found.decided, found.spoke, found.seats) == (3, 3, 3)
    assert found.disagreement == pytest.approx(0.3300, abs=1e-4)
    assert found.dissent == pytest.approx(1 / 3)


def test_a_flip_is_in_the_mean_as_a_half_and_decides_nothing() -> None:
    found = settle([WIN, WIN, FLIP])
    assert found.judgement.p == pytest.approx((0.9 + 0.9 + 0.5) / 3)
    assert (found.decided, found.spoke) == (2, 3)


def test_without_a_quorum_a_panel_abstains() -> None:
    found = settle([WIN, FLIP, LOST])
    assert found.judgement == Judgement(state="abstain")
    assert (found.decided, found.spoke, found.dissent) == (1, 2, None)
    assert settle([WIN, FLIP, LOST], quorum=1).judgement.state == "win"
    assert settle([WIN, LOST]).judgement.state == "abstain"
    assert settle([LOST, LOST], quorum=0).judgement.state == "abstain"


def test_judges_of_equal_strength_on_both_sides_are_a_tie() -> None:
    found = settle([Judgement(state="win", p=0.75), Judgement(state="loss", p=0.25)])
    assert found.judgement == Judgement(state="tie", p=0.5)
    assert found.disagreement == 0.25
    assert found.dissent is None


def test_models_of_one_family_share_a_mark() -> None:
    assert named("Qwen/Qwen3-0.6B") == named("qwen2.5-7b-instruct") == "qwen"
    assert named("SmolLM2-135M-Instruct") != named("gpt-4o")
    base = {"model_type": "llama", "hidden_size": 576}
    tuned = base | {"_name_or_path": "/some/where/deep"}
    assert marks_of_config(base) == marks_of_config(tuned) == {"llama 576"}
    assert "qwen" in marks_of_config({"_name_or_path": "Qwen/Qwen3-0.6B"})
    assert not marks_of_config(base) & marks_of_config({**base, "hidden_size": 960})


@pytest.mark.parametrize(
    ("source", "marks"),
    [
        ("packaged:SmolLM2-135M-Instruct", {"smollm"}),
        ("Qwen/Qwen3-0.6B", {"qwen"}),
        ("./Qwen3-0.6B", set()),
        ("~/Qwen3-0.6B", set()),
        ("/models/Qwen3-0.6B", set()),
        ("models/mine/Qwen3-0.6B", set()),
        ("Qwen3-0.6B", set()),
    ],
)
def test_a_name_tells_the_family_where_it_is_a_models_own(source: str, marks: set[str]) -> None:
    assert marks_of_source(source) == marks


def test_a_family_is_shape_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Qwen").mkdir()
    hollow_model(tmp_path / "Qwen" / "Qwen3-tiny")

    async def of(place: Place) -> frozenset[str]:
        async with Workbench(Home(tmp_path / "home"), Silent()) as bench:
            return family(bench, place)

    assert asyncio.run(of(Place(weights="Qwen/Qwen3-tiny"))) == {"llama 64", "qwen"}
    assert asyncio.run(of(Place(url="http://127.0.0.1:1", model="qwen2.5"))) == {"qwen"}


@contextmanager
def judges(folder: Path, *habits: str) -> Iterator[list[Scripted]]:
    """A scripted judge of each habit."""
    with ExitStack() as stack:
        servers = []
        for number, habit in enumerate(habits):
            own = folder / f"judge{number}"
            own.mkdir()
            servers.append(stack.enter_context(running(own, "--judge", habit)))
        yield servers


def seat_of(url: str, model: str = "judge") -> Seat:
    place = Place(url=url, model=model, concurrency=4)
    return Seat(comparing(f"{url} {model}@"), place)


def questions(many: int = 3) -> list[Question]:
    return [
        Question(
            Compared(
                Comparison(
                    conversation=(Message(role="user", content=f"Question {number}"),),
                    first="A long and winding answer that takes its time",
                    second="A short one",
                ),
                "round",
            ),
            WARM,
        )
        for number in range(many)
    ]


def states(home: Path, seats: Sequence[Seat], progress: Silent | None = None) -> list[str]:
    async def panel() -> list[str]:
        async with Workbench(Home(home), progress or Silent()) as bench:
            found = await paneled(bench, seats, questions(), "panel")
            return [one.judgement.state for one in found]

    return asyncio.run(panel())


def test_a_panel_asks_each_judge_once_and_stores_how_far_they_disagree(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with judges(tmp_path, "longer", "shorter", "shorter") as servers:
        seats = [seat_of(server.url) for server in servers]
        assert states(home, seats) == ["loss"] * 3
        assert states(home, seats[:2]) == ["tie"] * 3
        assert [len(server.events("answered")) for server in servers] == [6, 6, 6]
    with closing(connect(home / "store.db")) as db:
        rows = list(
            db.execute(
                "select decided, state, round(p, 2), round(disagreement, 2), round(dissent, 2)"
                " from panel_judgements group by judges"
            )
        )
    assert sorted(rows) == [(2, "tie", 0.5, 0.45, None), (3, "loss", 0.35, 0.42, 0.33)]


def test_a_judge_that_is_away_leaves_its_seat_empty(tmp_path: Path) -> None:
    heard = Heard()
    with judges(tmp_path, "shorter", "shorter") as servers:
        seats = [seat_of(server.url) for server in servers]
        locked = seat_of(servers[0].url, "fault:401")
        assert states(tmp_path / "home", [*seats, locked], heard) == ["loss"] * 3
        assert any("has no say" in line for line in heard.said)
        assert states(tmp_path / "home", [seats[0], locked]) == ["abstain"] * 3
        with pytest.raises(EndpointError):
            states(tmp_path / "home", [locked])


def test_a_quorum_larger_than_the_panel_is_refused(tmp_path: Path) -> None:
    async def panel() -> None:
        async with Workbench(Home(tmp_path), Silent()) as bench:
            await paneled(bench, [seat_of("http://127.0.0.1:1")], [], "panel", quorum=2)

    with pytest.raises(ConfigError, match="quorum"):
        asyncio.run(panel())


def test_a_judge_of_the_same_weights_or_family_is_named(tmp_path: Path) -> None:
    one, other = (hollow_model(tmp_path / name) for name in ("one", "other"))
    model = Place(weights=str(one))

    async def warn() -> list[str]:
        async with Workbench(Home(tmp_path / "home"), Silent()) as bench:

            def local(folder: Path) -> Seat:
                place = Place(weights=str(folder))
                return Seat(comparing(identity(place, None, bench.home, bench.progress)), place)

            seats = [local(one), local(other), seat_of("http://127.0.0.1:1")]
            return warn_of_kin(bench, seats, model)

    same, kin = asyncio.run(warn())
    assert "the weights are the same" in same
    assert "both are llama 64" in kin
