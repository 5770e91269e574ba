"""The followers of a standby: opening, folding, writing, dropping, and the hand-over to the processor.

A follower that meets a gap, a fork or an undecodable record is dropped, with an error in the log. The process
continues: the partition's owner handles the record.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from eventlog.processors.standby.stop_signal import StopSignal
from eventlog.runtime.time_slice import TimeSlice
from eventlog.state.follower import Follower

log = logging.getLogger(__name__)

#: Records that one poll of the logs returns at most.
POLL_RECORDS = 128
#: Records folded before the time slice is checked.
FOLD_BATCH = 16
#: Folded records after which a follower is written, of one follower and of all: they bound the memory.
MAX_UNWRITTEN = 4_000
MAX_UNWRITTEN_OF_ALL = 16_000
#: Seconds after which folded records are written.
MAX_UNWRITTEN_S = 5.0
#: Records that all followers together may be behind and count as near the ends of their logs: a third of a second of
#: folding, which a take-over may have left to do.
NEAR_RECORDS = 10_000
#: After a yield in which other tasks ran for BUSY_S or more, followers near the ends pause for PAUSE_FACTOR times as
#: long, MAX_PAUSE_S at most. Followers further behind only yield.
BUSY_S = 0.000_5
PAUSE_FACTOR = 3
MAX_PAUSE_S = 0.05
#: Seconds that `close` waits for databases that are being opened before it cancels them.
OPEN_S = 2.0


class StandbyHost(Protocol):
    """The processor of a standby."""

    @property
    def followed(self) -> set[int] | None:
        """Partitions that this process follows by the group's last assignment; None while there is no assignment."""
        ...

    def owns(self, partition: int) -> bool:
        """Whether the partition is assigned to this process, so that the processor adopts it or has done so."""
        ...

    def holds(self, partition: int) -> bool:
        """Whether the processor has the partition's database open, or is still closing it."""
        ...

    def written_at(self, partition: int) -> float:
        """Time of the newest state on disk, in seconds since the epoch; 0 if there is none."""
        ...

    async def follow(self, partition: int) -> Follower:
        """Opens the partition's database, verified against its logs. It is cancelled only by a stop.

        Raises KafkaError if the broker can't be reached, and any other error if the logs can't be followed.
        """
        ...


class FollowedPartition:
    """One follower, and how far its logs reach."""

    def __init__(self, follower: Follower) -> None:
        self.follower = follower
        #: Held while the follower folds or writes.
        self.lock = asyncio.Lock()
        #: Whether it was adopted or dropped. From then on nothing is folded into it or written.
        self.ended = False
        #: Folded records that are not written, and the monotonic time of the first of them.
        self.unwritten = 0
        self.unwritten_since = 0.0
        #: The broker's time of the record folded last, by topic.
        self.times: dict[str, int] = {}
        #: Next offset to read, by topic, and the known end of the log.
        self.reached: dict[str, int] = dict(follower.positions)
        self.ends: dict[str, int] = {}

    @property
    def behind(self) -> int:
        """Records between the next offsets and the known ends."""
        return sum(max(end - self.reached.get(topic, 0), 0) for topic, end in self.ends.items())


class Followers:
    """All followers of one standby, by partition."""

    def __init__(self, group: str, host: StandbyHost, stop: StopSignal) -> None:
        self._group = group
        self._host = host
        self._stop = stop
        self.by_partition: dict[int, FollowedPartition] = {}
        #: Changes whenever a follower is added or removed.
        self.version = 0
        #: Records folded so far.
        self.folded = 0
        #: Databases that are being opened. Only `close` cancels them: a thread may be opening the files.
        self._opening: dict[int, asyncio.Task[None]] = {}
        #: Partitions whose logs can't be followed. They stay dropped while this process is assigned their standby.
        self._rejected: set[int] = set()
        self._writes: set[asyncio.Task[None]] = set()

    @property
    def behind(self) -> int:
        """Records to the known ends of all followed logs."""
        return sum(one.behind for one in self.by_partition.values())

    # Opening and hand-over ------------------------------------------------------------------------------------------

    async def open(self, partitions: Iterable[int]) -> None:
        """Opens partitions, all at once since each queries the broker. Raises KafkaError and OSError."""
        await asyncio.gather(*map(self._open, partitions))

    async def _open(self, partition: int) -> None:
        opening = self._opening.get(partition)
        if opening is None:
            if self._host.holds(partition) or partition in self.by_partition:
                # In the first case it was revoked a moment ago; the next update tries again.
                return
            opening = asyncio.get_running_loop().create_task(self._opened(partition), name=f"{self._group}.open")
            opening.add_done_callback(_retrieve)
            self._opening[partition] = opening
        await asyncio.shield(opening)

    async def _opened(self, partition: int) -> None:
        try:
            follower = await self._host.follow(partition)
            if self._stop.is_set:
                follower.close()
                return
            self.by_partition[partition] = FollowedPartition(follower)
            self.version += 1
            log.info("%s: partition %s is followed from %s", self._group, partition, dict(follower.positions))
        except (KafkaError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - anything that its logs may cause
            self._reject(partition, error)
        finally:
            del self._opening[partition]

    async def adopt(self, partition: int) -> Follower | None:
        """Removes a follower and returns it, or None if there is none. Waits while it is opened or written."""
        self._rejected.discard(partition)
        opening = self._opening.get(partition)
        if opening is not None:
            await asyncio.wait([opening])
        followed = self._remove(partition)
        if followed is None:
            return None
        async with followed.lock:
            pass
        if followed.follower.closed:
            return None
        log.info("%s: partition %s is adopted at %s", self._group, partition, dict(followed.follower.positions))
        return followed.follower

    async def update(self) -> None:
        """Follows the partitions of the last assignment, and drops the others. Raises KafkaError and OSError."""
        wanted = self._host.followed
        if wanted is None:
            # Before the first assignment, or between two: any of the followers may be adopted.
            return
        self._rejected &= wanted
        for partition in list(self.by_partition):
            if partition not in wanted and not self._host.owns(partition):
                await self.drop(partition)
        missing = wanted - self.by_partition.keys() - self._rejected
        await self.open(one for one in sorted(missing) if not self._host.owns(one))

    async def drop(self, partition: int) -> None:
        """Writes and closes a follower."""
        followed = self.by_partition.get(partition)
        if followed is None:
            return
        await self.write(followed)
        # It may have been adopted meanwhile.
        if self.by_partition.get(partition) is followed:
            self._remove(partition)
            async with followed.lock:
                followed.follower.close()

    async def close(self) -> None:
        """Writes and closes all followers, once the stop signal is set."""
        if self._opening:
            await asyncio.wait(list(self._opening.values()), timeout=OPEN_S)
        openings = list(self._opening.values())
        for opening in openings:
            opening.cancel()
        await asyncio.gather(*openings, return_exceptions=True)
        for partition in list(self.by_partition):
            await self.drop(partition)

    def _remove(self, partition: int) -> FollowedPartition | None:
        followed = self.by_partition.pop(partition, None)
        if followed is not None:
            followed.ended = True
            self.version += 1
        return followed

    def fail(self, followed: FollowedPartition, error: Exception) -> None:
        """Drops a follower whose logs can't be folded. The caller holds its lock."""
        partition = followed.follower.partition
        if self.by_partition.get(partition) is followed:
            self._remove(partition)
        followed.follower.close()
        self._reject(partition, error)

    def _reject(self, partition: int, error: Exception) -> None:
        self._rejected.add(partition)
        log.error("%s: partition %s is not followed: %r", self._group, partition, error)

    # Folding and writing --------------------------------------------------------------------------------------------

    async def fold(self, tp: TopicPartition, records: Sequence[Any]) -> None:
        """Folds the next records of a log, and writes the follower if it has many unwritten ones."""
        followed = self.by_partition.get(tp.partition)
        if followed is None:
            return
        async with followed.lock:
            slices = TimeSlice()
            for first in range(0, len(records), FOLD_BATCH):
                if followed.ended:
                    return
                some = records[first : first + FOLD_BATCH]
                try:
                    followed.follower.apply(tp.topic, some)
                except Exception as error:  # noqa: BLE001 - see the module
                    self.fail(followed, error)
                    return
                self.folded += len(some)
                followed.times[tp.topic] = some[-1].timestamp
                followed.unwritten_since = followed.unwritten_since if followed.unwritten else time.monotonic()
                followed.unwritten += len(some)
                if slices.expired():
                    slices = await _yield_to_others(slices, near=self.behind <= NEAR_RECORDS)
        share = max(MAX_UNWRITTEN_OF_ALL // max(len(self.by_partition), 1), POLL_RECORDS)
        if followed.unwritten >= min(MAX_UNWRITTEN, share):
            await self.write(followed)

    async def write_old(self) -> None:
        """Writes the followers whose first unwritten record was folded MAX_UNWRITTEN_S ago."""
        for followed in list(self.by_partition.values()):
            if followed.unwritten and time.monotonic() - followed.unwritten_since >= MAX_UNWRITTEN_S:
                await self.write(followed)

    async def write(self, followed: FollowedPartition) -> None:
        """Writes a follower. If the caller is cancelled, the write is completed all the same: a thread does it."""
        write = asyncio.get_running_loop().create_task(self._write(followed), name=f"{self._group}.standby-write")
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
        await asyncio.shield(write)

    async def _write(self, followed: FollowedPartition) -> None:
        async with followed.lock:
            if followed.ended or not followed.unwritten:
                return
            followed.unwritten = 0
            try:
                await followed.follower.persist()
            except Exception as error:  # noqa: BLE001 - an encoder may fail at what was folded
                self.fail(followed, error)


def topic_partitions(topics: Sequence[str], partitions: Iterable[int]) -> list[TopicPartition]:
    """Every topic's partition with one of these numbers, by partition."""
    return [TopicPartition(topic, partition) for partition in partitions for topic in topics]


def _retrieve(task: asyncio.Task[None]) -> None:
    """Retrieves the result of a task that may have no waiter left; otherwise asyncio logs its error."""
    if not task.cancelled():
        task.exception()


async def _yield_to_others(slices: TimeSlice, *, near: bool) -> TimeSlice:
    began = time.perf_counter()
    await slices.yield_to_loop()
    busy_s = time.perf_counter() - began
    if near and busy_s >= BUSY_S:
        await asyncio.sleep(min(busy_s * PAUSE_FACTOR, MAX_PAUSE_S))
    return TimeSlice()
