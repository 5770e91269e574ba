"""Standbys: the state of partitions that another process owns, kept on disk close to the ends of their logs.

A processor with state has one Standby. It reads the logs of the partitions that it follows with a consumer of its own
and folds them into the databases that the processor uses. It serves no reads and writes nothing to Kafka. Faust's own
standbys are off: they lose queued batches when Faust resumes its flow control twice.

**Assignment.** The group's leader assigns standbys together with the partitions (eventlog/faust/group/assignor.py):
as many for each partition as `Connection.standbys` says, spread evenly, kept while they fit, and promoted first when
an owner leaves. So the follower of a partition is also the process that receives it. A choice by a hash of the
members' addresses would need no leader, but the leader would not use it to assign the partitions of a lost member.
The only member of a group follows nothing.

**Before it joins** its group, a process warms up (warm_up.py) for `warm_s` seconds at most.

**At an assignment** the processor adopts the open follower, and the Standby does not touch it any more. So no database
is opened twice, and no record is folded twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from aiokafka.errors import KafkaError

from eventlog.broker.security import Kafka
from eventlog.processors.base import Connection
from eventlog.processors.standby.followers import Followers, StandbyHost, topic_partitions
from eventlog.processors.standby.log_reader import LogReader
from eventlog.processors.standby.stop_signal import Stopped, StopSignal
from eventlog.processors.standby.warm_up import WarmUp
from eventlog.state.follower import Follower

log = logging.getLogger(__name__)

#: Seconds between two checks of the assignment.
POLL_INTERVAL_S = 0.5
#: Seconds from an error to the next try.
RETRY_S = 2.0


class Standby:
    """Follows partitions for one processor. Runs on the event loop; only the writes run on threads."""

    def __init__(
        self, group: str, instance: str, topics: Sequence[str], kafka: Kafka, host: StandbyHost, *, warm_s: float
    ) -> None:
        """`instance` is the name of this process's static member of `group`; `topics` are the logs to fold."""
        self._group = group
        self._topics = tuple(topics)
        self._warm_s = warm_s
        self._stop = StopSignal()
        self._followers = Followers(group, host, self._stop)
        self._reader = LogReader(topics, kafka, f"{instance}.standby", self._followers)
        self._warm_up = WarmUp(group, instance, topics, kafka, host, self._followers, self._reader, self._stop)
        #: Held by `warm_up` and by `run`.
        self._active = asyncio.Lock()

    @property
    def folded(self) -> int:
        """Records folded so far."""
        return self._followers.folded

    @property
    def behind(self) -> dict[int, int]:
        """Records to the known ends of the logs, by followed partition."""
        return {partition: one.behind for partition, one in self._followers.by_partition.items()}

    @property
    def positions(self) -> dict[int, dict[str, int]]:
        """Next offsets of the followed partitions, by topic."""
        return {partition: dict(one.follower.positions) for partition, one in self._followers.by_partition.items()}

    async def adopt(self, partition: int) -> Follower | None:
        """Stops following a partition and hands its follower over, or returns None if there is none.

        Waits while the follower is opened or written.
        """
        return await self._followers.adopt(partition)

    async def warm_up(self, partitions: int) -> None:
        """Folds partitions, of so many, to the ends of their logs before the process joins its group; see the module.

        Returns early when `stop` is called. An error only ends the warm-up: the recovery meets it again and reports it.
        """
        if self._warm_s <= 0:
            return
        began = time.monotonic()
        async with self._active:
            try:
                wanted = await self._warm_up.partitions_to_fold(partitions)
                if not wanted:
                    return
                log.info("%s: warming up %s of %s partitions", self._group, len(wanted), partitions)
                await self._stop.run(self._warm_up.fold(wanted), self._warm_s)
            except Stopped:
                return
            except TimeoutError:
                log.warning("%s: joining the group after a warm-up of %s s", self._group, self._warm_s)
            except Exception as error:  # noqa: BLE001 - see above
                log.warning("%s: joining the group without a warm-up: %r", self._group, error)
        seconds, left = time.monotonic() - began, self._followers.behind
        log.info("%s: warm-up folded %s records in %.1f s, %s left", self._group, self.folded, seconds, left)

    async def run(self) -> None:
        """Follows partitions until `stop`. Errors of the broker and of the logs are logged and retried."""
        async with self._active:
            while not self._stop.is_set:
                try:
                    await self._stop.run(self._follow(), None)
                except Stopped:
                    return
                except Exception as error:
                    expected = isinstance(error, KafkaError | OSError)
                    log.warning("%s: following failed, retrying: %r", self._group, error, exc_info=not expected)
                await self._reader.disconnect()
                await self._stop.sleep(RETRY_S)

    async def stop(self) -> None:
        """Writes and closes all followers. May be called at any time, and again."""
        self._stop.set()
        async with self._active:
            await self._followers.close()
            await self._reader.disconnect()

    async def _follow(self) -> None:
        updated = -POLL_INTERVAL_S
        while True:
            if time.monotonic() - updated >= POLL_INTERVAL_S:
                await self._followers.update()
                updated = time.monotonic()
            if not self._followers.by_partition:
                await self._reader.disconnect()
                await asyncio.sleep(POLL_INTERVAL_S)
                continue
            await self._reader.assign_followed()
            await self._reader.poll(topic_partitions(self._topics, self._followers.by_partition))
            await self._followers.write_old()


class StandbyProcessor(StandbyHost, Protocol):
    """A processor that keeps its partitions on disk."""

    group: str
    connection: Connection


def standby_for(processor: StandbyProcessor, topics: Sequence[str]) -> Standby:
    """The standby of a processor that folds these topics, configured by its connection."""
    connection = processor.connection
    instance = f"{connection.instance}.{processor.group}"
    return Standby(processor.group, instance, topics, connection.kafka, processor, warm_s=connection.warm_s)


def written_at(directory: Path) -> float:
    """Modification time of the newest file of a database, in seconds since the epoch; 0 if there is none."""
    try:
        return max(one.stat().st_mtime for one in directory.iterdir())
    except (OSError, ValueError):
        return 0.0
