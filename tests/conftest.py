"""What several test files share: the scripted server."""

from collections.abc import Iterator

import pytest

from tests.scripted.running import Scripted, running


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scripted]:
    """One scripted server for all tests of a file; tell them apart by the model they ask for."""
    with running(tmp_path_factory.mktemp("scripted")) as server:
        yield server
