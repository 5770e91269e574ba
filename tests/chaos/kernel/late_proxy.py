"""A TCP proxy in front of the broker that delays some requests, also beyond the death of their client.

A kill hardly ever leaves a produce request in flight; this proxy does. A broker tells its clients which addresses to
connect to, which would bypass a proxy, so `LateProducer` replaces these addresses.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from eventlog.faust.producer import BatchProducer
from tests.waiting import moment


class LateProxy:
    """Listens on a free port. `late_after_death` counts requests that were delivered after their client had died."""

    def __init__(self, target: str, *, share: float = 0.05, longest_s: float = 6.0, seed: int = 1) -> None:
        host, port = target.rsplit(":", 1)
        self._target = (host, int(port))
        self._share = share
        self._longest_s = longest_s
        self._random = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self.stalled = 0
        self.late_after_death = 0
        self.address = ""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 22)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Closes the port, and waits for the requests in flight."""
        if self._server is not None:
            self._server.close()
        if self._serving:
            await asyncio.wait(self._serving, timeout=self._longest_s + 1)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
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
                    self.stalled += 1
                    await moment(self._random.uniform(0.2, self._longest_s))
                    if _client_gone(reader):
                        self.late_after_death += 1
                writer.write(data)
                await writer.drain()
        except OSError:
            # The client or the broker was killed, as intended.
            return
        finally:
            writer.close()


def _client_gone(reader: asyncio.StreamReader) -> bool:
    # The socket of a killed client is closed or reset, possibly with unread bytes.
    return bool(reader._eof) or reader.exception() is not None  # type: ignore[attr-defined]


class LateProducer(BatchProducer):
    """The producer of a processor, connected through a proxy at `address`."""

    address = ""

    def _new_producer(self, transactional_id: str | None = None) -> Any:
        producer = super()._new_producer(transactional_id)
        host, port = self.address.rsplit(":", 1)
        cluster = producer.client.cluster
        broker_metadata = cluster.broker_metadata

        def behind_the_proxy(broker_id: Any) -> Any:
            broker = broker_metadata(broker_id)
            return None if broker is None else broker._replace(host=host, port=int(port))

        cluster.broker_metadata = behind_the_proxy
        return producer
