"""Finds where a consumer group stood after the broker forgot its committed offsets, from what the group wrote.

A sequencer copies each source in order, and repeats change nothing. So every record before the newest copy in the inbox
is in the inbox, and the sequencer may go on after the record that this copy names. Effects are asked by the decision
log and answered in it: they may begin at the oldest decision with a call that has no answer there. `Unprovable` says
why a start can't be shown to lose nothing; a person then decides (`groupbuy-ops offsets recover`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP

from eventlog.crash import die
from eventlog.errors import EventLogError
from eventlog.reading import PORTION, Partitions
from eventlog.security import Kafka
from eventlog.transport.start import RECOVER, StartPolicy, at_committed

log = logging.getLogger(__name__)

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


async def after_copied(
    kafka: Kafka, source: TP, begin: int, end: int, inbox: str, copies: TracesCopies, *, portion: int = PORTION
) -> Resumed:
    """Where a sequencer goes on in a source whose log reaches from `begin` to `end`. Raises Unprovable."""

    def of_source(record: Any) -> int | None:
        found = copies.source_of(record.value or b"")
        return found.offset if found is not None and found[:2] == (source.topic, source.partition) else None

    tp = TopicPartition(inbox, source.partition)
    async with Partitions(kafka, [tp]) as scanned:
        copied = await scanned.newest(tp, of_source, portion)
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
