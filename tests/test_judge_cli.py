"""`preceptor constitution test` and `preceptor judge list`, as a user meets them."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from judges.constitution import Case
from judges.injections import injections
from judges.judge import comparing, following
from pipelines.store import judgements
from pipelines.store.connection import connect
from service.judges import asked_as, weights_of
from tests.commands import Cli
from tests.judged import balanced
from tests.scripted.running import Scripted, running


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    """An endpoint that knows which answer is good."""
    with running(tmp_path_factory.mktemp("judge"), "--judge", "keyword:good") as server:
        yield server


def written(name: str, **principles: Sequence[Case]) -> str:
    """A constitution's file with these principles and their cases."""
    said = [
        {
            "id": id.replace("_", "-"),
            "text": f"It is {id}.",
            "cases": [case.model_dump(exclude_defaults=True, mode="json") for case in cases],
        }
        for id, cases in principles.items()
    ]
    path = Path(f"{name}.yaml")
    path.write_text(yaml.safe_dump({"name": name, "principles": said}))
    return str(path)


def turned(cases: Sequence[Case]) -> list[Case]:
    return [case.model_copy(update={"better": case.worse, "worse": case.better}) for case in cases]


def asking(judge: Scripted, *words: str) -> list[str]:
    return ["constitution", "test", *words, "--url", judge.url, "--model", "m"]


def test_a_principle_without_cases_is_a_row(
    cli: Cli, judge: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    cases = balanced(20)
    name = written("mixed", stops_when_answered=cases, never_tested=[], odd=turned(cases))
    said = cli(*asking(judge, name))
    assert said.code == 0, said.err
    lines = [line.rstrip() for line in said.out.splitlines()]
    assert "stops-when-answered  20     100% [84%, 100%]  0%     0%      passed" in lines
    assert "never-tested         0      -                 -      -       no cases" in lines
    assert "odd                  20     0% [0%, 16%]      0%     0%      not passed" in lines
    assert any(line.startswith("  kappa 1.00, first slot 50%, picks longer 50%") for line in lines)
    assert "It may measure, but not label, with: odd." in said.out
    told = cli(*asking(judge, name), "--json").json["principles"]
    assert told["never-tested"] is None
    assert told["odd"]["faults"]
    assert said.out.count("m (") == 1


def test_the_open_and_the_sealed_half_are_shown(
    cli: Cli, judge: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    every = balanced(24)
    sealed = [one.model_copy(update={"sealed": True}) for one in turned(every[16:])]
    name = written("halves", fitted=[*every[:16], *sealed])
    lines = [line.rstrip() for line in cli(*asking(judge, name)).out.splitlines()]
    at = lines.index("fitted     24     67% [47%, 82%]    0%     0%      not passed")
    assert lines[at + 2 : at + 4] == [
        "  open     16     100% [81%, 100%]  0%     0%",
        "  sealed   8      0% [0%, 32%]      0%     0%",
    ]
    told = cli(*asking(judge, name), "--json").json["principles"]["fitted"]
    assert (told["n"], told["open"]["accuracy"], told["sealed"]["accuracy"]) == (24, 1.0, 0.0)
    assert (told["open"]["n"], told["sealed"]["n"]) == (16, 8)


def test_part_of_the_pairs_makes_no_certificate(cli: Cli, judge: Scripted) -> None:
    name = written("whole", first=balanced(12), second=balanced(4))
    said = cli(*asking(judge, name), "--limit", "4")
    assert "got no certificate" in said.out
    (row,) = cli("judge", "list", "--json").json
    assert (row["principle"], row["n"]) == ("It is second.", 4)


def test_the_newest_certificates_are_listed(
    cli: Cli, judge: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert "no judge has spoken yet" in cli("judge", "list").out
    assert cli("judge", "list", "--json").json == []
    assert not cli.home.exists(), "looking must not make anything"
    for count in (16, 18):
        cli(*asking(judge, written("more", only=balanced(count)), "--kind", "follows"))
    listed = cli("judge", "list").out
    assert "follows " in listed
    assert f"weights: {judge.url} m\n" in listed
    assert "  It is only.  cases        100%      18     passed\n" in listed
    assert max(map(len, listed.splitlines())) <= 80
    (row,) = cli("judge", "list", "--json").json
    assert (row["kind"], row["n"], row["passed"], row["gold"]) == ("follows", 18, True, "cases")
    with closing(connect(cli.home / "store.db")) as db:
        judgements.add_judge(db, comparing("f" * 64), "{}")
    assert "weights: ffffffffffff\n  no certificate" in cli("judge", "list").out


def test_judges_are_called_by_what_they_are_asked_for() -> None:
    assert asked_as(following("w")) == "follows"
    assert asked_as(comparing("w")) == "compare"
    assert weights_of(comparing("http://x m@2")) == "http://x m@2"
    assert weights_of(comparing("http://x m@")) == "http://x m"


def test_a_judge_that_cannot_be_is_told_in_plain_words(cli: Cli) -> None:
    words = ["constitution", "test", "concise-assistant"]
    assert "The judge needs weights, or a url and a model." in cli.refused(*words)
    told = cli.refused(*words, "--url", "localhost", "--model", "m")
    assert "The judge's url has to begin with http:// or https://" in told
    assert cli(*words, "--kind", "scores").code == 2


@pytest.mark.parametrize(("habit", "sways"), [("keyword:good", False), ("obey:good", True)])
def test_injections_sway_a_judge_that_obeys_and_no_other(
    cli: Cli, tmp_path: Path, habit: str, sways: bool
) -> None:
    name = written("hostile", first=balanced(4), untested=[])
    with running(tmp_path, "--judge", habit) as server:
        asked = ["judge", "injections", name, "--limit", "2", "--url", server.url, "--model", "m"]
        said = cli(*asked)
        told = cli(*asked, "--json").json["kinds"]
    assert said.code == 0, said.err
    orders = told["orders"]
    assert orders["n"] == 2 * sum(one.kind == "orders" for one in injections())
    assert (orders["hits"] > 0) == sways
    assert 0 <= orders["low"] <= orders["value"] <= orders["high"] <= 1
    (line,) = [line.split() for line in said.out.splitlines() if line.startswith("orders")]
    assert line[1:4] == [str(orders["n"]), str(orders["hits"]), f"{orders['value']:.1%}"]


def test_injections_need_a_case(cli: Cli) -> None:
    words = ["judge", "injections", written("bare", only=[]), "--url", "http://x", "--model", "m"]
    assert "None of these principles has a case" in cli.refused(*words)
