"""Standbys: state of partitions that another process owns, kept on disk close to the ends of its logs.

A processor with state has one Standby. It reads the logs of the partitions that it follows with a plain consumer, which
is in no group, and folds them into the same databases that the processor uses. It serves no reads and writes nothing to
Kafka. Faust's own standbys are off: they lose queued batches when its flow control resumes twice.

Which partitions it follows. The group's leader assigns standbys together with the partitions (ownership.py): so many
members for each partition as the setting says, spread evenly, kept as long as they fit, and promoted first when an
owner leaves. So the follower of a partition is also the process that gets it. A choice by a hash of the members'
addresses would need no leader, but the leader would not follow it when it hands out the partitions of a lost member.
A process that is alone in its group follows nothing.

Before it joins. A process that is not in the group yet brings all partitions near the ends of their logs, because it
may get any of them; it takes `warm_s` seconds at most, and begins with the newest state on disk. Two cases are quicker.
If no other process is in the group, nobody answers meanwhile, so it joins at once. A static member that restarts within
its session brings only the partitions near the end that are still assigned to it, which its recovery would do anyway.

At an assignment the processor adopts the open follower: no database is opened twice, and nothing is folded again. From
then on the Standby does not touch it. A follower that meets a hole, a fork or an undecodable record is dropped with an
error in the log, and the process goes on: the owner of the partition decides what such a record means.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from eventlog.broker.group_members import Member, members_of
from eventlog.broker.security import Kafka, client
from eventlog.processors.base import Connection
from eventlog.processors.time_slice import TimeSlice
from eventlog.state.follower import Follower

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Bytes that one fetch brings of a partition and of all partitions, and that the broker gathers before it answers.
PARTITION_BYTES = 1 << 20
FETCH_BYTES = 8 << 20
GATHER_BYTES = 256 << 10
#: Milliseconds that the broker gathers at most, and that the Standby waits for records.
GATHER_MS = 300
WAIT_MS = 200
#: Records taken from the client in one go, and folded before the clock is looked at.
TAKEN = 128
FOLDED_BATCH = 16
#: Folded records of one partition, and of all, after which they are written, which bounds the memory of followers; and
#: the age of folded records that makes a write due.
UNWRITTEN = 4_000
UNWRITTEN_OF_ALL = 16_000
KEEP_S = 5.0
#: Records behind the ends of their logs up to which all followers together are near them: a third of a second of
#: folding, which a take-over may have left to do.
NEAR = 10_000
#: After a slice in which others used the event loop for BUSY_S or more, followers near the ends pause for GIVES_WAY
#: times as long, PAUSE_S at most. When they are further behind they only yield.
BUSY_S = 0.000_5
GIVES_WAY = 3
PAUSE_S = 0.05
#: Seconds between two looks at which partitions are to be followed.
POLL_INTERVAL_S = 0.5
#: Seconds after an error until the next try.
RETRY_S = 2.0
#: The logs grow while they are folded ahead. Once it took no longer than this to reach their ends, it is enough.
ENOUGH_S = 1.0
#: Seconds between two lines about the progress before joining.
REPORT_S = 5.0
#: Seconds that a stop waits for an opening under way before it cancels it.
OPEN_S = 2.0
#: Seconds that the broker gets to say who is in the group.
DESCRIBE_S = 10.0


class Place(Protocol):
    """Answers of a processor about its partitions."""

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

    def kept_at(self, partition: int) -> float:
        """Time of the newest state on disk, in seconds since the epoch; 0: there is none."""
        ...

    async def follow(self, partition: int) -> Follower:
        """Opens the partition's database, verified against its logs. It is cancelled at a stop only.

        Raises KafkaError if the broker can't be asked, and any other error if the logs can't be followed.
        """
        ...


class _Interrupted(Exception):
    """`stop` was called."""


class _Following:
    """One follower, and how far its logs reach."""

    def __init__(self, follower: Follower) -> None:
        self.follower = follower
        #: Held while it folds or writes.
        self.lock = asyncio.Lock()
        #: It is adopted or dropped: nobody folds into it or writes it any more.
        self.ended = False
        #: Folded records that are not written, and when the first of them was folded.
        self.unwritten = 0
        self.since = 0.0
        #: The broker's time of the record folded last, by topic.
        self.times: dict[str, int] = {}
        #: Next offset to read, by topic, and the offset at which the log ends as far as is known.
        self.reached: dict[str, int] = dict(follower.positions)
        self.ends: dict[str, int] = {}

    @property
    def behind(self) -> int:
        return sum(max(end - self.reached.get(topic, 0), 0) for topic, end in self.ends.items())


class Standby:
    """Followers of the partitions of one processor. All of it runs on the event loop, but for the writes."""

    def __init__(
        self, group: str, instance: str, topics: Sequence[str], kafka: Kafka, place: Place, *, warm_s: float
    ) -> None:
        """`instance` is the name of this process's static member of `group`; `topics` are the logs that are folded."""
        self._group = group
        self._instance = instance
        self._topics = tuple(topics)
        self._kafka = kafka
        self._place = place
        self._warm_s = warm_s
        self._following: dict[int, _Following] = {}
        #: Followers that are being opened. Nobody cancels one before `stop`: a thread may be opening a database.
        self._opening: dict[int, asyncio.Task[None]] = {}
        #: Partitions dropped for what their logs hold. They stay dropped until they are not followed any more.
        self._refused: set[int] = set()
        self._consumer: Any = None
        #: Whether the consumer's partitions or positions are not those of the followers.
        self._stale = True
        self._stopped = asyncio.Event()
        #: Held by `warm` and by `run`.
        self._active = asyncio.Lock()
        self._writes: set[asyncio.Task[None]] = set()
        #: Records folded so far.
        self.folded = 0

    @property
    def behind(self) -> dict[int, int]:
        """Records to the known ends of the logs, by followed partition."""
        return {partition: following.behind for partition, following in self._following.items()}

    @property
    def positions(self) -> dict[int, dict[str, int]]:
        """Next offsets of the followed partitions, by topic."""
        return {partition: dict(one.follower.positions) for partition, one in self._following.items()}

    # Hand-over ------------------------------------------------------------------------------------------------------

    async def adopt(self, partition: int) -> Follower | None:
        """Ends the following of a partition and hands its follower over; None: there is none.

        Waits for an opening and for a write under way.
        """
        self._refused.discard(partition)
        opening = self._opening.get(partition)
        if opening is not None:
            await asyncio.wait([opening])
        following = self._take(partition)
        if following is None:
            return None
        async with following.lock:
            pass
        if following.follower.closed:
            return None
        log.info("%s: partition %s is adopted at %s", self._group, partition, dict(following.follower.positions))
        return following.follower

    def _take(self, partition: int) -> _Following | None:
        following = self._following.pop(partition, None)
        if following is not None:
            following.ended = True
            self._stale = True
        return following

    # Before joining -------------------------------------------------------------------------------------------------

    async def warm(self, partitions: int) -> None:
        """Brings partitions near the ends of their logs, of which each has so many; see the module.

        Returns early when `stop` is called. An error only ends it: the recovery meets it again and reports it.
        """
        if self._warm_s <= 0:
            return
        began = time.monotonic()
        async with self._active:
            try:
                wanted = await self._wanted(partitions)
                if not wanted:
                    return
                log.info("%s: folding ahead %s of %s partitions", self._group, len(wanted), partitions)
                await self._patiently(self._warm(wanted), self._warm_s)
            except _Interrupted:
                return
            except TimeoutError:
                log.warning("%s: joining after %s s of folding ahead", self._group, self._warm_s)
            except Exception as error:  # noqa: BLE001 - see above
                log.warning("%s: joining without folding ahead: %r", self._group, error)
        seconds, left = time.monotonic() - began, sum(self.behind.values())
        log.info("%s: folded %s records ahead in %.1f s, %s left", self._group, self.folded, seconds, left)

    async def _wanted(self, partitions: int) -> list[int]:
        members = await self._members()
        if self._alone_of(members):
            return []
        newest_first = sorted(range(partitions), key=lambda partition: (-self._place.kept_at(partition), partition))
        own = [member for member in members if member.instance == self._instance]
        assigned = {partition for member in own for some in member.partitions.values() for partition in some}
        if own and not assigned:
            # The group rebalances. What it assigned to us is among what we have.
            assigned = {partition for partition in newest_first if self._place.kept_at(partition)}
        return [partition for partition in newest_first if partition in assigned] or newest_first

    async def _members(self) -> list[Member]:
        return await self._patiently(members_of(self._kafka, self._group), DESCRIBE_S)

    def _alone_of(self, members: Sequence[Member]) -> bool:
        return all(member.instance == self._instance for member in members)

    async def _warm(self, wanted: Sequence[int]) -> None:
        # Each asks the broker, so all are opened at once.
        await asyncio.gather(*map(self._open, wanted))
        reported = time.monotonic()
        while True:
            began = time.monotonic()
            await self._read_followed()
            ends = await self._consumer.end_offsets(self._tps(self._following))
            for tp, end in ends.items():
                self._following[tp.partition].ends[tp.topic] = end
            while focus := self._short_of(ends, wanted):
                await self._read_followed()
                await self._round([focus])
                if time.monotonic() - reported >= REPORT_S:
                    reported = time.monotonic()
                    log.info("%s: folding ahead, %s records left", self._group, sum(self.behind.values()))
                    if self._alone_of(await self._members()):
                        # The others have gone: nobody answers meanwhile.
                        return
            if time.monotonic() - began < ENOUGH_S:
                return

    def _short_of(self, ends: Mapping[TopicPartition, int], wanted: Sequence[int]) -> TopicPartition | None:
        """The log to fold next; None: all are folded to their ends.

        It is one of the first partition that is short of them, so that the first partitions are complete when the time
        is up. Of its logs it is the one that is behind the others in time: a key is then folded from all of them while
        its state is in memory.
        """
        for partition in wanted:
            following = self._following.get(partition)
            if following is not None:
                reached, times = following.reached, following.times
                short = [tp for tp in self._tps([partition]) if reached.get(tp.topic, 0) < ends.get(tp, 0)]
                if short:
                    return min(short, key=lambda tp: times.get(tp.topic, 0))
        return None

    # Afterwards -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follows until `stop`. Errors of the broker and of the logs are logged; none of them ends it."""
        async with self._active:
            while not self._stopped.is_set():
                try:
                    await self._patiently(self._follow(), None)
                except _Interrupted:
                    return
                except Exception as error:
                    expected = isinstance(error, KafkaError | OSError)
                    log.warning("%s: following again after %r", self._group, error, exc_info=not expected)
                await self._disconnect()
                await self._rest(RETRY_S)

    async def stop(self) -> None:
        """Writes and closes all followers. May be called at any time, and again."""
        self._stopped.set()
        async with self._active:
            if self._opening:
                await asyncio.wait(list(self._opening.values()), timeout=OPEN_S)
            openings = list(self._opening.values())
            for opening in openings:
                opening.cancel()
            await asyncio.gather(*openings, return_exceptions=True)
            for partition in list(self._following):
                await self._let_go(partition)
            await self._disconnect()

    async def _follow(self) -> None:
        looked_at = -POLL_INTERVAL_S
        while True:
            if time.monotonic() - looked_at >= POLL_INTERVAL_S:
                await self._look()
                looked_at = time.monotonic()
            if not self._following:
                await self._disconnect()
                await asyncio.sleep(POLL_INTERVAL_S)
                continue
            await self._read_followed()
            await self._round(self._tps(self._following))
            for following in list(self._following.values()):
                if following.unwritten and time.monotonic() - following.since >= KEEP_S:
                    await self._keep(following)

    async def _look(self) -> None:
        """Follows the partitions of the last assignment, and no others."""
        followed = self._place.followed
        if followed is None:
            # Before the first assignment, or between two: any of the followers may be adopted.
            return
        self._refused &= followed
        for partition in list(self._following):
            if partition not in followed and not self._place.owns(partition):
                await self._let_go(partition)
        missing = followed - self._following.keys() - self._refused
        # Each asks the broker, so all are opened at once.
        await asyncio.gather(*(self._open(one) for one in sorted(missing) if not self._place.owns(one)))

    # Followers ------------------------------------------------------------------------------------------------------

    async def _open(self, partition: int) -> None:
        opening = self._opening.get(partition)
        if opening is None:
            if self._place.holds(partition) or partition in self._following:
                # In the first case it was lost a moment ago, and the next look tries again.
                return
            opening = asyncio.get_running_loop().create_task(self._opened(partition), name=f"{self._group}.open")
            opening.add_done_callback(_heard)
            self._opening[partition] = opening
        await asyncio.shield(opening)

    async def _opened(self, partition: int) -> None:
        try:
            follower = await self._place.follow(partition)
            if self._stopped.is_set():
                follower.close()
                return
            self._following[partition] = _Following(follower)
            self._stale = True
            log.info("%s: partition %s is followed from %s", self._group, partition, dict(follower.positions))
        except (KafkaError, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever its logs hold
            self._refuse(partition, error)
        finally:
            del self._opening[partition]

    def _refuse(self, partition: int, error: Exception) -> None:
        self._refused.add(partition)
        log.error("%s: partition %s is not followed: %r", self._group, partition, error)

    async def _let_go(self, partition: int) -> None:
        following = self._following.get(partition)
        if following is None:
            return
        await self._keep(following)
        # It may have been adopted meanwhile.
        if self._following.get(partition) is following:
            self._take(partition)
            async with following.lock:
                following.follower.close()

    async def _keep(self, following: _Following) -> None:
        """Writes a follower. Runs to its end also if the caller is cancelled: a thread writes."""
        write = asyncio.get_running_loop().create_task(self._write(following), name=f"{self._group}.standby-write")
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
        await asyncio.shield(write)

    async def _write(self, following: _Following) -> None:
        async with following.lock:
            if following.ended or not following.unwritten:
                return
            following.unwritten = 0
            try:
                await following.follower.keep()
            except Exception as error:  # noqa: BLE001 - an encoder may fail at what was folded
                self._fail(following, error)

    def _fail(self, following: _Following, error: Exception) -> None:
        """Drops a follower. The caller holds its lock."""
        partition = following.follower.partition
        if self._following.get(partition) is following:
            self._take(partition)
        following.follower.close()
        self._refuse(partition, error)

    # Reading --------------------------------------------------------------------------------------------------------

    def _tps(self, partitions: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(topic, partition) for partition in partitions for topic in self._topics]

    async def _read_followed(self) -> None:
        """Makes the consumer read the followed partitions from where they are folded to."""
        if self._consumer is None:
            await self._connect()
        if not self._stale:
            return
        self._stale = False
        tps = self._tps(self._following)
        self._consumer.assign(tps)
        begins = await self._consumer.beginning_offsets(tps) if tps else {}
        for tp in tps:
            following = self._following.get(tp.partition)
            if following is not None:
                at = max(following.follower.positions.get(tp.topic, 0), begins[tp])
                self._consumer.seek(tp, at)
                following.reached[tp.topic] = at

    async def _connect(self) -> None:
        consumer = AIOKafkaConsumer(
            **client(self._kafka),
            client_id=f"{self._instance}.standby",
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=PARTITION_BYTES,
            fetch_max_bytes=FETCH_BYTES,
            fetch_min_bytes=GATHER_BYTES,
            fetch_max_wait_ms=GATHER_MS,
        )
        try:
            await consumer.start()
        except BaseException:
            await consumer.stop()
            raise
        self._consumer = consumer
        self._stale = True

    async def _disconnect(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()

    async def _round(self, tps: Sequence[TopicPartition]) -> None:
        """Takes records that have come, or waits for some, and folds them."""
        try:
            fetched = await self._consumer.getmany(*tps, timeout_ms=WAIT_MS, max_records=TAKEN)
            for tp, records in fetched.items():
                await self._fold(tp, records)
        except OffsetOutOfRangeError as error:
            self._stale = True
            await self._out_of_range(error.args[0])
            return
        except BaseException:
            # What was taken and is not folded is read again.
            self._stale = True
            raise
        if self._stale:
            return
        for tp in tps:
            following = self._following[tp.partition]
            following.reached[tp.topic] = await self._consumer.position(tp)
            following.ends[tp.topic] = max(self._consumer.highwater(tp) or 0, following.ends.get(tp.topic, 0))

    async def _out_of_range(self, offsets: dict[TopicPartition, int]) -> None:
        """Drops followers that are beyond the ends of their logs. Those before the beginning are read on from there."""
        ends = await self._consumer.end_offsets(list(offsets))
        for tp, offset in offsets.items():
            following = self._following.get(tp.partition)
            if following is not None and offset > ends[tp]:
                async with following.lock:
                    self._fail(following, EndsEarly(f"{tp.topic}-{tp.partition} ends at {ends[tp]}, read to {offset}"))

    async def _fold(self, tp: TopicPartition, records: Sequence[Any]) -> None:
        following = self._following.get(tp.partition)
        if following is None:
            return
        async with following.lock:
            slices = TimeSlice()
            for first in range(0, len(records), FOLDED_BATCH):
                if following.ended:
                    return
                some = records[first : first + FOLDED_BATCH]
                try:
                    following.follower.apply(tp.topic, some)
                except Exception as error:  # noqa: BLE001 - see the module
                    self._fail(following, error)
                    return
                self.folded += len(some)
                following.times[tp.topic] = some[-1].timestamp
                following.since = following.since if following.unwritten else time.monotonic()
                following.unwritten += len(some)
                if slices.expired():
                    slices = await _give_way(slices, near=sum(self.behind.values()) <= NEAR)
        if following.unwritten >= min(UNWRITTEN, max(UNWRITTEN_OF_ALL // max(len(self._following), 1), TAKEN)):
            await self._keep(following)

    # Waiting --------------------------------------------------------------------------------------------------------

    async def _rest(self, seconds: float) -> None:
        """Sleeps, but no longer than until `stop`."""
        try:
            await asyncio.wait_for(self._stopped.wait(), seconds)
        except TimeoutError:
            return

    async def _patiently(self, work: Coroutine[Any, Any, T], seconds: float | None) -> T:
        """Works until `stop`, and for so many seconds at most. Raises _Interrupted or TimeoutError then."""
        loop = asyncio.get_running_loop()
        task, stopped = loop.create_task(work), loop.create_task(self._stopped.wait())
        try:
            await asyncio.wait([task, stopped], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done() and task.cancelled():
                raise KafkaError("a call was cancelled from inside")
            if task.done():
                return task.result()
            raise _Interrupted if self._stopped.is_set() else TimeoutError
        finally:
            for one in (task, stopped):
                one.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)


class EndsEarly(Exception):
    """A log ends before the place to which it was folded."""


class Keeper(Place, Protocol):
    """A processor that keeps its partitions on disk."""

    group: str
    connection: Connection


def following(processor: Keeper, topics: Sequence[str]) -> Standby:
    """The standby of a processor that folds these topics, as its connection says."""
    connection = processor.connection
    instance = f"{connection.instance}.{processor.group}"
    return Standby(processor.group, instance, topics, connection.kafka, processor, warm_s=connection.warm_s)


def kept_at(directory: Path) -> float:
    """Time of the newest file of a database, in seconds since the epoch; 0: there is none."""
    try:
        return max(one.stat().st_mtime for one in directory.iterdir())
    except (OSError, ValueError):
        return 0.0


def _heard(task: asyncio.Task[None]) -> None:
    """Takes the result of a task that nobody may be waiting for any more."""
    if not task.cancelled():
        task.exception()


async def _give_way(slices: TimeSlice, *, near: bool) -> TimeSlice:
    began = time.perf_counter()
    await slices.yield_to_loop()
    busy_s = time.perf_counter() - began
    if near and busy_s >= BUSY_S:
        await asyncio.sleep(min(busy_s * GIVES_WAY, PAUSE_S))
    return TimeSlice()
