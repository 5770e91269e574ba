"""Derives where a sequencer or effects resume from their own output, whatever offset is committed.

A sequencer copies each source in order, and duplicates change nothing. So the inbox holds every record of a source
before the newest copy, and the sequencer can resume after the record that this copy names. Effects read calls from a
decision log and find their results in it, so they can resume at the oldest decision with a call without a result.

Without a committed offset, that is the start. With one, the start is the lower of the two: the broker lets any member
of a group commit any offset, and a forged one would silently skip records. `StartNotProven` says why no start can be
shown to lose nothing; an operator then decides (`offsets recover`).
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP

from eventlog.broker.partition_reader import BLOCK, PartitionReader
from eventlog.broker.security import Kafka
from eventlog.consuming.start_policy import (
    RECOVERY_HINT,
    InputOffsets,
    StartPolicy,
    at_committed,
    check_in_log,
    log_foreign_commit,
    log_forgotten_offset,
    log_unhandled_record,
)
from eventlog.core.errors import EventLogError
from eventlog.runtime.abort import abort

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds for which a broker that does not answer is retried, and between two attempts.
RETRY_FOR_S, RETRY_S = 60.0, 1.0
#: Records at the end of a log that a start reads first, and at most. Each further step reads ten times as many.
LOOK_BACK, MAX_LOOK_BACK = 200, 200_000
#: Records of a source that are read again at most if not every record is copied.
MAX_REREAD = 100_000


class StartNotProven(EventLogError):
    """The logs do not show up to where the group had read. The message says what is missing."""


class ProvenStart(NamedTuple):
    """An offset to resume at without a loss, and the proof."""

    offset: int
    why: str


class Source(NamedTuple):
    """The record that an inbox record is a copy of."""

    topic: str
    partition: int
    offset: int


@runtime_checkable
class TracesCopies(Protocol):
    """An InboxMapper that can find the source of an inbox record."""

    def source_of(self, value: bytes) -> Source | None:
        """The source of an inbox record, or None if it is no copy or can't be decoded."""
        ...


class PendingCalls(Protocol):
    """The calls that one partition of a decision log requests, and whose results it does not hold."""

    def take(self, record: Any) -> None:
        """Folds the next decision record of the log."""
        ...

    def earliest(self) -> int | None:
        """Offset of the oldest decision with a call without a result, or None if every call has one."""
        ...


@runtime_checkable
class CopiesAll(Protocol):
    """An InboxMapper that copies or rejects every record of some topics."""

    def copies_all(self, topic: str) -> bool:
        """Whether every decodable record of the topic is copied."""
        ...


@runtime_checkable
class TracesCalls(Protocol):
    """An EffectHandler that can find the pending calls of a decision log."""

    def pending_calls(self) -> PendingCalls:
        """A fold that has no record yet."""
        ...


class RequestedCall(NamedTuple):
    """A call that a decision requests."""

    name: str
    #: Inbox offset of the decision's cause. The result has a higher one.
    cause: int


@runtime_checkable
class TracesCallsByRecord(Protocol):
    """An EffectHandler that can find calls and results in single records. Foreign records hold none."""

    def requested_calls(self, value: bytes) -> Sequence[RequestedCall]:
        """The calls that a decision requests."""
        ...

    def answered_call(self, value: bytes) -> str | None:
        """The call whose result an inbox record is, if effects made it; otherwise None."""
        ...


async def after_newest_copy(
    kafka: Kafka, source: TP, begin: int, end: int, inbox: str, mapper: TracesCopies, *, block: int = BLOCK
) -> ProvenStart:
    """The offset at which a sequencer resumes in a source with a log from `begin` to `end`. Raises StartNotProven."""

    def of_source(record: Any) -> int | None:
        found = mapper.source_of(record.value or b"")
        return found.offset if found is not None and found[:2] == (source.topic, source.partition) else None

    tp = TopicPartition(inbox, source.partition)
    async with PartitionReader(kafka, [tp]) as scanned:
        copied = await scanned.find_newest(tp, of_source, block)
    if copied is None:
        if begin == 0:
            return ProvenStart(
                0, f"{inbox} holds no copy of it: the sequencer copies all of it, and duplicates change nothing"
            )
        raise StartNotProven(f"{inbox} holds no copy of it, and its records before {begin} are gone")
    if copied + 1 < begin:
        raise StartNotProven(
            f"the newest copy in {inbox} is of {copied}, and the records from there to {begin} are gone"
        )
    if copied + 1 > end:
        raise StartNotProven(f"{inbox} holds a copy of {copied}, and the topic ends at {end}: it is another topic")
    return ProvenStart(copied + 1, f"the newest copy in {inbox} is of {copied}")


async def before_oldest_pending_call(
    kafka: Kafka, decisions: TP, begin: int, end: int, handler: TracesCalls
) -> ProvenStart:
    """The offset at which effects resume in a decision log from `begin` to `end`. Raises StartNotProven."""
    if begin > 0:
        raise StartNotProven(f"its records before {begin} are gone, so calls may be missing")
    pending = handler.pending_calls()
    tp = TopicPartition(decisions.topic, decisions.partition)
    async with PartitionReader(kafka, [tp]) as partition:
        count = 0
        async for record in partition.records(tp, 0, end):
            pending.take(record)
            count += 1
            if not count & 255:
                await asyncio.sleep(0)
    earliest = pending.earliest()
    if earliest is None:
        return ProvenStart(end, "every call that it requests has a result")
    return ProvenStart(earliest, f"the oldest call without a result is requested at {earliest}")


def sequencer_start(kafka: Kafka, inbox: str, mapper: object) -> StartPolicy:
    """The committed offset of a source, or the offset after its newest copy in the inbox if that is lower."""
    return _SequencerStart(kafka, inbox, mapper) if isinstance(mapper, TracesCopies) else at_committed


def effects_start(kafka: Kafka, handler: object, inbox: str) -> StartPolicy:
    """The committed offset of a decision log, or the offset of its oldest call without a result if that is lower."""
    if not isinstance(handler, TracesCalls):
        return at_committed
    return _EffectsStart(kafka, handler, inbox)


class _LogStart(ABC):
    """A BulkStartPolicy that reads logs."""

    def __call__(self, tp: TP, committed: int | None, begin: int, end: int) -> Awaitable[int]:
        return self._start_one(tp, InputOffsets(committed, begin, end))

    async def _start_one(self, tp: TP, known: InputOffsets) -> int:
        return (await self.starts({tp: known}))[tp]

    async def starts(self, offsets: Mapping[TP, InputOffsets]) -> Mapping[TP, int]:
        """See BulkStartPolicy."""
        found: dict[TP, int] = {}
        committed: dict[TP, InputOffsets] = {}
        for tp, known in offsets.items():
            if known.end == 0 and not known.committed:
                found[tp] = 0
            elif known.committed is None:
                found[tp] = await self._start_without_commit(tp, known)
            else:
                committed[tp] = known
        if committed:
            found.update(await _retried("the starts of the partitions", lambda: self._starts_with_commit(committed)))
        return found

    async def _start_without_commit(self, tp: TP, known: InputOffsets) -> int:
        try:
            resumed = await _retried(f"{tp.topic}-{tp.partition}: the start", lambda: self._find(tp, known))
        except StartNotProven as error:
            abort(f"no committed offset, and {error}: {RECOVERY_HINT}", topic=tp.topic, partition=tp.partition)
        log_forgotten_offset(tp, *resumed)
        return resumed.offset

    @abstractmethod
    async def _find(self, tp: TP, known: InputOffsets) -> ProvenStart:
        """The start without a committed offset. Raises StartNotProven."""

    @abstractmethod
    async def _starts_with_commit(self, offsets: Mapping[TP, InputOffsets]) -> dict[TP, int]:
        """The starts of partitions with a committed offset."""


class _SequencerStart(_LogStart):
    def __init__(self, kafka: Kafka, inbox: str, mapper: TracesCopies) -> None:
        self._kafka = kafka
        self._inbox = inbox
        self._mapper = mapper

    async def _find(self, tp: TP, known: InputOffsets) -> ProvenStart:
        return await after_newest_copy(self._kafka, tp, known.begin, known.end, self._inbox, self._mapper)

    async def _starts_with_commit(self, offsets: Mapping[TP, InputOffsets]) -> dict[TP, int]:
        copied, whole = await self._newest(offsets)
        return {tp: self._start(tp, known, copied.get(tp), tp.partition in whole) for tp, known in offsets.items()}

    def _start(self, tp: TP, known: InputOffsets, copied: int | None, whole: bool) -> int:
        """`copied` is the newest record whose copy was found, and `whole` whether the whole inbox was searched."""
        committed, begin, end = known
        assert committed is not None
        every = isinstance(self._mapper, CopiesAll) and self._mapper.copies_all(tp.topic)
        if copied is None and not whole:
            # The newest copy is before the records that were searched.
            own = min(committed, end)
        else:
            own = begin if copied is None else copied + 1
            if own > end:
                abort("the inbox holds a copy of a record beyond the log's end", topic=tp.topic, partition=tp.partition)
            if not every:
                # Any number of records without a copy may follow the last copied one.
                own = max(own, min(committed, end) - MAX_REREAD)
        if committed > end or committed < begin <= own:
            log_foreign_commit(tp, committed, begin, end, own)
            return max(own, begin)
        if committed < begin:
            return check_in_log(tp, committed, begin, end)
        return max(min(committed, own), begin)

    async def _newest(self, offsets: Mapping[TP, InputOffsets]) -> tuple[dict[TP, int], set[int]]:
        """Searches the inbox back from its end.

        Returns the highest copied offset of each source, and the partitions that were searched completely.
        All records before such an offset are copied: each owner resumes where its predecessor had arrived.
        """
        partitions = sorted({tp.partition for tp in offsets})
        wanted = {partition: {tp for tp in offsets if tp.partition == partition} for partition in partitions}
        found: dict[TP, int] = {}
        whole: set[int] = set()
        async with PartitionReader(self._kafka, [TopicPartition(self._inbox, one) for one in partitions]) as inbox:
            lasts = dict(inbox.ends)
            span = LOOK_BACK
            while lasts:
                ranges = {tp: (max(inbox.begins[tp], last - span), last) for tp, last in lasts.items()}
                async with aclosing(inbox.ranges(ranges)) as records:
                    async for tp, record in records:
                        source = self._mapper.source_of(record.value or b"")
                        if source is not None and source.partition == tp.partition:
                            at = TP(source.topic, source.partition)
                            found[at] = max(source.offset, found.get(at, -1))
                whole |= {tp.partition for tp, (first, _) in ranges.items() if first == 0}
                lasts = {
                    tp: first
                    for tp, (first, _) in ranges.items()
                    if first > max(inbox.begins[tp], inbox.ends[tp] - MAX_LOOK_BACK)
                    and not wanted[tp.partition] <= found.keys()
                }
                span *= 10
        return {tp: found[tp] for tp in offsets if tp in found}, whole


class _EffectsStart(_LogStart):
    def __init__(self, kafka: Kafka, handler: TracesCalls, inbox: str) -> None:
        self._kafka = kafka
        self._handler = handler
        self._inbox = inbox

    async def _find(self, tp: TP, known: InputOffsets) -> ProvenStart:
        return await before_oldest_pending_call(self._kafka, tp, known.begin, known.end, self._handler)

    async def _starts_with_commit(self, offsets: Mapping[TP, InputOffsets]) -> dict[TP, int]:
        """Searches the decisions before the committed offset, and further back while calls there have no result."""
        starts: dict[TP, int] = {}
        for tp, (committed, begin, end) in offsets.items():
            assert committed is not None
            if committed > end:
                log_foreign_commit(tp, committed, begin, end, end)
            starts[tp] = check_in_log(tp, min(committed, end), begin, end)
        if not isinstance(self._handler, TracesCallsByRecord):
            return starts
        found = dict(starts)
        left = {tp for tp, start in starts.items() if start > offsets[tp].begin}
        span = LOOK_BACK
        while left:
            firsts = {tp: max(offsets[tp].begin, starts[tp] - span) for tp in left}
            without_result = await self._without_result(
                self._handler, {TopicPartition(*tp): (first, starts[tp]) for tp, first in firsts.items()}, 10 * span
            )
            again: set[TP] = set()
            for tp in left:
                offset = without_result.get(tp.partition)
                if offset is None:
                    continue
                found[tp] = offset
                if offset < starts[tp] - span // 2 and firsts[tp] > offsets[tp].begin and span < MAX_LOOK_BACK:
                    again.add(tp)
            left, span = again, span * 10
        for tp, start in found.items():
            if start < starts[tp]:
                log_unhandled_record(tp, starts[tp], start, "requests a call that was never made")
        return found

    async def _without_result(
        self, handler: TracesCallsByRecord, decisions: Mapping[TopicPartition, tuple[int, int]], back: int
    ) -> dict[int, int]:
        """Offset of the first decision of each partition with a call without a result near the end of the inbox."""
        asked: dict[tuple[int, str], tuple[int, int]] = {}
        async with PartitionReader(self._kafka, list(decisions)) as log_, aclosing(log_.ranges(decisions)) as records:
            async for tp, record in records:
                for call in handler.requested_calls(record.value or b""):
                    asked[tp.partition, call.name] = record.offset, call.cause
        if not asked:
            return {}
        answered: dict[tuple[int, str], int] = {}
        tps = [TopicPartition(self._inbox, partition) for partition in {partition for partition, _ in asked}]
        async with PartitionReader(self._kafka, tps) as inbox:
            ends = {tp: (max(inbox.begins[tp], inbox.ends[tp] - back), inbox.ends[tp]) for tp in tps}
            async with aclosing(inbox.ranges(ends)) as records:
                async for tp, record in records:
                    name = handler.answered_call(record.value or b"")
                    if name is not None:
                        answered[tp.partition, name] = record.offset
            begins = {tp.partition: first for tp, (first, _) in ends.items()}
        found: dict[int, int] = {}
        for (partition, name), (offset, cause) in asked.items():
            # If the result may be before the records that were searched, assume that it exists.
            if answered.get((partition, name), -1) <= cause and cause >= begins[partition]:
                found[partition] = min(offset, found.get(partition, offset))
        return found


async def _retried(what: str, find: Callable[[], Awaitable[T]]) -> T:
    until = asyncio.get_running_loop().time() + RETRY_FOR_S
    while True:
        try:
            return await find()
        except (KafkaError, OSError, TimeoutError) as error:
            if asyncio.get_running_loop().time() > until:
                raise
            log.warning("%s can't be determined yet, retrying: %r", what, error)
            await asyncio.sleep(RETRY_S)
