"""Opens what is kept of partitions, and sets aside what is not of this log, before anything of it is used.

A state directory may come from another cluster, from topics of the same name that were made again, or from a log that
was restored from an older copy. Its rows must not be served then, and nothing may be decided from them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from aiokafka.errors import KafkaError

from eventlog.broker.log_identity import LogReader, identity_of
from eventlog.broker.security import Kafka
from eventlog.runtime import failpoints
from eventlog.state.database import LogIdentity, Position, until_closed

log = logging.getLogger(__name__)

#: Seconds between two questions to a broker that does not answer.
AGAIN_S = 0.5


class Kept(Protocol):
    """What is kept of one partition: a database, or a store on one."""

    @property
    def position(self) -> Position:
        """How far the logs are folded on disk."""
        ...

    def start_again(self, reason: str, trouble: str) -> None:
        """Sets aside what is on disk."""
        ...

    def close(self) -> None:
        """Lets go of it."""
        ...


K = TypeVar("K", bound=Kept)


async def known_identity(kafka: Kafka, topics: Collection[str]) -> LogIdentity:
    """Who the log is; waits for a broker that is away, or that does not know all the topics yet."""
    while True:
        try:
            return await identity_of(kafka, topics)
        except (KafkaError, OSError) as error:
            log.warning("the log's identity is not known yet, asking again: %r", error)
        await asyncio.sleep(AGAIN_S)


async def opened(
    kafka: Kafka,
    topics: Collection[str],
    paths: Mapping[int, Path],
    open_one: Callable[[int, LogIdentity], K],
) -> AsyncIterator[tuple[int, K]]:
    """Opens the partitions' directories, and compares each with the logs that it names.

    `open_one` runs on another thread. The broker is asked once for the identity; a broker that is away is waited for.
    A directory that this process still has open is waited for too.
    """
    identity = await known_identity(kafka, topics)
    comparing = _Comparing(kafka)
    try:
        for partition, path in paths.items():
            await until_closed(path)
            kept = await asyncio.to_thread(open_one, partition, identity)
            if failpoints.armed:
                failpoints.passed("state opened, not compared")
            try:
                trouble = await comparing.differs(partition, kept.position, path)
                if trouble is not None:
                    await asyncio.to_thread(kept.start_again, "another log", trouble)
            except BaseException:
                kept.close()
                raise
            yield partition, kept
    finally:
        await comparing.close()


class _Comparing:
    """Compares positions with their logs, over one connection."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._reader: LogReader | None = None

    async def differs(self, partition: int, position: Position, path: Path) -> str | None:
        """In which way the logs are not those that were folded; None: they are. Waits for a broker that is away."""
        if not any(source.next_offset for source in position.sources.values()):
            return None
        while True:
            try:
                if self._reader is None:
                    self._reader = await LogReader(self._kafka).__aenter__()
                return await self._reader.differs(partition, position.sources)
            except (KafkaError, OSError) as error:
                log.warning("%s is not compared with its log yet, trying again: %r", path, error)
                await self.close()
            await asyncio.sleep(AGAIN_S)

    async def close(self) -> None:
        """Ends the connection."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.__aexit__(None, None, None)
