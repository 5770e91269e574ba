"""Server-sent events of a channel, for as many browsers as there are places."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from aiohttp import ClientConnectionResetError, web

from console.web.channel import Channel

#: Seconds after which an idle stream gets a comment, so that proxies keep it open and a dead peer is noticed.
IDLE_S = 15.0
#: Milliseconds after which a browser connects again.
RETRY_MS = 1_000
#: Bytes that may wait for a browser that reads slowly.
_HIGH_WATER = 16 * 1024


class Places:
    """The places for open streams of a process."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self.refused = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Takes a place. Raises HTTPServiceUnavailable if none is free."""
        if self.taken >= self.limit:
            self.refused += 1
            raise web.HTTPServiceUnavailable(
                headers={"Retry-After": "5", "Connection": "close"}, text="too many open streams\n"
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


async def stream(
    request: web.Request, channel: Channel, places: Places, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Sends frames until the browser leaves or the process stops."""
    with places.one():
        response = web.StreamResponse(
            headers={**headers, "Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
        )
        tag = request.headers.get("Last-Event-ID") or request.query.get("after", "")
        channel.viewers += 1
        try:
            await response.prepare(request)
            if request.transport is not None:
                request.transport.set_write_buffer_limits(high=_HIGH_WATER)
            await response.write(b"retry: %d\n\n" % RETRY_MS)
            channel.touch()
            await _send(response, channel, channel.version_of(tag))
        except (ClientConnectionResetError, ConnectionResetError):
            # The browser left.
            pass
        finally:
            channel.viewers -= 1
        return response


async def _send(response: web.StreamResponse, channel: Channel, version: int) -> None:
    # A browser without a version of this process gets everything; also one whose version is from an earlier process.
    if version < channel.version or not version:
        await response.write(channel.frame(version))
        version = channel.version
    while True:
        try:
            async with asyncio.timeout(IDLE_S):
                await channel.wait_newer(version)
        except TimeoutError:
            await response.write(b": \n\n")
            continue
        frame, newest = channel.frame(version), channel.version
        await response.write(frame)
        version = newest
