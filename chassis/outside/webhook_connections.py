"""Connections of the HTTP ports (webhooks, metrics): their number, and the time and bytes that each may take.

The sender is unknown at this stage. When the port is at capacity, a new connection evicts the one that has waited
longest for a request or for the rest of one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from aiohttp import web

log = structlog.stdlib.get_logger(__name__)

#: Limits far above the size and the headers of any payment provider's webhook.
MAX_BYTES = 128 * 1024
MAX_HEADERS = 64
MAX_HEADER_BYTES = 8 * 1024
MAX_LINE_BYTES = 1024
#: Seconds for the headers of a request, from the connection or the previous response on.
HEADERS_S = 5.0
#: Seconds for a whole request. The body and the broker have shorter limits, so only a peer that does not read its
#: response reaches this one.
REQUEST_S = 20.0
MAX_CONNECTIONS = 512


class Refused(Exception):
    """A request is answered with an HTTP error."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


class ConnectionServer(web.Server):
    """Creates the protocol object of each connection and counts connections."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        malformed: Callable[[str, Refused], web.Response],
        *,
        limit: int | None = None,
    ) -> None:
        """`malformed` answers a peer, by its address, whose bytes are not a request. `limit` of
        connections defaults to MAX_CONNECTIONS."""
        # Nothing is decompressed: signatures cover the bytes on the wire.
        super().__init__(handler, request_factory=self._request)
        self.malformed = malformed
        self._limit = MAX_CONNECTIONS if limit is None else limit
        #: Connections without a complete request, the longest waiting first; and those whose request is being handled.
        self.waiting: OrderedDict[Connection, None] = OrderedDict()
        self.handling: set[Connection] = set()

    def __call__(self) -> web.RequestHandler:
        """The protocol object of a new connection."""
        return Connection(self, asyncio.get_running_loop())

    @staticmethod
    def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BYTES)

    def opened(self, connection: Connection) -> None:
        """Counts a new connection. At capacity, the connection that has waited longest for a request is closed."""
        if len(self.waiting) + len(self.handling) >= self._limit:
            oldest = next(iter(self.waiting), connection)
            oldest.abort()
        self.waiting[connection] = None

    def closed(self, connection: Connection) -> None:
        """Discards a closed connection."""
        self.waiting.pop(connection, None)
        self.handling.discard(connection)


class Connection(web.RequestHandler):
    """One connection with a deadline for each request. Errors of the peer are answered without a traceback."""

    __slots__ = ("_deadline", "_server")

    def __init__(self, server: ConnectionServer, loop: asyncio.AbstractEventLoop) -> None:
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
        """Starts the deadline of the first request."""
        super().connection_made(transport)
        self._renew_deadline()
        self._server.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Ends the deadline."""
        self._server.closed(self)
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def request_received(self) -> None:
        """Marks the request as complete: the connection can't be evicted until it is answered."""
        self._server.waiting.pop(self, None)
        self._server.handling.add(self)

    async def finish_response(self, request: Any, resp: Any, start_time: Any) -> tuple[Any, bool]:
        """Sends a response and starts the deadline of the next request."""
        result = await super().finish_response(request, resp, start_time)
        if self.transport is not None:
            self._server.handling.discard(self)
            self._server.waiting[self] = None
            self._server.waiting.move_to_end(self)
            self._renew_deadline()
        return result

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answers malformed HTTP, or a defect of this process."""
        if status < 500:
            refused = Refused(status, "not a request of HTTP/1.1 within the limits")
        else:
            log.error("HTTP handler failed", exc_info=exc)
            refused = Refused(status, "internal error")
        return self._server.malformed(request.remote or "", refused)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Logs nothing: aiohttp would log a traceback for errors that any peer can cause. Refusals are logged once."""

    def abort(self) -> None:
        """Closes the connection at once and discards unsent bytes."""
        if self.transport is not None:
            self.transport.abort()

    def _renew_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(REQUEST_S, self.abort)
