"""Who answers: a model named in a recipe, found, opened, and brought back when it fails."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Protocol

from pipelines import copies
from pipelines.home import Home
from pipelines.recipe import Place
from pipelines.store import checkpoints
from pipelines.store.connection import connect
from pipelines.workbench import Workbench
from teachers.client import Client, Endpoint
from teachers.errors import ConfigError
from teachers.progress import Progress
from teachers.weights import Weights, prepare

# A model of our own making: `checkpoint:champion`, or an id's beginning after the colon.
CHECKPOINT = "checkpoint:"


class Source(Protocol):
    """Somebody who answers: an engine of ours, or an endpoint elsewhere."""

    @property
    def client(self) -> Client: ...

    async def ensure(self) -> None:
        """Bring it back, if that is in our power."""

    def worked(self) -> None:
        """It gave a whole answer."""


class Remote:
    """An endpoint that is not ours to restart."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def ensure(self) -> None:
        return None

    def worked(self) -> None:
        return None


def prepared(name: str, home: Home, progress: Progress) -> Weights:
    """A model's weights in a local folder.

    Args:
        name: as in `student.weights`.

    Raises:
        ConfigError: there is no such checkpoint.
        WeightsError: the model cannot be found, or a checkpoint's files have changed.
    """
    if not name.startswith(CHECKPOINT):
        return prepare(name, home.root, progress)
    with closing(connect(home.store)) as db:
        checkpoint = checkpoints.checkpoint(db, name.removeprefix(CHECKPOINT))
        return copies.merged(db, checkpoint, progress)


def identity(place: Place, base: Weights | None, home: Home, progress: Progress) -> str:
    """What a model's calls are filed under: its fingerprint, or its name and revision.

    Args:
        base: the model that is meant where the place names none.
    """
    if place.url:
        return f"{place.url} {place.model}@{place.revision}"
    return _weights(place, base, home, progress).fingerprint


def endpoint_of(place: Place) -> Endpoint | None:
    """Where a model answers that is not ours to start."""
    if not place.url or not place.model:
        return None
    return Endpoint(
        url=place.url,
        model=place.model,
        api_key_env=place.api_key_env,
        concurrency=place.concurrency,
        timeout_s=place.timeout_s,
    )


@asynccontextmanager
async def opened(bench: Workbench, place: Place, base: Weights | None) -> AsyncIterator[Source]:
    """The model of a place, ready to answer; a server of ours stays up for whoever asks next."""
    if endpoint := endpoint_of(place):
        async with Client(endpoint) as client:
            yield Remote(client)
        return
    weights = _weights(place, base, bench.home, bench.progress)
    yield await bench.serving(weights)


def _weights(place: Place, base: Weights | None, home: Home, progress: Progress) -> Weights:
    if place.weights is not None:
        return prepared(place.weights, home, progress)
    if base is None:
        raise ConfigError("A model is named by neither weights nor url.")
    return base
