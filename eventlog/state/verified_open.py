"""Opens state directories and verifies each against the logs that it names, before anything of it is used.

A state directory may come from another cluster, from re-created topics of the same names, or from a log that was
restored from an older copy. A database from another log is set aside, and its partition is folded from the beginning of
the logs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from aiokafka.errors import KafkaError

from eventlog.broker.log_identity import LogVerifier, identity_of
from eventlog.broker.security import Kafka
from eventlog.records.log_position import LogIdentity
from eventlog.runtime import failpoints
from eventlog.state.database import Position, until_closed

log = logging.getLogger(__name__)

#: Seconds between two attempts to query a broker that does not answer.
RETRY_S = 0.5


class Verifiable(Protocol):
    """State of one partition on disk: a database, or a store that uses one."""

    @property
    def position(self) -> Position:
        """How far the logs are folded on disk."""
        ...

    def reset(self, reason: str, detail: str) -> None:
        """Sets aside what is on disk and begins empty."""
        ...

    def close(self) -> None:
        """Closes it."""
        ...


V = TypeVar("V", bound=Verifiable)
T = TypeVar("T")


class BrokerQueries:
    """Queries to the broker that are retried until it answers, or until this is closed."""

    def __init__(self) -> None:
        self._running: set[asyncio.Future[Any]] = set()
        self._closed = False

    async def run(self, query: Callable[[], Coroutine[Any, Any, T]], purpose: str) -> T:
        """Returns the result. Raises CancelledError once closed. `purpose` is logged with each failure."""
        while not self._closed:
            running = asyncio.ensure_future(query())
            self._running.add(running)
            try:
                return await running
            except (KafkaError, OSError) as error:
                # TimeoutError is an OSError.
                log.warning("%s: the broker does not answer, retrying: %r", purpose, error)
            finally:
                self._running.discard(running)
            await asyncio.sleep(RETRY_S)
        raise asyncio.CancelledError

    def close(self) -> None:
        """Cancels running queries and begins no more."""
        self._closed = True
        for running in self._running:
            running.cancel()


async def open_verified(
    kafka: Kafka,
    topics: Collection[str],
    paths: Mapping[int, Path],
    open_one: Callable[[int, LogIdentity], V],
    queries: BrokerQueries | None = None,
) -> AsyncGenerator[tuple[int, V]]:
    """Opens the directories of partitions, and yields each after it was verified against its logs.

    `open_one` runs on another thread. The log's identity is queried once. Waits for a broker that is away, and for
    directories that this process still has open.
    """
    queries = BrokerQueries() if queries is None else queries
    identity = await queries.run(lambda: identity_of(kafka, topics), "the identity of the logs is needed")
    comparison = _LogComparison(kafka, queries)
    try:
        for partition, path in paths.items():
            await until_closed(path)
            opened = await asyncio.to_thread(open_one, partition, identity)
            if failpoints.armed:
                failpoints.passed("state opened, not compared")
            try:
                detail = await comparison.differs(partition, opened.position, path)
                if detail is not None:
                    await asyncio.to_thread(opened.reset, "another log", detail)
            except BaseException:
                opened.close()
                raise
            yield partition, opened
    finally:
        await comparison.close()


class _LogComparison:
    """Compares positions with their logs, over one connection."""

    def __init__(self, kafka: Kafka, queries: BrokerQueries) -> None:
        self._kafka = kafka
        self._queries = queries
        self._reader: LogVerifier | None = None

    async def differs(self, partition: int, position: Position, path: Path) -> str | None:
        """How the logs differ from those that were folded; None: they do not. Waits for a broker that is away."""
        if not any(source.next_offset for source in position.sources.values()):
            return None

        async def compare() -> str | None:
            try:
                if self._reader is None:
                    self._reader = await LogVerifier(self._kafka).__aenter__()
                return await self._reader.differs(partition, position.sources)
            except (KafkaError, OSError):
                await self.close()
                raise

        return await self._queries.run(compare, f"{path} is not compared with its logs yet")

    async def close(self) -> None:
        """Closes the connection."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.__aexit__(None, None, None)
