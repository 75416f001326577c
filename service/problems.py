"""Errors of the API, as RFC 9457 has them: `application/problem+json`."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from pipelines.store.connection import sqlite3
from teachers.errors import (
    Busy,
    ConfigError,
    PreceptorError,
    QueryRefused,
    StoreError,
    StoreFull,
    WeightsError,
)

TYPE = "application/problem+json"


class Problem(BaseModel):
    """What went wrong, and what to do about it."""

    title: str
    """The status in words."""
    status: int
    detail: str
    """What happened."""
    hint: str = ""
    """What the caller can do."""


class NotFound(PreceptorError):
    """There is no such thing."""


class Conflict(PreceptorError):
    """It could be asked, and not as things stand."""


# The nearest class decides.
_STATUS: dict[type[PreceptorError], HTTPStatus] = {
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    QueryRefused: HTTPStatus.BAD_REQUEST,
    ConfigError: HTTPStatus.BAD_REQUEST,
    Busy: HTTPStatus.CONFLICT,
    WeightsError: HTTPStatus.CONFLICT,
    StoreFull: HTTPStatus.INSUFFICIENT_STORAGE,
    StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
}
DOCUMENTED: dict[int | str, dict[str, Any]] = {
    status.value: {
        "description": status.phrase,
        "content": {TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status in (
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.CONFLICT,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
        HTTPStatus.SERVICE_UNAVAILABLE,
    )
}
"""What any route may answer instead."""


def explain_errors(api: FastAPI) -> None:
    """Let every error of this application be told as a problem."""
    api.add_exception_handler(PreceptorError, _of_ours)
    api.add_exception_handler(HTTPException, _of_http)
    api.add_exception_handler(RequestValidationError, _of_a_request)
    api.add_exception_handler(sqlite3.OperationalError, _of_sqlite)
    api.add_exception_handler(Exception, _unforeseen)


def problem(status: int, detail: str, hint: str = "") -> JSONResponse:
    """A problem as a response."""
    told = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, hint=hint)
    return JSONResponse(told.model_dump(), status, media_type=TYPE)


async def _of_ours(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PreceptorError)
    kinds = [kind for kind in type(error).__mro__ if kind in _STATUS]
    status = _STATUS[kinds[0]] if kinds else HTTPStatus.INTERNAL_SERVER_ERROR
    return problem(status, error.message, error.hint)


async def _of_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    told = problem(error.status_code, str(error.detail))
    told.headers.update(error.headers or {})
    return told


async def _of_sqlite(_: Request, error: Exception) -> JSONResponse:
    """Somebody holds the file for long."""
    told = problem(HTTPStatus.SERVICE_UNAVAILABLE, f"The store cannot be used now: {error}.")
    told.headers["retry-after"] = "5"
    return told


async def _unforeseen(_: Request, __: Exception) -> JSONResponse:
    """What it was is in the service's log, and only there."""
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong that was not foreseen.")


async def _of_a_request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    said = [
        f"{'.'.join(str(part) for part in one['loc'] if part != 'body')}: {one['msg']}".lstrip(": ")
        for one in error.errors()
    ]
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(said))
