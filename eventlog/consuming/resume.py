"""Finds where a consumer group stands from what the group wrote, whatever is committed for it.

A sequencer copies each source in order, and repeats change nothing. So every record before the newest copy in the inbox
is in the inbox, and the sequencer may go on after the record that this copy names. Effects are asked by the decision
log and answered in it: they may begin at the oldest decision with a call that has no answer there.

Where nothing is committed, that is the start. Where an offset is committed, the lesser of the two is: a broker lets
whoever may join a group commit any offset, and records would be passed over without a word. `StartNotProven` says why a
start can't be shown to lose nothing; a person then decides (`groupbuy-ops offsets recover`).
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

from eventlog.broker.partition_reader import PORTION, Partitions
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

#: Seconds for which a broker that does not answer is asked again, and between two questions.
PATIENCE_S, PAUSE_S = 60.0, 1.0
#: Records of a log that a start looks at first, ten times as many at each further look, and at most.
LOOK_BACK, LOOK_BACK_AT_MOST = 200, 200_000
#: Records of a source that are read again at most where not every one has a copy.
READ_AGAIN = 100_000


class StartNotProven(EventLogError):
    """The log does not show what the group had read. The message says what is missing."""


class ProvenStart(NamedTuple):
    """An offset from which nothing is lost, and why."""

    offset: int
    why: str


class Source(NamedTuple):
    """Where a copied record stood before."""

    topic: str
    partition: int
    offset: int


@runtime_checkable
class TracesCopies(Protocol):
    """Copying rules that can say where an inbox record was copied from."""

    def source_of(self, value: bytes) -> Source | None:
        """The source of an inbox record; None for one that was not copied, or can't be decoded."""
        ...


class PendingCalls(Protocol):
    """The calls of one partition of a decision log that have no answer in it."""

    def take(self, record: Any) -> None:
        """Takes the next decision record, in the order of the log."""
        ...

    def earliest(self) -> int | None:
        """Offset of the oldest decision that asks for a call without an answer; None: every call has one."""
        ...


@runtime_checkable
class CopiesAll(Protocol):
    """Copying rules that can say whether every record of a topic has a copy, or an inbox record that rejects it."""

    def copies_all(self, topic: str) -> bool:
        """Whether no record of the topic that can be decoded is left out."""
        ...


@runtime_checkable
class TracesCalls(Protocol):
    """Calling rules that can say which calls a decision log leaves without an answer."""

    def pending_calls(self) -> PendingCalls:
        """Knows no record yet."""
        ...


class RequestedCall(NamedTuple):
    """A call that a decision asks for."""

    name: str
    #: Inbox offset of the decision's cause: the answer stands behind it.
    cause: int


@runtime_checkable
class TracesCallsByRecord(Protocol):
    """Calling rules that can tell calls and answers record by record. Neither raises: a foreign record holds none."""

    def requested_calls(self, value: bytes) -> Sequence[RequestedCall]:
        """The calls that a decision asks for."""
        ...

    def answered_call(self, value: bytes) -> str | None:
        """The call that an inbox record is the answer to, where it was made here."""
        ...


async def after_newest_copy(
    kafka: Kafka, source: TP, begin: int, end: int, inbox: str, copies: TracesCopies, *, portion: int = PORTION
) -> ProvenStart:
    """Where a sequencer goes on in a source whose log reaches from `begin` to `end`. Raises StartNotProven."""

    def of_source(record: Any) -> int | None:
        found = copies.source_of(record.value or b"")
        return found.offset if found is not None and found[:2] == (source.topic, source.partition) else None

    tp = TopicPartition(inbox, source.partition)
    async with Partitions(kafka, [tp]) as scanned:
        copied = await scanned.newest(tp, of_source, portion)
    if copied is None:
        if begin == 0:
            return ProvenStart(
                0, f"{inbox} holds no copy of it: the sequencer copies all of it, and repeats change nothing"
            )
        raise StartNotProven(f"{inbox} holds no copy of it, and its records before {begin} are gone")
    if copied + 1 < begin:
        raise StartNotProven(
            f"the newest copy in {inbox} is of {copied}, and its records from there to {begin} are gone"
        )
    if copied + 1 > end:
        raise StartNotProven(f"{inbox} holds a copy of {copied}, and the topic ends at {end}: it is another topic")
    return ProvenStart(copied + 1, f"the newest copy in {inbox} is of {copied}")


async def before_oldest_pending_call(
    kafka: Kafka, decisions: TP, begin: int, end: int, calls: TracesCalls
) -> ProvenStart:
    """Where effects go on in a decision log that reaches from `begin` to `end`. Raises StartNotProven."""
    if begin > 0:
        raise StartNotProven(f"its records before {begin} are gone, so calls may be missing")
    unsettled = calls.pending_calls()
    tp = TopicPartition(decisions.topic, decisions.partition)
    async with Partitions(kafka, [tp]) as partition:
        count = 0
        async for record in partition.records(tp, 0, end):
            unsettled.take(record)
            count += 1
            if not count & 255:
                await asyncio.sleep(0)
    earliest = unsettled.earliest()
    if earliest is None:
        return ProvenStart(end, "every call that it asks for has an answer")
    return ProvenStart(earliest, f"the oldest call without an answer is asked for at {earliest}")


def sequencer_start(kafka: Kafka, inbox: str, copies: object) -> StartPolicy:
    """The committed offset of a source, but never beyond what the inbox shows."""
    return _SequencerStart(kafka, inbox, copies) if isinstance(copies, TracesCopies) else at_committed


def effects_start(kafka: Kafka, calls: object, inbox: str) -> StartPolicy:
    """The committed offset of a decision log, but never beyond a call without an answer."""
    if not isinstance(calls, TracesCalls):
        return at_committed
    return _EffectsStart(kafka, calls, inbox)


class _Start(ABC):
    """A StartPolicy that reads logs; see BulkStartPolicy."""

    def __call__(self, tp: TP, committed: int | None, begin: int, end: int) -> Awaitable[int]:
        return self._one(tp, InputOffsets(committed, begin, end))

    async def _one(self, tp: TP, place: InputOffsets) -> int:
        return (await self.starts({tp: place}))[tp]

    async def starts(self, places: Mapping[TP, InputOffsets]) -> Mapping[TP, int]:
        """See BulkStartPolicy."""
        found: dict[TP, int] = {}
        claimed: dict[TP, InputOffsets] = {}
        for tp, place in places.items():
            if place.end == 0 and not place.committed:
                found[tp] = 0
            elif place.committed is None:
                found[tp] = await self._forgotten(tp, place)
            else:
                claimed[tp] = place
        if claimed:
            found.update(await _answered("where to go on", lambda: self._claimed(claimed)))
        return found

    async def _forgotten(self, tp: TP, place: InputOffsets) -> int:
        try:
            resumed = await _answered(f"{tp.topic}-{tp.partition}: where to go on", lambda: self._find(tp, place))
        except StartNotProven as error:
            abort(f"no committed offset, and {error}: {RECOVERY_HINT}", topic=tp.topic, partition=tp.partition)
        log_forgotten_offset(tp, *resumed)
        return resumed.offset

    @abstractmethod
    async def _find(self, tp: TP, place: InputOffsets) -> ProvenStart:
        """Where to go on without a committed offset. Raises StartNotProven."""

    @abstractmethod
    async def _claimed(self, places: Mapping[TP, InputOffsets]) -> dict[TP, int]:
        """Where to go on in partitions whose committed offsets are claims."""


class _SequencerStart(_Start):
    def __init__(self, kafka: Kafka, inbox: str, copies: TracesCopies) -> None:
        self._kafka = kafka
        self._inbox = inbox
        self._copies = copies

    async def _find(self, tp: TP, place: InputOffsets) -> ProvenStart:
        return await after_newest_copy(self._kafka, tp, place.begin, place.end, self._inbox, self._copies)

    async def _claimed(self, places: Mapping[TP, InputOffsets]) -> dict[TP, int]:
        copied, whole = await self._newest(places)
        return {tp: self._start(tp, place, copied.get(tp), tp.partition in whole) for tp, place in places.items()}

    def _start(self, tp: TP, place: InputOffsets, copied: int | None, whole: bool) -> int:
        """`copied` is the newest record with a copy in what was looked at; `whole`: that was all of the inbox."""
        committed, begin, end = place
        assert committed is not None
        every = isinstance(self._copies, CopiesAll) and self._copies.copies_all(tp.topic)
        if copied is None and not whole:
            # The newest copy is older than what was looked at.
            own = min(committed, end)
        else:
            own = begin if copied is None else copied + 1
            if own > end:
                abort("the inbox holds a copy of a record beyond the log's end", topic=tp.topic, partition=tp.partition)
            if not every:
                # After the last copy may lie any number of records that nobody heeds.
                own = max(own, min(committed, end) - READ_AGAIN)
        if committed > end or committed < begin <= own:
            log_foreign_commit(tp, committed, begin, end, own)
            return max(own, begin)
        if committed < begin:
            return check_in_log(tp, committed, begin, end)
        return max(min(committed, own), begin)

    async def _newest(self, places: Mapping[TP, InputOffsets]) -> tuple[dict[TP, int], set[int]]:
        """The greatest offset of each source with a copy near the inbox's end; partitions that were read from 0 on.

        All records before it have copies: each owner begins where the one before had come to.
        """
        partitions = sorted({tp.partition for tp in places})
        wanted = {partition: {tp for tp in places if tp.partition == partition} for partition in partitions}
        found: dict[TP, int] = {}
        whole: set[int] = set()
        async with Partitions(self._kafka, [TopicPartition(self._inbox, one) for one in partitions]) as inbox:
            lasts = dict(inbox.ends)
            span = LOOK_BACK
            while lasts:
                ranges = {tp: (max(inbox.begins[tp], last - span), last) for tp, last in lasts.items()}
                async with aclosing(inbox.ranges(ranges)) as records:
                    async for tp, record in records:
                        source = self._copies.source_of(record.value or b"")
                        if source is not None and source.partition == tp.partition:
                            at = TP(source.topic, source.partition)
                            found[at] = max(source.offset, found.get(at, -1))
                whole |= {tp.partition for tp, (first, _) in ranges.items() if first == 0}
                lasts = {
                    tp: first
                    for tp, (first, _) in ranges.items()
                    if first > max(inbox.begins[tp], inbox.ends[tp] - LOOK_BACK_AT_MOST)
                    and not wanted[tp.partition] <= found.keys()
                }
                span *= 10
        return {tp: found[tp] for tp in places if tp in found}, whole


class _EffectsStart(_Start):
    def __init__(self, kafka: Kafka, calls: TracesCalls, inbox: str) -> None:
        self._kafka = kafka
        self._calls = calls
        self._inbox = inbox

    async def _find(self, tp: TP, place: InputOffsets) -> ProvenStart:
        return await before_oldest_pending_call(self._kafka, tp, place.begin, place.end, self._calls)

    async def _claimed(self, places: Mapping[TP, InputOffsets]) -> dict[TP, int]:
        """Looks at decisions before the committed offset, and further back as long as calls there have no answer."""
        starts: dict[TP, int] = {}
        for tp, (committed, begin, end) in places.items():
            assert committed is not None
            if committed > end:
                log_foreign_commit(tp, committed, begin, end, end)
            starts[tp] = check_in_log(tp, min(committed, end), begin, end)
        if not isinstance(self._calls, TracesCallsByRecord):
            return starts
        found = dict(starts)
        left = {tp for tp, start in starts.items() if start > places[tp].begin}
        span = LOOK_BACK
        while left:
            firsts = {tp: max(places[tp].begin, starts[tp] - span) for tp in left}
            unanswered = await self._unanswered(
                self._calls, {TopicPartition(*tp): (first, starts[tp]) for tp, first in firsts.items()}, 10 * span
            )
            again: set[TP] = set()
            for tp in left:
                offset = unanswered.get(tp.partition)
                if offset is None:
                    continue
                found[tp] = offset
                if offset < starts[tp] - span // 2 and firsts[tp] > places[tp].begin and span < LOOK_BACK_AT_MOST:
                    again.add(tp)
            left, span = again, span * 10
        for tp, start in found.items():
            if start < starts[tp]:
                log_unhandled_record(tp, starts[tp], start, "asks for a call that was never made")
        return found

    async def _unanswered(
        self, calls: TracesCallsByRecord, decisions: Mapping[TopicPartition, tuple[int, int]], back: int
    ) -> dict[int, int]:
        """Offset of the first decision of each partition with a call that no record of the inbox's end answers."""
        asked: dict[tuple[int, str], tuple[int, int]] = {}
        async with Partitions(self._kafka, list(decisions)) as log_, aclosing(log_.ranges(decisions)) as records:
            async for tp, record in records:
                for call in calls.requested_calls(record.value or b""):
                    asked[tp.partition, call.name] = record.offset, call.cause
        if not asked:
            return {}
        answered: dict[tuple[int, str], int] = {}
        tps = [TopicPartition(self._inbox, partition) for partition in {partition for partition, _ in asked}]
        async with Partitions(self._kafka, tps) as inbox:
            ends = {tp: (max(inbox.begins[tp], inbox.ends[tp] - back), inbox.ends[tp]) for tp in tps}
            async with aclosing(inbox.ranges(ends)) as records:
                async for tp, record in records:
                    name = calls.answered_call(record.value or b"")
                    if name is not None:
                        answered[tp.partition, name] = record.offset
            begins = {tp.partition: first for tp, (first, _) in ends.items()}
        found: dict[int, int] = {}
        for (partition, name), (offset, cause) in asked.items():
            # An answer that may stand before what was looked at is taken for one.
            if answered.get((partition, name), -1) <= cause and cause >= begins[partition]:
                found[partition] = min(offset, found.get(partition, offset))
        return found


async def _answered(what: str, find: Callable[[], Awaitable[T]]) -> T:
    until = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        try:
            return await find()
        except (KafkaError, OSError, TimeoutError) as error:
            if asyncio.get_running_loop().time() > until:
                raise
            log.warning("%s is not known yet: %r", what, error)
            await asyncio.sleep(PAUSE_S)
