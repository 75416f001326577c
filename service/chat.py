"""Talking to an endpoint from the terminal, word by word as they come."""

import json
from collections.abc import Iterator

import httpx

from teachers.errors import EndpointError

Turn = dict[str, str]


def answer(url: str, model: str, turns: list[Turn], token: str | None = None) -> Iterator[str]:
    """The pieces of an answer as they arrive.

    Raises:
        EndpointError: the endpoint cannot be reached or refuses.
    """
    body = {"model": model, "messages": turns, "stream": True, "max_tokens": 512}
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    address = url.rstrip("/") + "/chat/completions"
    try:
        with httpx.stream(
            "POST",
            address,
            json=body,
            headers=headers,
            timeout=httpx.Timeout(300.0, connect=5.0),
            trust_env=False,
        ) as response:
            if response.status_code != 200:
                response.read()
                raise EndpointError(f"{url} refused: {response.text[:300]}")
            yield from _pieces(response.iter_lines())
    except (httpx.HTTPError, httpx.InvalidURL) as broken:
        raise EndpointError(
            f"{url} cannot be reached: {broken}.", hint="preceptor serve starts one."
        ) from broken


def _pieces(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        data = line.removeprefix("data: ")
        if data == line or data == "[DONE]":
            continue
        try:
            pieces = [choice["delta"].get("content") for choice in json.loads(data)["choices"]]
        except (ValueError, KeyError, TypeError) as wrong:
            raise EndpointError(f"The answer broke off: {data[:300]}") from wrong
        yield from filter(None, pieces)
