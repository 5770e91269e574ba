"""The databases of a processor's partitions: opened once, kept open over rebalances, closed when they move away."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Collection, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

from eventlog.broker.security import Kafka
from eventlog.records.log_position import LogIdentity
from eventlog.state.database import Database
from eventlog.state.follower import Adopt, Follower
from eventlog.state.verified_open import BrokerQueries, open_verified

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Follower)
F_co = TypeVar("F_co", bound=Follower, covariant=True)
T = TypeVar("T")


class Make(Protocol[F_co]):
    """Makes the state of a partition from its verified database."""

    def __call__(self, partition: int, database: Database, /) -> F_co:
        """Returns the state as it was last written."""
        ...


class OpenPartitions(Generic[F]):
    """Open partitions of one processor. Used on the event loop's thread."""

    def __init__(self, kafka: Kafka, topics: Sequence[str], directory: Path, stamp: str, make: Make[F]) -> None:
        self._kafka = kafka
        self._topics = tuple(topics)
        self._directory = directory
        self._stamp = stamp
        self._make = make
        #: Hands over the standby's follower of a partition, before its database is opened.
        self.adopt: Adopt = _no_standby
        self.held: dict[int, F] = {}
        self._wanted: frozenset[int] = frozenset()
        #: Locked while partitions are opened or closed.
        self._moving = asyncio.Lock()
        self._tasks: set[asyncio.Future[Any]] = set()
        self._queries = BrokerQueries()

    async def take(self, partitions: Collection[int]) -> None:
        """Opens these partitions; those that are open stay as they are. Waits while the broker is away."""
        self._wanted = frozenset(partitions)
        if not self._wanted <= self.held.keys():
            await self._uncancelled(self._take())

    async def _take(self) -> None:
        async with self._moving:
            missing = sorted(self._wanted - self.held.keys())
            for partition in missing:
                adopted = await self.adopt(partition)
                if adopted is not None and not adopted.closed:
                    self.held[partition] = cast(F, adopted)
            missing = [one for one in missing if one not in self.held]
            if missing:
                self.held.update(await self._opened(missing))

    async def open(self, partition: int) -> F:
        """Opens a partition for the standby, which returns it through `adopt`. It is not held until then."""
        return (await self._uncancelled(self._opened([partition])))[partition]

    async def _opened(self, partitions: Sequence[int]) -> dict[int, F]:
        paths = {partition: self._directory / str(partition) for partition in partitions}

        def open_one(partition: int, identity: LogIdentity) -> Database:
            return Database(paths[partition], self._stamp, identity)

        found: dict[int, Database] = {}
        try:
            async for partition, database in open_verified(self._kafka, self._topics, paths, open_one, self._queries):
                found[partition] = database
        except BaseException:
            for one in found.values():
                one.close()
            raise
        return {partition: self._make(partition, one) for partition, one in found.items()}

    async def reopen(self, partition: int) -> F:
        """Closes a held partition without a write, and opens it as it is on disk."""
        return await self._uncancelled(self._reopen(partition))

    async def _reopen(self, partition: int) -> F:
        async with self._moving:
            held = self.held.get(partition)
            if held is not None:
                held.close()
            self.held.update(await self._opened([partition]))
            return self.held[partition]

    async def release_others(self, partitions: Collection[int]) -> None:
        """Writes and closes every partition that is not one of these."""
        self._wanted = frozenset(partitions)
        if not self.held.keys() <= self._wanted:
            await self._uncancelled(self._release())

    async def _release(self) -> None:
        async with self._moving:
            for partition in list(self.held):
                if partition in self._wanted:
                    continue
                one = self.held[partition]
                await one.persist()
                # The partition may have come back during the write.
                if partition not in self._wanted:
                    del self.held[partition]
                    one.close()

    async def close(self) -> None:
        """Writes and closes all partitions. Idempotent."""
        self._queries.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.release_others(())

    async def _uncancelled(self, work: Coroutine[Any, Any, T]) -> T:
        """Completes the work even if the caller is cancelled, so that no database stays open without an owner."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)


def drop_other_layouts(directory: Path, names: Iterable[str]) -> None:
    """Deletes databases that an earlier version of the program stored under other names."""
    for name in names:
        if (directory / name).exists():
            log.info("%s was written by another version: the log is folded again", directory / name)
            shutil.rmtree(directory / name, ignore_errors=True)


async def _no_standby(_: int) -> None:
    return None
