"""Server-sent events of a channel, for as many browsers as there are places."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from aiohttp import ClientConnectionResetError, web

from console.web.channel import Channel

#: Seconds after which an idle stream gets a comment, so that proxies keep it open and a dead peer is noticed.
IDLE_S = 15.0
#: Milliseconds after which a browser connects again.
RETRY_MS = 1_000
#: Bytes that may wait for a browser that reads slowly, and seconds for which it may read nothing.
_HIGH_WATER = 16 * 1024
UNREAD_S = 30.0
#: Shares of the places: of all viewers of share links, so that they leave some to the operators; of one viewer's
#: address; of an operator's. An address may be that of a reverse proxy.
PUBLIC, PUBLIC_ADDRESS, OPERATOR_ADDRESS = 0.8, 0.4, 0.8


class Places:
    """The places for open streams of a process."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self.refused = 0
        self._public = 0
        self._of_address: Counter[str] = Counter()

    @contextmanager
    def one(self, address: str, *, public: bool = False) -> Iterator[None]:
        """Takes a place for an address. Raises HTTPServiceUnavailable if none is free for it."""
        share = PUBLIC_ADDRESS if public else OPERATOR_ADDRESS
        if (
            self.taken >= self.limit
            or self._of_address[address] >= max(self.limit * share, 1)
            or (public and self._public >= max(self.limit * PUBLIC, 1))
        ):
            self.refused += 1
            raise web.HTTPServiceUnavailable(
                headers={"Retry-After": "5", "Connection": "close"}, text="too many open streams\n"
            )
        self.taken += 1
        self._public += public
        self._of_address[address] += 1
        try:
            yield
        finally:
            self.taken -= 1
            self._public -= public
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]


async def stream(
    request: web.Request, channel: Channel, places: Places, headers: Mapping[str, str], *, public: bool = False
) -> web.StreamResponse:
    """Sends frames until the browser leaves, reads nothing for UNREAD_S, or the process stops."""
    with places.one(request.remote or "", public=public):
        response = web.StreamResponse(
            headers={**headers, "Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
        )
        tag = request.headers.get("Last-Event-ID") or request.query.get("after", "")
        channel.viewers += 1
        try:
            await response.prepare(request)
            if request.transport is not None:
                request.transport.set_write_buffer_limits(high=_HIGH_WATER)
            await _write(response, b"retry: %d\n\n" % RETRY_MS)
            channel.touch()
            await _send(response, channel, channel.version_of(tag))
        except (ClientConnectionResetError, ConnectionResetError):
            # The browser left.
            pass
        except Unread:
            if request.transport is not None:
                request.transport.abort()
        finally:
            channel.viewers -= 1
        return response


class Unread(Exception):
    """The browser reads nothing."""


async def _write(response: web.StreamResponse, data: bytes) -> None:
    """Raises Unread."""
    try:
        async with asyncio.timeout(UNREAD_S):
            await response.write(data)
    except TimeoutError:
        raise Unread from None


async def _send(response: web.StreamResponse, channel: Channel, version: int) -> None:
    # A browser without a version of this process gets everything; also one whose version is from an earlier process.
    if version < channel.version or not version:
        await _write(response, channel.frame(version))
        version = channel.version
    while True:
        try:
            async with asyncio.timeout(IDLE_S):
                await channel.wait_newer(version)
        except TimeoutError:
            await _write(response, b": \n\n")
            continue
        frame, newest = channel.frame(version), channel.version
        await _write(response, frame)
        version = newest
