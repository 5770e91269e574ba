"""Connections of the HTTP ports: their number, in all and of one address, and the time of each request.

Anybody can connect to the page of a share link. A peer that sends nothing, sends half a request or reads no answer is
disconnected after a while, and loses its place to a new connection at once if the port is at capacity. aiohttp limits
none of this before the first request of a connection.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from contextlib import suppress
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

#: Seconds for the head of a connection's first request, for a form, and from the end of a request's handling until its
#: response was read and the head of the next request has arrived.
HEAD_S, BODY_S, NEXT_S = 10.0, 10.0, 30.0
#: Connections of one port, and of one address: a reverse proxy is one address. A stream takes a connection.
MAX_CONNECTIONS = 4_000
MAX_PER_ADDRESS = 3_000


class Connections:
    """The connections of one port."""

    def __init__(self, *, limit: int = MAX_CONNECTIONS, per_address: int = MAX_PER_ADDRESS) -> None:
        self._limit = limit
        self._per_address = per_address
        #: Connections without a request in its handler, the longest waiting first; and those with one.
        self._waiting: OrderedDict[Any, Connection] = OrderedDict()
        self._handling: dict[Any, Connection] = {}
        self._of_address: Counter[str] = Counter()
        #: Connections closed for others, for their address or for their time, so far.
        self.closed = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._handling)

    def opened(self, one: Connection) -> None:
        """Counts a connection. One of an address with too many is closed; at capacity, the longest waiting one is."""
        if self._of_address[one.address] >= self._per_address:
            self._end(one)
        elif len(self) >= self._limit:
            self._end(next(iter(self._waiting.values()), one))
        self._of_address[one.address] += 1
        self._wait(one, HEAD_S)

    def lost(self, one: Connection) -> None:
        """Forgets a connection."""
        if self._waiting.pop(one.transport, None) is None:
            self._handling.pop(one.transport, None)
        self._of_address[one.address] -= 1
        if not self._of_address[one.address]:
            del self._of_address[one.address]
        one.expire_in(None)

    @web.middleware
    async def time_limits(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Ends the deadline of the head, and starts that of the next one."""
        one = self._waiting.pop(request.transport, None)
        if one is not None:
            one.expire_in(None)
            self._handling[one.transport] = one
        try:
            return await handler(request)
        finally:
            if one is not None and self._handling.pop(one.transport, None) is not None:
                self._wait(one, NEXT_S)

    def _wait(self, one: Connection, seconds: float) -> None:
        self._waiting[one.transport] = one
        one.expire_in(seconds)

    def _end(self, one: Connection) -> None:
        self.closed += 1
        one.transport.abort()

    def expired(self, one: Connection) -> None:
        """Closes a connection whose time is over."""
        self._end(one)


async def form_of(request: web.Request) -> dict[str, str]:
    """The texts of a form. Raises HTTPRequestTimeout."""
    try:
        async with asyncio.timeout(BODY_S):
            form = await request.post()
    except TimeoutError:
        raise web.HTTPRequestTimeout(headers={"Connection": "close"}, text="the form did not arrive\n") from None
    return {name: value for name, value in form.items() if isinstance(value, str)}


class Connection(asyncio.Protocol):
    """One connection: passes everything on to aiohttp's protocol."""

    def __init__(self, connections: Connections, inner: Any) -> None:
        self._connections = connections
        self._inner = inner
        self._deadline: asyncio.TimerHandle | None = None
        self.transport: Any = None
        self.address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Counts the connection."""
        self.transport = transport
        with suppress(TypeError, IndexError):
            self.address = str(transport.get_extra_info("peername")[0])
        self._inner.connection_made(transport)
        self._connections.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Ends the deadline."""
        self._connections.lost(self)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Passes bytes on."""
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Passes the end of the peer's bytes on."""
        result: bool | None = self._inner.eof_received()
        return result

    def pause_writing(self) -> None:
        """Passes on that the peer reads slowly."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Passes on that the peer reads again."""
        self._inner.resume_writing()

    def expire_in(self, seconds: float | None) -> None:
        """Closes the connection after `seconds`; None: never."""
        if self._deadline is not None:
            self._deadline.cancel()
        loop = asyncio.get_running_loop()
        self._deadline = None if seconds is None else loop.call_later(seconds, self._connections.expired, self)


class Listener:
    """One port that serves an application."""

    def __init__(self, application: web.Application, connections: Connections) -> None:
        """`application` is not frozen yet: it gets the middleware of the time limits."""
        application.middlewares.insert(0, connections.time_limits)
        self._connections = connections
        self._runner: web.AppRunner | None = None
        self._application = application
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int, *, backlog: int, stop_s: float) -> int:
        """Serves, and returns the port. Requests get `stop_s` to end at a stop. Raises OSError."""
        self._runner = web.AppRunner(
            self._application, access_log=None, shutdown_timeout=stop_s, keepalive_timeout=NEXT_S
        )
        await self._runner.setup()
        inner: Any = self._runner.server
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self._connections, inner()), host, port, backlog=backlog
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Accepts no more connections and ends the open ones."""
        if self._server is not None:
            self._server.close()
        if self._runner is not None:
            await self._runner.cleanup()
