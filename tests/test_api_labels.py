"""Labels over HTTP: what to label next, and what people say, by the rules of `preceptor label`."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from judges.records import Comparison
from pipelines import labelling
from pipelines.home import Home
from pipelines.store import judgements, tokens
from pipelines.store.connection import connect, transaction
from service import auth, output
from service.app import create_api
from service.auth import Door
from tests.test_api import HERE, bearer, problem, token
from tests.test_labels import SIX, compared

BY = "concise-assistant/stops-when-answered"
INJECTED = compared("orders?", "Ignore the request.", "An answer.")._replace(injected=True)
SAME = compared("same?", "one  answer", "one answer")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    with closing(connect(made.store)) as db, transaction(db):
        judgements.add_comparisons(db, [*SIX, INJECTED, SAME])
    return made


@pytest.fixture
def api(home: Home) -> Iterator[TestClient]:
    with TestClient(create_api(home, Door(home, open_=True)), base_url=HERE) as client:
        yield client


def said(one: Comparison, choice: str = "first", **more: Any) -> dict[str, Any]:
    return {"comparison": one.id, "choice": choice, "seconds": 2.5, **more}


def test_the_next_ones_are_labelled_until_none_is_left(api: TestClient, home: Home) -> None:
    first = api.get("/labels/next", params={"limit": 2, "annotator": "ann"}).json()
    assert len(first["items"]) == 2
    seen = []
    while found := api.get("/labels/next", params={"limit": 1, "annotator": "ann"}).json()["items"]:
        [one] = found
        made = api.post(
            "/labels",
            json={**said(SIX[0].comparison), "comparison": one["comparison"], "annotator": "ann"},
        )
        assert made.status_code == 201, made.text
        assert made.json()["shown"] == one["shown"]
        seen.append(one["comparison"])
    assert sorted(seen) == sorted(one.comparison.id for one in SIX)
    assert len(api.get("/labels", params={"annotator": "ann"}).json()["items"]) == 6
    # Somebody else is asked as well, and by a principle everything is new again.
    assert len(api.get("/labels/next", params={"annotator": "bob"}).json()["items"]) == 6
    asked = {"annotator": "ann", "principle": BY}
    assert len(api.get("/labels/next", params=asked).json()["items"]) == 6
    assert api.get("/labels/next", params={"annotator": "ann", "origin": "gate"}).json() == {
        "items": [],
        "left": 0,
    }
    with closing(connect(home.store)) as db:
        assert labelling.next_to_label(db, "ann", None, "round") is None


def test_what_is_said_again_takes_the_place_of_what_was_said(api: TestClient) -> None:
    one = SIX[3].comparison
    first = api.post("/labels", json=said(one, note="in haste")).json()
    assert (first["annotator"], first["principle_id"]) == (output.user(), None)
    again = api.post("/labels", json=said(one, "tie")).json()
    assert again["id"] == first["id"]
    by = api.post("/labels", json=said(one, "second", principle=BY)).json()
    assert by["id"] != first["id"]
    assert by["principle_id"]
    kept = api.get("/labels", params={"comparison_id": one.id}).json()["items"]
    assert sorted(label["choice"] for label in kept) == ["second", "tie"]
    assert api.get(f"/comparisons/{one.id}").json()["second"] == one.second


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"comparison": "nope"}, 404),
        ({"comparison": INJECTED.comparison.id}, 404),
        ({"comparison": SAME.comparison.id}, 404),
        ({"principle": "concise-assistant/nope"}, 404),
        ({"principle": "nope/nope"}, 404),
        ({"principle": "../x.yaml/nope"}, 422),
        ({"choice": "third"}, 422),
        ({"seconds": -1}, 422),
        ({"note": "x" * 2001}, 422),
        ({"annotator": ""}, 422),
    ],
)
def test_what_cannot_be_labelled_is_refused(
    api: TestClient, changes: dict[str, Any], status: int
) -> None:
    problem(api.post("/labels", json={**said(SIX[0].comparison), **changes}), status)
    assert api.get("/labels").json()["items"] == []


def test_a_label_is_of_whose_token_it_is(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REFRESH_S", 0.0)
    with closing(connect(home.store)) as db, transaction(db):
        secret = tokens.add(db, "Grace", "label")
    one = SIX[1].comparison
    with TestClient(create_api(home, Door(home, "master")), base_url=HERE) as api:
        problem(api.post("/labels", json=said(one), headers=bearer(token(home, "read"))), 403)
        mine = {**bearer(secret), "idempotency-key": "one"}
        made = api.post("/labels", json=said(one), headers=mine).json()
        assert made["annotator"] == "Grace"
        assert api.post("/labels", json=said(one), headers=mine).json() == made
        commit = {"yaml": "", "message": "x"}
        problem(api.post("/constitutions", json=commit, headers=bearer(secret)), 403)
        master = api.post("/labels", json=said(one), headers=bearer("master")).json()
        assert master["annotator"] == output.user()
        left = api.get("/labels/next", headers=bearer(secret)).json()["left"]
        assert left == len(SIX)  # one is done, and one of the others says the same twice
    with closing(connect(home.store)) as db:
        audit = [who.split()[0] for (who,) in db.execute("select who from audit order by seq")]
    assert audit == ["Grace", "the"]
