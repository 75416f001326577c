"""The API over HTTP: what it lists, changes and refuses. Real store; the queue has no worker."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from pipelines.home import Home
from pipelines.store import calls, checkpoints, rounds, runs, tokens
from pipelines.store.connection import connect, transaction
from pipelines.store.tokens import Role
from service import auth
from service.app import create_api
from service.auth import Door
from service.routes.rows import KINDS
from teachers.records import Prompt
from tests.commands import Cli
from tests.served import make_home

HERE = "http://127.0.0.1"
SUMS = {"name": "sums", "supply": {"generators": [{"generator": "chain_sum", "held_out": 100}]}}
RUN = {"recipes": [SUMS], "limits": {"rounds": 2}}
PROMPTS = [
    Prompt(task="sums" if n % 2 else "words", question=f'Say "{n}" OR not: plum{n % 3}?')
    for n in range(10)
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = make_home(tmp_path)
    monkeypatch.setenv("PRECEPTOR_HOME", str(made.root))
    with closing(connect(made.store)) as db, transaction(db):
        calls.add_prompts(db, "round", [(one, "train", "made up") for one in PROMPTS])
    return made


@pytest.fixture
def api(home: Home) -> Iterator[TestClient]:
    with TestClient(create_api(home, Door(home, open_=True)), base_url=HERE) as client:
        yield client


def problem(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = response.json()
    assert told["status"] == status
    assert told["title"]
    assert told["detail"]
    return told


# --- What is stored -----------------------------------------------------------------------------


def test_a_list_has_pages_and_nothing_that_comes_meanwhile_moves_them(
    api: TestClient, home: Home
) -> None:
    first = api.get("/prompts", params={"limit": 4}).json()
    late = Prompt(task="late", question="Late?")
    with closing(connect(home.store)) as db, transaction(db):
        calls.add_prompts(db, "round", [(late, "train", "made up")])
    seen, page = first["items"], first
    while page["next"]:
        page = api.get("/prompts", params={"limit": 4, "after": page["next"]}).json()
        seen += page["items"]
    assert [one["id"] for one in seen] == [one.id for one in reversed(PROMPTS)]
    assert api.get("/prompts", params={"limit": 1}).json()["items"][0]["id"] == late.id


def test_a_list_is_filtered_and_searched(api: TestClient) -> None:
    def found(**asked: Any) -> list[str]:
        return [one["question"] for one in api.get("/prompts", params=asked).json()["items"]]

    assert len(found(task="sums")) == 5
    assert len(found(task="sums", split="held_out")) == 0
    assert found(q="plum1 say") == [PROMPTS[n].question for n in (7, 4, 1)]
    assert found(q="plum1", task="words") == [PROMPTS[4].question]
    # No operators: each is a word like another.
    assert found(q='plum1 OR "') == [PROMPTS[n].question for n in (7, 4, 1)]
    assert found(q="plum1 NOT plum2") == []
    assert found(q="plum*") == []
    assert found(q="plum1\0say", task="words") == [PROMPTS[4].question]


def test_a_search_has_pages_too(api: TestClient) -> None:
    first = api.get("/prompts", params={"q": "say", "limit": 7}).json()
    second = api.get("/prompts", params={"q": "say", "limit": 7, "after": first["next"]}).json()
    both = [one["id"] for one in [*first["items"], *second["items"]]]
    assert both == [one.id for one in reversed(PROMPTS)]
    assert second["next"] is None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.table)
def test_every_kind_is_listed_and_an_unknown_row_is_a_problem(api: TestClient, kind: Any) -> None:
    path = "/" + kind.table.replace("_", "-")
    page = api.get(path)
    assert page.status_code == 200, page.text
    if kind.listed_only:
        return
    for row in page.json()["items"]:
        assert api.get(f"{path}/{row['id']}").json() == row
    assert "There is no row 'nope'" in problem(api.get(f"{path}/nope"), 404)["detail"]


def test_what_did_not_change_is_not_sent_again(api: TestClient, home: Home) -> None:
    first = api.get("/rounds")
    assert first.json()["items"][0]["recipe"] == {}
    tag = first.headers["etag"]
    again = api.get("/rounds", headers={"if-none-match": f'"other", W/{tag}'})
    assert (again.status_code, again.content) == (304, b"")
    with closing(connect(home.store)) as db, transaction(db):
        rounds.close_round(db, "round", "done")
    assert api.get("/rounds", headers={"if-none-match": tag}).status_code == 200


def test_the_store_is_asked_in_sql(api: TestClient) -> None:
    asked = {"sql": "select task, count(*) n from prompts where task = :task group by 1"}
    said = api.post("/query", json={**asked, "parameters": {"task": "sums"}})
    assert said.json() == {"columns": ["task", "n"], "rows": [["sums", 5]], "truncated": False}
    odd = api.post("/query", json={"sql": "select 9e999, x'00ff', null"}).json()
    assert odd["rows"] == [["inf", "00ff", None]]
    found = "select count(*) from prompts where rowid in"
    found += " (select rowid from prompts_text where prompts_text match 'plum1')"
    assert api.post("/query", json={"sql": found}).json()["rows"] == [[3]]
    big = {"sql": "select :a", "parameters": {"a": 10**30}}
    problem(api.post("/query", json=big), 400)
    told = problem(api.post("/query", json={"sql": "delete from prompts"}), 400)
    assert "Only SELECT" in told["detail"]


# --- Runs ---------------------------------------------------------------------------------------


def test_a_run_is_queued_looked_at_and_steered(api: TestClient) -> None:
    made = api.post("/runs", json=RUN)
    assert made.status_code == 201, made.text
    run = made.json()
    assert (run["recipes"], run["state"], run["limits"]) == (["sums"], "queued", {"rounds": 2})
    assert api.get("/runs").json() == [run]
    name = run["id"][:10]
    for wish, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        assert api.post(f"/runs/{name}/wishes", json={"wish": wish}).json()["state"] == state
    ended = problem(api.post(f"/runs/{name}/wishes", json={"wish": "pause"}), 409)
    assert "cancelled already" in ended["detail"]
    problem(api.post("/runs/nope/wishes", json={"wish": "pause"}), 404)
    problem(api.get("/runs/nope"), 404)


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({"recipes": [{**SUMS, "teachr": {}}]}, 400, "recipes[0] is not a valid recipe"),
        ({"recipes": [SUMS, SUMS]}, 400, "two recipes are called 'sums'"),
        ({"recipes": [{**SUMS, "gate": {"min_items": 500}}]}, 400, "gate.min_items: 500 are"),
        ({"recipes": [{**SUMS, "engine": {"command": ["sh"]}}]}, 400, "engine.command starts"),
        (
            {
                "recipes": [
                    {
                        **SUMS,
                        "teacher": {"url": "http://x", "model": "m", "api_key_env": "HOME"},
                    }
                ]
            },
            400,
            "api_key_env sends a key",
        ),
        ({"recipes": [{**SUMS, "watched": [{"name": "w", "verifier": "os:stat"}]}]}, 400, ""),
        ({"recipes": [{**SUMS, "student": {"weights": "~nobody-here/x"}}]}, 400, "no model"),
        ({"recipes": [{**SUMS, "student": {"weights": "x" * 5000}}]}, 400, "no model"),
        ({"recipes": []}, 422, "recipes: "),
        ({"limits": {"round": 1}}, 422, "limits.round: Extra inputs"),
        ({"priority": 10**9}, 422, "priority: "),
    ],
)
def test_a_run_that_cannot_be_is_refused_and_not_queued(
    api: TestClient, changes: dict[str, Any], status: int, told: str
) -> None:
    assert told in problem(api.post("/runs", json={**RUN, **changes}), status)["detail"]
    assert api.get("/runs").json() == []


def test_what_is_asked_twice_with_one_key_is_done_once(api: TestClient, home: Home) -> None:
    with closing(connect(home.store)) as db, transaction(db):
        checkpoints.move_alias(db, "champion", "two", "test")
        checkpoints.move_alias(db, "champion", "one", "test")
    key = {"idempotency-key": "a"}
    first = api.post("/aliases/champion/rollback", headers=key)
    again = api.post("/aliases/champion/rollback", headers=key)
    assert first.json()["checkpoint_id"] == "two"
    assert again.json() == first.json()
    other = api.post("/runs", json=RUN, headers=key)
    assert "was used for another request" in problem(other, 422)["detail"]
    problem(api.post("/runs", json=RUN, headers={"idempotency-key": "k" * 300}), 400)
    once_more = api.post("/aliases/champion/rollback", headers={"idempotency-key": "b"})
    assert once_more.json()["checkpoint_id"] == "one"


# --- Aliases ------------------------------------------------------------------------------------


def test_the_champion_is_moved_and_moved_back(api: TestClient) -> None:
    moved = api.put("/aliases/champion", json={"checkpoint": "two", "why": "a trial"})
    assert (moved.json()["checkpoint_id"], moved.json()["why"]) == ("two", "a trial")
    assert api.get("/aliases").json() == [moved.json()]
    problem(api.put("/aliases/champion", json={"checkpoint": "nope"}), 404)
    assert api.post("/aliases/champion/rollback").json()["checkpoint_id"] == "one"
    assert api.post("/aliases/champion/rollback").json()["checkpoint_id"] is None
    problem(api.post("/aliases/champion/rollback"), 409)


# --- Events -------------------------------------------------------------------------------------


def events(api: TestClient, **asked: Any) -> list[tuple[int, str, dict[str, Any]]]:
    text = api.get("/events", params={"once": True, **asked}).text
    found = []
    for block in filter(None, text.split("\n\n")):
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        found.append((int(lines["id"]), lines["event"], json.loads(lines["data"])))
    return found


def test_what_happens_is_told_in_order_and_goes_on_where_it_was(
    api: TestClient, home: Home
) -> None:
    before = events(api, after=0)
    assert [(kind, said["what"]) for _, kind, said in before] == [
        ("round", "running"),
        ("checkpoint", "trained"),
        ("checkpoint", "trained"),
        ("alias", "champion"),
    ]
    api.post("/runs", json=RUN)
    with closing(connect(home.store)) as db, transaction(db):
        rounds.begin_stage(db, "round", "supply")
        rounds.begin_stage(db, "round", "supply")
        rounds.finish_stage(db, "round", "supply", {})
        rounds.open_round(db, "round", "r", 1, "{}")
        rounds.close_round(db, "round", "done")
        runs.take(db)
    after = events(api, after=before[-1][0])
    assert [(kind, said["what"]) for _, kind, said in after] == [
        ("run", "queued"),
        ("stage", "supply running"),
        ("stage", "supply done"),
        ("round", "done"),
        ("run", "running"),
    ]
    assert events(api) == [], "from now on"
    assert events(api, after=after[-2][0]) == after[-1:]


# --- Who may ask, and what is said --------------------------------------------------------------


def routes(api: TestClient) -> list[tuple[str, str]]:
    found: Any = api.app
    return [
        (method, re.sub(r"\{\w+\}", "x", route.path))
        for route in found.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    ]


@pytest.fixture
def closed(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """The same where a token is needed."""
    monkeypatch.setattr(auth, "REFRESH_S", 0.0)
    with TestClient(create_api(home, Door(home, "secret")), base_url=HERE) as client:
        yield client


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def test_no_route_answers_without_a_token(closed: TestClient) -> None:
    assert len(routes(closed)) > 30
    for method, path in routes(closed):
        for given in (None, "Bearer wrong", "Bearer ", "secret", "Basic secret"):
            headers = {"authorization": given} if given else {}
            told = problem(closed.request(method, path, headers=headers), 401)
            assert "secret" not in told["detail"]
    assert closed.get("/runs", headers=bearer("secret")).json() == []
    assert closed.get("/runs", headers={"authorization": "bearer secret"}).status_code == 200


def test_every_route_that_changes_something_needs_more_than_reading(
    closed: TestClient, home: Home
) -> None:
    secrets = {role: token(home, role) for role in tokens.ROLES}
    for method, path in routes(closed):
        if method == "GET" or path in ("/query", "/constitutions/preview"):
            continue
        told = problem(closed.request(method, path, headers=bearer(secrets["read"])), 403)
        assert "the token has 'read'" in told["detail"]
    moved = {"checkpoint": "two"}
    problem(closed.put("/aliases/champion", json=moved, headers=bearer(secrets["run"])), 403)
    assert closed.post("/runs", json=RUN, headers=bearer(secrets["run"])).status_code == 201
    done = closed.put("/aliases/champion", json=moved, headers=bearer(secrets["admin"]))
    assert done.status_code == 200
    assert closed.post("/query", json={"sql": "select 1"}, headers=bearer(secrets["read"])).json()
    audit = closed.post(
        "/query", json={"sql": "select who, what from audit"}, headers=bearer(secrets["read"])
    )
    assert [(who.split()[0], what) for who, what in audit.json()["rows"]] == [
        ("run", "POST /runs"),
        ("admin", "PUT /aliases/champion"),
    ]


def token(home: Home, role: Role) -> str:
    with closing(connect(home.store)) as db, transaction(db):
        return tokens.add(db, role, role)


def test_an_idempotency_key_opens_no_door(closed: TestClient, home: Home) -> None:
    key = {"idempotency-key": "k"}
    mine = bearer(token(home, "run"))
    first = closed.post("/runs", json=RUN, headers={**key, **mine})
    assert first.status_code == 201
    assert closed.post("/runs", json=RUN, headers={**key, **mine}).json() == first.json()
    problem(closed.post("/runs", json=RUN, headers=key), 401)
    reads = bearer(token(home, "read"))
    problem(closed.post("/runs", json=RUN, headers={**key, **reads}), 403)


def test_a_token_that_is_revoked_ends_what_it_listens_to(closed: TestClient, home: Home) -> None:
    secret = token(home, "read")

    def revoke() -> None:
        with closing(connect(home.store)) as db, transaction(db):
            tokens.revoke(db, "read")

    later = threading.Timer(0.5, revoke)
    later.start()
    began = time.monotonic()
    assert closed.get("/events", headers=bearer(secret)).text == ""
    assert time.monotonic() - began < 10
    later.join()


def test_a_revoked_token_is_refused_and_no_token_is_kept_as_it_is(
    closed: TestClient, home: Home
) -> None:
    secret = token(home, "read")
    assert closed.get("/runs", headers=bearer(secret)).status_code == 200
    with closing(connect(home.store)) as db, transaction(db):
        tokens.revoke(db, "read")
    problem(closed.get("/runs", headers=bearer(secret)), 401)
    stored = b"".join(path.read_bytes() for path in home.root.glob("store.db*"))
    assert secret.encode() not in stored


def test_tokens_are_made_listed_and_revoked(cli: Cli) -> None:
    assert "There is no role 'boss'" in cli.refused("token", "create", "a", "--role", "boss")
    secret = cli("token", "create", "reports").out.strip()
    assert secret.startswith("preceptor_")
    assert len(secret) > 40
    cli("token", "create", "reports", "--role", "admin")
    listed = cli("token", "list", "--json").json
    assert sorted(one["role"] for one in listed) == ["admin", "read"]
    assert "More than one good token" in cli.refused("token", "revoke", "reports")
    assert "is revoked" in cli("token", "revoke", listed[0]["id"]).out
    assert "No good token" in cli.refused("token", "revoke", listed[0]["id"])
    assert "revoked" in cli("token", "list").out


def test_without_a_token_a_foreign_name_is_refused(api: TestClient) -> None:
    """A page that has its own name point to 127.0.0.1 is none of this machine's programs."""
    for method, path in routes(api):
        problem(api.request(method, path, headers={"host": "evil.example"}), 403)
        for origin in ("http://evil.example", "null", "https://127.0.0.1.evil.example"):
            problem(api.request(method, path, headers={"origin": origin}), 403)
    page = {"origin": "http://localhost:3000"}
    assert api.get("/version", headers=page).status_code == 200
    for name in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
        assert api.get("/version", headers={"host": name}).status_code == 200


def test_the_specification_names_every_route_and_its_problems(api: TestClient) -> None:
    spec = api.get("/openapi.json").json()
    told = {(m.upper(), path) for path, methods in spec["paths"].items() for m in methods}
    named = {(method, re.sub(r"\{\w+\}", "x", path)) for method, path in told}
    assert set(routes(api)) - named == {("GET", "/openapi.json")}
    assert named <= set(routes(api))
    assert spec["components"]["schemas"]["Problem"]["properties"].keys() >= {"detail", "hint"}
    ids = [one["operationId"] for methods in spec["paths"].values() for one in methods.values()]
    assert len(ids) == len(set(ids))


def test_the_specification_has_examples_of_what_it_says(api: TestClient) -> None:
    spec = api.get("/openapi.json").json()
    models = spec["components"]["schemas"]
    operations = [one for methods in spec["paths"].values() for one in methods.values()]
    bodies = [one["requestBody"] for one in operations if "requestBody" in one]
    answers = [
        answer
        for one in operations
        for status, answer in one["responses"].items()
        if status.startswith("2") and "application/json" in answer.get("content", {})
    ]
    assert len(bodies) >= 7
    named = {model_of(one["content"]["application/json"]["schema"], models) for one in bodies}
    shown = {model_of(one["content"]["application/json"]["schema"], models) for one in answers}
    assert {"NewLabel", "NewVersion", "Edited", "Wish"} <= named
    assert {"Prompt", "Name", "RunState", "Problem"} <= shown | {"Problem"}
    for name in named | shown | {"Problem"}:
        for example in models[name]["examples"]:
            whole = {"$ref": f"#/components/schemas/{name}", "components": spec["components"]}
            jsonschema.validate(example, whole)
            if "additionalProperties" not in models[name]:
                assert example.keys() == models[name]["properties"].keys(), name


def model_of(schema: dict[str, Any], models: dict[str, Any]) -> str:
    """The model that a schema is of: one, a list of it, or a page of it."""
    name = str(schema.get("items", schema)["$ref"]).rpartition("/")[2]
    page = models[name]["properties"].keys() == {"items", "next"}
    return model_of(models[name]["properties"]["items"], models) if page else name


def test_what_is_no_route_is_a_problem(api: TestClient) -> None:
    problem(api.get("/nothing"), 404)
    problem(api.post("/query", content=b" " * (5 << 20)), 413)
    problem(api.delete("/runs"), 405)
    assert "after" in problem(api.get("/prompts?after=x"), 422)["detail"]
    assert "limit" in problem(api.get("/prompts?limit=0"), 422)["detail"]
    assert api.get("/health").json() == {"status": "ok", "runs": {}}
    assert api.get("/health").headers["x-content-type-options"] == "nosniff"
