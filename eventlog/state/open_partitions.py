"""The partitions that a processor keeps on disk: opened once, kept open over rebalances, closed when they move away.

A database is used only after a check against the logs: the cluster's and the topics' ids, and the last folded record of
each topic. A database that does not fit is set aside, and its partition is folded from the logs' beginning.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

from aiokafka.errors import KafkaError

from eventlog.broker.log_identity import LogReader, identity_of
from eventlog.broker.security import Kafka
from eventlog.state.database import Database, until_closed
from eventlog.state.follower import Adopt, Follower

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Follower)
F_co = TypeVar("F_co", bound=Follower, covariant=True)
T = TypeVar("T")

#: Seconds between two attempts to ask a broker that does not answer.
PAUSE_S = 0.5


class Make(Protocol[F_co]):
    """Makes the state of a partition from its verified database."""

    def __call__(self, partition: int, database: Database, /) -> F_co:
        """The state as it was written last."""
        ...


class Holdings(Generic[F]):
    """Open partitions of one processor. Used on the event loop's thread."""

    def __init__(self, kafka: Kafka, topics: Sequence[str], directory: Path, stamp: str, make: Make[F]) -> None:
        self._kafka = kafka
        self._topics = tuple(topics)
        self._directory = directory
        self._stamp = stamp
        self._make = make
        #: Asked for the follower of a partition before its database is opened.
        self.adopt: Adopt = _nobody
        self.held: dict[int, F] = {}
        self._wanted: frozenset[int] = frozenset()
        #: Held while partitions are opened or closed.
        self._moving = asyncio.Lock()
        self._tasks: set[asyncio.Future[Any]] = set()
        #: The question that waits for the broker.
        self._asking: set[asyncio.Future[Any]] = set()
        self._closing = False

    async def take(self, partitions: Collection[int]) -> None:
        """Holds these partitions; those that are held already stay as they are. Waits while the broker is away."""
        self._wanted = frozenset(partitions)
        if not self._wanted <= self.held.keys():
            await self._whole(self._take())

    async def _take(self) -> None:
        async with self._moving:
            missing = sorted(self._wanted - self.held.keys())
            for partition in missing:
                adopted = await self.adopt(partition)
                if adopted is not None and not adopted.closed:
                    self.held[partition] = cast(F, adopted)
            missing = [one for one in missing if one not in self.held]
            if missing:
                self.held.update(zip(missing, await self._opened(missing), strict=True))

    async def open(self, partition: int) -> F:
        """A partition's state for a standby, which hands it back through `adopt`. It is not held until then."""
        (found,) = await self._whole(self._opened([partition]))
        return found

    async def _opened(self, partitions: Sequence[int]) -> list[F]:
        identity = await self._answered(lambda: identity_of(self._kafka, self._topics))
        found: dict[int, Database] = {}
        for partition in partitions:
            path = self._path(partition)
            await until_closed(path)
            found[partition] = await asyncio.to_thread(Database, path, self._stamp, identity)
        try:
            await self._verify(found)
        except BaseException:
            for one in found.values():
                one.close()
            raise
        return [self._make(partition, one) for partition, one in found.items()]

    async def _verify(self, databases: dict[int, Database]) -> None:
        kept = {partition: one for partition, one in databases.items() if not one.position.empty}
        if not kept:
            return

        async def troubles() -> dict[int, str | None]:
            async with LogReader(self._kafka) as reader:
                return {
                    partition: await reader.differs(partition, database.position.sources)
                    for partition, database in kept.items()
                }

        for partition, trouble in (await self._answered(troubles)).items():
            if trouble is not None:
                await asyncio.to_thread(kept[partition].start_again, "another log", trouble)

    def _path(self, partition: int) -> Path:
        return self._directory / str(partition)

    async def reopen(self, partition: int) -> F:
        """Closes a partition that is held, without a write, and opens it as it is on disk."""
        return await self._whole(self._reopen(partition))

    async def _reopen(self, partition: int) -> F:
        async with self._moving:
            held = self.held.get(partition)
            if held is not None:
                held.close()
            (self.held[partition],) = await self._opened([partition])
            return self.held[partition]

    async def release_others(self, partitions: Collection[int]) -> None:
        """Writes and closes every partition that is not one of these."""
        self._wanted = frozenset(partitions)
        if not self.held.keys() <= self._wanted:
            await self._whole(self._release())

    async def _release(self) -> None:
        async with self._moving:
            for partition in list(self.held):
                if partition in self._wanted:
                    continue
                one = self.held[partition]
                await one.keep()
                # It may have come back while it was written.
                if partition not in self._wanted:
                    del self.held[partition]
                    one.close()

    async def close(self) -> None:
        """Writes and closes all partitions. May be called again."""
        self._closing = True
        for asking in self._asking:
            asking.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.release_others(())

    async def _answered(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The broker's answer, asked for again until it comes or the holdings close."""
        while not self._closing:
            asking = asyncio.ensure_future(ask())
            self._asking.add(asking)
            try:
                return await asking
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("the broker can't be asked about the logs yet: %r", error)
            finally:
                self._asking.discard(asking)
            await asyncio.sleep(PAUSE_S)
        raise asyncio.CancelledError

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs to the end also where the caller is cancelled: a database must not stay open unheard of."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)


def drop_other_layouts(directory: Path, names: Iterable[str]) -> None:
    """Deletes databases that an earlier version of the program kept under other names."""
    for name in names:
        if (directory / name).exists():
            log.info("%s was written by another version: the log is folded again", directory / name)
            shutil.rmtree(directory / name, ignore_errors=True)


async def _nobody(_: int) -> None:
    """There is no standby."""
