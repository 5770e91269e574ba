"""Connections of the webhooks' port: how many there are, how long each may take, and how much it may send.

Nothing is known of a peer here. A connection that waits for a request, or for the rest of one, is the first to be
closed for another.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from aiohttp import web

log = structlog.stdlib.get_logger(__name__)

#: No provider's notification is near this size, nor has as many or as long headers.
MAX_BYTES = 128 * 1024
MAX_HEADERS = 64
MAX_HEADER_BYTES = 8 * 1024
MAX_LINE_BYTES = 1024
#: Seconds for the headers of a request, from the connection or the last answer on.
HEADERS_S = 5.0
#: Seconds for a request in all. The body and the broker have shorter limits: only a peer that does not read its answers
#: gets so far.
REQUEST_S = 20.0
#: Connections at most. One more takes the place of the one that has waited longest for a request.
MAX_CONNECTIONS = 512


class Refused(Exception):
    """A request is answered with an error of HTTP."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


class Server(web.Server):
    """Makes the protocol of each connection, and keeps count of them."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        garbled: Callable[[str, Refused], web.Response],
    ) -> None:
        # Nothing is decompressed: the bytes that were signed are those on the wire.
        super().__init__(handler, request_factory=self._request)
        #: Answers an address that sent no request.
        self.garbled = garbled
        #: Connections that wait for a request, the one that waits longest first; and those with a whole request.
        self.waiting: OrderedDict[Connection, None] = OrderedDict()
        self.answering: set[Connection] = set()

    def __call__(self) -> web.RequestHandler:
        """The protocol of a new connection."""
        return Connection(self, asyncio.get_running_loop())

    @staticmethod
    def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BYTES)

    def opened(self, connection: Connection) -> None:
        """A connection more: where there are too many, the one that has waited longest for a request is closed."""
        if len(self.waiting) + len(self.answering) >= MAX_CONNECTIONS:
            oldest = next(iter(self.waiting), connection)
            oldest.abort()
        self.waiting[connection] = None

    def closed(self, connection: Connection) -> None:
        """A connection less."""
        self.waiting.pop(connection, None)
        self.answering.discard(connection)


class Connection(web.RequestHandler):
    """One connection: its time is limited, request by request, and its faults are answered without a traceback."""

    __slots__ = ("_deadline", "_server")

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=HEADERS_S,
            access_log=None,  # type: ignore[arg-type]
            max_line_size=MAX_LINE_BYTES,
            max_headers=MAX_HEADERS,
            max_field_size=MAX_HEADER_BYTES,
            lingering_time=0.0,
            auto_decompress=False,
        )
        self._server = server
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer has connected."""
        super().connection_made(transport)
        self._renew()
        self._server.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone."""
        self._server.closed(self)
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def heard(self) -> None:
        """A whole request has come: the connection is not closed for another one any more."""
        self._server.waiting.pop(self, None)
        self._server.answering.add(self)

    async def finish_response(self, request: Any, resp: Any, start_time: Any) -> tuple[Any, bool]:
        """Answers a request; the time of the next one begins."""
        found = await super().finish_response(request, resp, start_time)
        if self.transport is not None:
            self._server.answering.discard(self)
            self._server.waiting[self] = None
            self._server.waiting.move_to_end(self)
            self._renew()
        return found

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """A request that is no HTTP, or an error of ours."""
        if status < 500:
            why = Refused(status, "not a request of HTTP/1.1 within the limits")
        else:
            log.error("a webhook failed", exc_info=exc)
            why = Refused(status, "internal error")
        return self._server.garbled(request.remote or "", why)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """aiohttp logs with a traceback what a peer may cause at will; refusals have lines of their own."""

    def abort(self) -> None:
        """Closes at once, whatever was not sent yet."""
        if self.transport is not None:
            self.transport.abort()

    def _renew(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(REQUEST_S, self.abort)
