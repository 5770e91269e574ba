"""A TCP proxy in front of the broker whose requests stall now and then, and still arrive after their client was killed.

A plain kill hardly ever leaves a produce request on the way; this does.
"""

from __future__ import annotations

import asyncio
import random

from tests.waiting import moment


class LateProxy:
    """Listens on a port of its own; `late_after_death` counts requests delivered after their client had gone."""

    def __init__(self, target: str, *, share: float = 0.05, longest_s: float = 6.0, seed: int = 1) -> None:
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self._share = share
        self._longest_s = longest_s
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self.late_after_death = 0
        self.address = ""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 22)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._target, limit=1 << 22)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pump(reader, up_writer, late=True), self._pump(up_reader, writer, late=False))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool) -> None:
        try:
            while data := await reader.read(1 << 20):
                if late and self._random.random() < self._share:
                    await moment(self._random.uniform(0.2, self._longest_s))
                    if reader.at_eof():
                        self.late_after_death += 1
                writer.write(data)
                await writer.drain()
        except OSError:
            # Either side was killed: that is what this is for.
            return
        finally:
            writer.close()
