"""The store as a route sees it: one connection for each request."""

from collections.abc import Iterator
from contextlib import closing
from typing import Annotated

from fastapi import Depends, Request
from sqlite_utils import Database

from pipelines.home import Home
from pipelines.store.connection import connect


def home(request: Request) -> Home:
    """The home that is served."""
    found: Home = request.app.state.home
    return found


InHome = Annotated[Home, Depends(home)]


def store(place: InHome) -> Iterator[Database]:
    """Its store, for one request."""
    with closing(connect(place.store)) as db:
        yield db


Store = Annotated[Database, Depends(store)]
