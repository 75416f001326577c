"""One connection a lane: what keeps a busy client from looking at all connections for each request.

httpcore's pool walks over every connection whenever a request is given one or gives it back. At 32
in flight that was a third of the whole cost of a call. Here each lane is a pool of one.
"""

from collections.abc import AsyncIterator

import httpx


class Lanes(httpx.AsyncBaseTransport):
    """As many single connections as were ever needed at once; idle ones are used again.

    How many are needed is bounded by whoever limits the requests in flight.
    """

    def __init__(self) -> None:
        self._idle: list[httpx.AsyncHTTPTransport] = []
        self._all: list[httpx.AsyncHTTPTransport] = []
        # Reading the certificates takes 20 ms, so it is done once and not once a lane.
        self._tls = httpx.create_ssl_context(trust_env=False)
        # Servers drop idle connections (vLLM after 5 s). One that goes away just as it is used
        # again would look like a call that got lost.
        self._one = httpx.Limits(
            max_connections=1, max_keepalive_connections=1, keepalive_expiry=2.0
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        lane = self._idle.pop() if self._idle else self._new()
        try:
            response = await lane.handle_async_request(request)
        except BaseException:
            self._idle.append(lane)
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Returning(response.stream, lane, self._idle)
        return response

    async def aclose(self) -> None:
        for lane in self._all:
            await lane.aclose()

    def _new(self) -> httpx.AsyncHTTPTransport:
        lane = httpx.AsyncHTTPTransport(verify=self._tls, limits=self._one, trust_env=False)
        self._all.append(lane)
        return lane


class _Returning(httpx.AsyncByteStream):
    """A body that gives its lane back when it is closed."""

    def __init__(
        self,
        body: httpx.AsyncByteStream,
        lane: httpx.AsyncHTTPTransport,
        idle: list[httpx.AsyncHTTPTransport],
    ) -> None:
        self._body, self._lane, self._idle = body, lane, idle
        self._closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._body:
            yield chunk

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            await self._body.aclose()
            self._idle.append(self._lane)
