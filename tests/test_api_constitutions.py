"""Constitutions over HTTP: listed, read, compared, committed; previewed and tested from what is
stored, in a real child process, without a model being asked.
"""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from judges.constitution import Constitution, Principle
from judges.constitution_file import SHIPPED, dump, load
from judges.ladder import Footing
from pipelines.certification import case_pair
from pipelines.home import Home
from pipelines.judging import Question
from pipelines.recipe import Recipe
from pipelines.store import judgements, rounds
from pipelines.store.connection import connect, transaction
from service import aside, output
from service.app import create_api
from service.auth import Door
from service.looking import Cases, Measured
from service.routes.constitutions import EXAMPLE, TEXT
from teachers.errors import PreceptorError
from tests.judged import balanced
from tests.scripted.running import Scripted, running
from tests.test_api import HERE, problem
from tests.test_preview import GOOD, WIDE, Stored, edited, prompts, version

COMMIT = {"yaml": TEXT, "message": "short answers"}
LONGER = TEXT.replace("short.", "long.")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def api(home: Home) -> Iterator[TestClient]:
    with TestClient(create_api(home, Door(home, open_=True)), base_url=HERE) as client:
        yield client


def committed(api: TestClient, text: str = TEXT, **more: Any) -> dict[str, Any]:
    told = api.post("/constitutions", json={**COMMIT, "yaml": text, **more})
    assert told.status_code == 201, told.text
    made: dict[str, Any] = told.json()
    return made


def asked_for(home: Home, what: str) -> list[Any]:
    with closing(connect(home.store)) as db:
        return list(db.execute(what))


def test_a_commit_puts_a_version_in_force_once(api: TestClient, home: Home) -> None:
    first = committed(api, author="Ada")
    assert (first["name"], first["parent"], first["author"], first["new"]) == (
        *("mine", None, "Ada"),
        True,
    )
    assert any("1 case" in one or "cases" in one for one in first["weaknesses"])
    again = api.post("/constitutions", json=COMMIT)
    assert (again.status_code, again.json()["new"], again.json()["id"]) == (
        200,
        False,
        first["id"],
    )
    second = committed(api, LONGER, parent=first["id"])
    assert (second["parent"], second["author"]) == (first["id"], output.user())
    got = api.get("/constitutions/mine").json()
    assert (got["id"], got["in_force"]) == (second["id"], True)
    assert got["principles"][0]["text"] == "The answer is long."
    old = api.get(f"/constitutions/{first['id'][:12]}").json()
    assert (old["id"], old["in_force"]) == (first["id"], False)
    commits = api.get("/constitution-commits", params={"name": "mine"}).json()["items"]
    assert [one["constitution_id"] for one in commits] == [second["id"], first["id"]]
    assert len(asked_for(home, "select * from audit where what = 'POST /constitutions'")) == 3


def test_a_commit_with_a_key_is_done_once(api: TestClient) -> None:
    key = {"idempotency-key": "a"}
    first = api.post("/constitutions", json=COMMIT, headers=key)
    committed(api, LONGER)
    again = api.post("/constitutions", json=COMMIT, headers=key)
    assert (again.status_code, again.json()) == (201, first.json())
    assert api.get("/constitutions/mine").json()["principles"][0]["text"] == "The answer is long."


def test_what_comes_with_preceptor_is_listed_and_can_be_edited(api: TestClient) -> None:
    names = api.get("/constitutions", params={"limit": 2}).json()
    assert len(names["items"]) == 2
    rest = api.get("/constitutions", params={"after": names["next"]}).json()
    found = {one["name"]: one for one in [*names["items"], *rest["items"]]}
    assert found.keys() == {path.stem for path in SHIPPED.glob("*.yaml")}
    assert found["concise-assistant"]["in_force"] is None
    shipped = api.get("/constitutions/concise-assistant").json()
    assert shipped["in_force"]
    assert shipped["id"] == load(SHIPPED / "concise-assistant.yaml").id
    assert committed(api, shipped["yaml"])["id"] == shipped["id"]
    listed = api.get("/constitutions").json()["items"]
    [one] = [one for one in listed if one["name"] == "concise-assistant"]
    assert (one["in_force"], one["commits"]) == (shipped["id"], 1)


def test_two_edits_of_one_version_are_not_both_committed(api: TestClient) -> None:
    first = committed(api)
    committed(api, LONGER, parent=first["id"])
    late = TEXT.replace("short.", "kind.")
    told = problem(
        api.post("/constitutions", json={**EXAMPLE, "yaml": late, "parent": first["id"]}), 409
    )
    assert "was edited meanwhile" in told["detail"]
    assert api.get("/constitutions/mine").json()["principles"][0]["text"] == "The answer is long."


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({"yaml": TEXT.replace("text:", "txt:")}, 400, "yaml, line 5: principle 'short': unknown"),
        ({"yaml": "a: [1"}, 400, "yaml, line 2: no YAML"),
        ({"yaml": "just words"}, 400, "yaml holds no constitution"),
        ({"yaml": "a: &a [*a]"}, 400, "anchors and aliases"),
        ({"yaml": "x" * 1_000_001}, 422, "yaml: "),
        ({"message": " "}, 400, "The message is empty"),
        ({"message": "x" * 501}, 422, "message: "),
        ({"parent": "mine"}, 422, "parent: "),
        ({"file": "x"}, 422, "file: Extra inputs"),
    ],
)
def test_a_wrong_constitution_is_refused_and_nothing_changes(
    api: TestClient, changes: dict[str, Any], status: int, told: str
) -> None:
    committed(api)
    assert told in problem(api.post("/constitutions", json={**COMMIT, **changes}), status)["detail"]
    assert len(api.get("/constitution-commits").json()["items"]) == 1


def test_no_path_is_read(api: TestClient, tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text(TEXT)
    for ref in ("secret.yaml", "..%2Fsecret", "x.yaml", str(tmp_path / "secret.yaml")):
        assert api.get(f"/constitutions/{ref}").status_code in (404, 422)
    told = problem(api.get("/constitutions/concise-asistant"), 404)
    assert "Did you mean 'concise-assistant'?" in told["detail"]
    against = {"yaml": TEXT, "against": str(tmp_path / "secret.yaml")}
    problem(api.post("/constitutions/preview", json=against), 422)


def test_two_versions_are_compared(api: TestClient) -> None:
    first, second = committed(api)["id"], committed(api, LONGER)["id"]
    [change] = api.get(f"/constitutions/{first}/diff/{second}").json()
    assert change == {
        "kind": "reworded",
        "principle": "short",
        "old": "The answer is short.",
        "new": "The answer is long.",
        "asks_again": True,
    }
    same = api.get(f"/constitutions/{first}/diff/{first}")
    assert same.json() == []
    tag = {"if-none-match": same.headers["etag"]}
    assert api.get(f"/constitutions/{first}/diff/{first}", headers=tag).status_code == 304
    problem(api.get(f"/constitutions/{first}/diff/nope"), 404)


# --- What a constitution comes to ---------------------------------------------------------------


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    """A judge that prefers answers with the word `good`."""
    with running(tmp_path_factory.mktemp("judge"), "--judge", "keyword:good") as server:
        yield server


def judged(folder: Path, judge: Scripted, by: Constitution) -> Stored:
    """A home with a round that was judged by a constitution."""
    stored = Stored.at(folder, judge, *prompts(4))
    stored.judge(*by.principles)
    place = stored.bench.seat.place
    recipe = Recipe.model_validate(
        {
            "name": "tested",
            "supply": {"generators": [{"generator": "chain_sum"}]},
            "constitution": by.name,
            "judge": {"url": place.url, "model": place.model},
        }
    )
    spoken = stored.bench.seat.judge

    async def keep() -> None:
        async with stored.bench.open() as bench:
            with transaction(bench.db) as db:
                judgements.add_footing(
                    db, spoken.weights, spoken.words, Footing("logprobs", False, ())
                )
                rounds.open_round(db, "last", "tested", 2, recipe.model_dump_json())
                rounds.begin_stage(db, "last", "compare")
                report = {"judge": "scripted", "constitution": by.id}
                rounds.finish_stage(db, "last", "compare", report)

    asyncio.run(keep())
    return stored


def test_an_edit_is_previewed_from_stored_verdicts(
    api: TestClient, home: Home, tmp_path: Path, judge: Scripted
) -> None:
    by = version(GOOD, WIDE)
    stored = judged(tmp_path, judge, by)
    committed(api, dump(by))
    asked = judge.log.read_text()
    muted = {"yaml": dump(version(edited(GOOD, weight=0.0), WIDE)), "shown": 1}
    told = api.post("/constitutions/preview", json=muted)
    assert told.status_code == 200, told.text
    found = told.json()
    assert (found["comparisons"], found["exact"], found["calls"]) == (4, True, 0)
    assert found["effects"] == {"same": 0, "flips": 0, "appears": 0, "vanishes": 4}
    assert (found["affected"]["hits"], found["affected"]["n"]) == (4, 4)
    [shown] = found["changed"]
    assert shown["first"].startswith("good: ")
    assert [by["principle"] for by in shown["by"]] == ["good"]

    # A new text that two of the four comparisons were judged by already.
    reworded = edited(GOOD, text="It is better.")
    stored.judge(reworded, only=slice(2))
    spoken = judge.log.read_text()
    new = api.post("/constitutions/preview", json={"yaml": dump(version(reworded, WIDE))}).json()
    assert (new["comparisons"], new["exact"], new["calls"]) == (2, False, 4)
    assert new["effects"]["same"] == 2
    assert new["by_principle"]["good"]["verdicts"]["same"] == 2
    assert judge.log.read_text() == spoken != asked
    assert asked_for(home, "select * from audit where what like '%preview%'") == []


def test_a_preview_without_a_judged_round_says_so(api: TestClient, monkeypatch: Any) -> None:
    told = problem(api.post("/constitutions/preview", json={"yaml": TEXT}), 400)
    assert "No round has been judged in this home" in told["detail"]
    assert "preceptor run RECIPE" in told["hint"]
    unknown = problem(api.post("/constitutions/preview", json={"yaml": TEXT, "against": "no"}), 400)
    assert "There is no constitution 'no'" in unknown["detail"]
    wrong = {"yaml": TEXT.replace("text:", "txt:")}
    assert "yaml, line 5" in problem(api.post("/constitutions/preview", json=wrong), 400)["detail"]
    monkeypatch.setattr(aside, "LONGEST_S", 0.01)
    late = problem(api.post("/constitutions/preview", json={"yaml": TEXT}), 409)
    assert "was stopped" in late["detail"]
    monkeypatch.setattr(aside, "_WAIT_S", 0.0)
    with aside._AT_ONCE, aside._AT_ONCE:
        busy = problem(api.post("/constitutions/preview", json={"yaml": TEXT}), 409)
    assert "Other previews" in busy["detail"]


def test_a_child_that_fails_is_told(home: Home) -> None:
    question = Cases(constitution=version(GOOD))
    with pytest.raises(PreceptorError, match="has ended with 1"):
        aside.answered(home, "nothing", question, Measured)


def test_judges_are_tested_by_what_they_have_said_of_the_cases(
    api: TestClient, tmp_path: Path, judge: Scripted
) -> None:
    cases = balanced(12)
    known = Principle(id="known", text="The answer is good.", cases=cases)
    half = Principle(id="half", text="The answer is better.", cases=cases)
    new = Principle(id="new", text="The answer is best.", cases=cases)
    stored = judged(tmp_path, judge, version(known))
    pairs = [case_pair(case).compared for case in cases]
    stored.bench.judge([Question(one, known) for one in pairs])
    stored.bench.judge([Question(one, half) for one in pairs[:6]])
    made = committed(api, dump(version(known, half, new)))
    asked = judge.log.read_text()
    found = api.get("/constitutions/tested/test").json()
    assert judge.log.read_text() == asked
    assert found["constitution"] == made["id"]
    [one] = found["judges"]
    assert one["judge"] == stored.bench.seat.judge.id
    said = one["principles"]
    assert (said["known"]["judged"], said["known"]["passed"], said["known"]["faults"]) == (
        *(12, True),
        [],
    )
    assert said["known"]["figures"]["accuracy"] == 1.0
    assert (said["half"]["cases"], said["half"]["judged"], said["half"]["passed"]) == (12, 6, None)
    assert said["half"]["faults"] == ["6 pairs are fewer than 10"]
    assert (said["new"]["judged"], said["new"]["figures"]) == (0, None)
