"""The API against its own specification: requests that schemathesis makes up, good ones and bad."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from pipelines.home import Home
from service.app import PREFIX, create_api
from service.auth import Door
from service.problems import explain_errors
from tests.served import make_home

RIGHT = {"Authorization": "Bearer secret"}
EACH, IN_ALL = 80, 2000
# What starts a process for each.
FEW, ASIDE = 8, ("/constitutions/preview", "/constitutions/{ref}/test")
NOWHERE = Home(Path("nowhere"))
ROUTES = [
    (path, method)
    for path, methods in create_api(NOWHERE, Door(NOWHERE)).openapi()["paths"].items()
    for method in methods
    if path != "/events"  # which goes on for ever
]
JUDGED_BY_TEXT = {
    ("post", path) for path in ("/runs", "/query", "/constitutions", "/constitutions/preview")
}
made: Counter[tuple[str, str]] = Counter()


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = make_home(tmp_path_factory.mktemp("spec"))
    app = FastAPI(openapi_url=None)
    explain_errors(app)  # of a path that leads nowhere
    app.mount(PREFIX, create_api(home, Door(home, "secret")))
    return schemathesis.openapi.from_asgi(f"{PREFIX}/openapi.json", app, headers=RIGHT)


@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_every_route_answers_as_it_says(spec: Any, path: str, method: str) -> None:
    """No 5xx, no answer of another form than the specification's, none without the token.

    Recipes, queries and constitutions have languages of their own, of which the specification knows
    nothing.
    """

    @settings(
        max_examples=FEW if path in ASIDE else EACH,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=spec[path][method].as_strategy())
    def holds(case: Any) -> None:
        made[path, method] += 1
        left_out = [positive_data_acceptance] if (method, path) in JUDGED_BY_TEXT else []
        case.call_and_validate(headers=RIGHT, excluded_checks=left_out)

    holds()


def test_that_was_enough() -> None:
    assert sum(made.values()) >= IN_ALL, made
