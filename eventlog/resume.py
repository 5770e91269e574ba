"""Finds where a consumer group stood after the broker forgot its committed offsets, from what the group wrote.

A sequencer copies each source in order, and repeats change nothing. So every record before the newest copy in the inbox
is in the inbox, and the sequencer may go on after the record that this copy names. Effects are asked by the decision
log and answered in it: they may begin at the oldest decision with a call that has no answer there. `Unprovable` says
why a start can't be shown to lose nothing; a person then decides (`groupbuy-ops offsets recover`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, TypeVar, runtime_checkable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP

from eventlog.crash import die
from eventlog.errors import EventLogError
from eventlog.security import Kafka, client
from eventlog.transport.start import RECOVER, StartPolicy, at_committed

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Records of one step back through an inbox.
PORTION = 5_000
#: Seconds without a record after which a read has failed.
SILENCE_S = 30.0
#: Seconds for which a broker that does not answer is asked again, and between two questions.
PATIENCE_S, PAUSE_S = 60.0, 1.0


class Unprovable(EventLogError):
    """The log does not show what the group had read. The message says what is missing."""


class Resumed(NamedTuple):
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


class Unsettled(Protocol):
    """The calls of one partition of a decision log that have no answer in it."""

    def take(self, record: Any) -> None:
        """Takes the next decision record, in the order of the log."""
        ...

    def earliest(self) -> int | None:
        """Offset of the oldest decision that asks for a call without an answer; None: every call has one."""
        ...


@runtime_checkable
class TracesCalls(Protocol):
    """Calling rules that can say which calls a decision log leaves without an answer."""

    def unsettled(self) -> Unsettled:
        """Knows no record yet."""
        ...


class Partition:
    """Reads one partition, outside any consumer group. Use as an async context manager."""

    def __init__(self, kafka: Kafka, topic: str, partition: int) -> None:
        self._tp = TopicPartition(topic, partition)
        self._consumer = AIOKafkaConsumer(
            **client(kafka), enable_auto_commit=False, auto_offset_reset="none", fetch_max_wait_ms=100
        )
        self.begin = self.end = 0

    async def __aenter__(self) -> Self:
        try:
            await self._consumer.start()
            self._consumer.assign([self._tp])
            self.begin = (await self._consumer.beginning_offsets([self._tp]))[self._tp]
            self.end = (await self._consumer.end_offsets([self._tp]))[self._tp]
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    async def records(self, first: int, last: int) -> AsyncIterator[Any]:
        """Records from `first` up to but without `last`. Raises TimeoutError where the broker sends none."""
        if first >= last:
            return
        self._consumer.seek(self._tp, first)
        at = first
        while at < last:
            async with asyncio.timeout(SILENCE_S):
                found: list[Any] = []
                # Compaction leaves holes: the position moves on without a record.
                while not found and at < last:
                    batches = await self._consumer.getmany(self._tp, timeout_ms=500, max_records=PORTION)
                    found = batches.get(self._tp, [])
                    at = await self._consumer.position(self._tp)
            for record in found:
                if record.offset < last:
                    yield record


async def newest(partition: Partition, wanted: Callable[[Any], T | None], *, portion: int = PORTION) -> T | None:
    """What `wanted` makes of the newest record that it does not answer None to; reads backwards in portions."""
    last = partition.end
    while last > partition.begin:
        first = max(partition.begin, last - portion)
        found: T | None = None
        async for record in partition.records(first, last):
            one = wanted(record)
            found = found if one is None else one
        if found is not None:
            return found
        last = first
    return None


async def after_copied(
    kafka: Kafka, source: TP, begin: int, end: int, inbox: str, copies: TracesCopies, *, portion: int = PORTION
) -> Resumed:
    """Where a sequencer goes on in a source whose log reaches from `begin` to `end`. Raises Unprovable."""

    def of_source(record: Any) -> int | None:
        found = copies.source_of(record.value or b"")
        return found.offset if found is not None and found[:2] == (source.topic, source.partition) else None

    async with Partition(kafka, inbox, source.partition) as scanned:
        copied = await newest(scanned, of_source, portion=portion)
    if copied is None:
        if begin == 0:
            return Resumed(
                0, f"{inbox} holds no copy of it: the sequencer copies all of it, and repeats change nothing"
            )
        raise Unprovable(f"{inbox} holds no copy of it, and its records before {begin} are gone")
    if copied + 1 < begin:
        raise Unprovable(f"the newest copy in {inbox} is of {copied}, and its records from there to {begin} are gone")
    if copied + 1 > end:
        raise Unprovable(f"{inbox} holds a copy of {copied}, and the topic ends at {end}: it is another topic")
    return Resumed(copied + 1, f"the newest copy in {inbox} is of {copied}")


async def before_unsettled(kafka: Kafka, decisions: TP, begin: int, end: int, calls: TracesCalls) -> Resumed:
    """Where effects go on in a decision log that reaches from `begin` to `end`. Raises Unprovable."""
    if begin > 0:
        raise Unprovable(f"its records before {begin} are gone, so calls may be missing")
    unsettled = calls.unsettled()
    async with Partition(kafka, decisions.topic, decisions.partition) as partition:
        count = 0
        async for record in partition.records(0, end):
            unsettled.take(record)
            count += 1
            if not count & 255:
                # The heartbeats of the group are sent on this loop.
                await asyncio.sleep(0)
    earliest = unsettled.earliest()
    if earliest is None:
        return Resumed(end, "every call that it asks for has an answer")
    return Resumed(earliest, f"the oldest call without an answer is asked for at {earliest}")


def sequencer_start(kafka: Kafka, inbox: str, copies: object) -> StartPolicy:
    """The committed offset of a source, else what the inbox shows."""
    if not isinstance(copies, TracesCopies):
        return at_committed
    return _unless_committed(lambda tp, begin, end: after_copied(kafka, tp, begin, end, inbox, copies))


def effects_start(kafka: Kafka, calls: object) -> StartPolicy:
    """The committed offset of a decision log, else what the log itself shows."""
    if not isinstance(calls, TracesCalls):
        return at_committed
    return _unless_committed(lambda tp, begin, end: before_unsettled(kafka, tp, begin, end, calls))


def _unless_committed(find: Callable[[TP, int, int], Awaitable[Resumed]]) -> StartPolicy:
    def start(tp: TP, committed: int | None, begin: int, end: int) -> int | Awaitable[int]:
        if committed is not None or end == 0:
            return at_committed(tp, committed, begin, end)
        return _found(find, tp, begin, end)

    return start


async def _found(find: Callable[[TP, int, int], Awaitable[Resumed]], tp: TP, begin: int, end: int) -> int:
    until = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        try:
            resumed = await find(tp, begin, end)
        except Unprovable as error:
            die(f"no committed offset, and {error}: {RECOVER}", topic=tp.topic, partition=tp.partition)
        except (KafkaError, OSError, TimeoutError) as error:
            if asyncio.get_running_loop().time() > until:
                raise
            log.warning("%s-%s: where to go on is not known yet: %r", tp.topic, tp.partition, error)
            await asyncio.sleep(PAUSE_S)
        else:
            log.warning(
                "%s-%s: the broker has forgotten the committed offset; going on at %d: %s",
                tp.topic,
                tp.partition,
                *resumed,
            )
            return resumed.offset
