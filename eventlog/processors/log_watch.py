"""Watches the log of a decider that runs: whatever stands there and was not decided here is found within seconds.

A decider reads its own log only when it recovers. Without this, a foreign record would be met at the next start alone.
The log's end tells whether somebody else has written; then the records in between are read. A repeat of our own
decision is what another owner may write. A decision that this state does not hold yet is one too, as long as its input
is still to be decided here: it is compared once it was. Anything else stops the partition.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP

from eventlog.broker.security import Kafka
from eventlog.consuming.log_range import read_range
from eventlog.core.duplicate_check import DuplicateCheck
from eventlog.core.errors import Poisoned
from eventlog.core.partition_state import PartitionState

log = logging.getLogger(__name__)

#: Seconds between two looks, and the longest that one takes.
POLL_INTERVAL_S = 1.0
READ_S = 10.0


class LogWatch:
    """Keeps the partitions of one decider and their log compared."""

    def __init__(
        self,
        kafka: Kafka,
        log_topic: str,
        inbox: str,
        owned: Callable[[], Iterable[PartitionState[Any]]],
        ends: Callable[[list[TP]], Awaitable[dict[TP, int]]],
        stop_at: Callable[[PartitionState[Any], Poisoned], None],
    ) -> None:
        """`owned` are the states in use, `ends` the ends of partitions, and `stop_at` is told of a foreign record."""
        self._kafka = kafka
        self._log_topic = log_topic
        self._inbox = inbox
        self._owned = owned
        self._ends = ends
        self._stop_at = stop_at

    async def run(self) -> None:
        """Looks for ever. A broker that is away is asked again."""
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            try:
                async with asyncio.timeout(READ_S):
                    await self._look()
            except (KafkaError, OSError) as error:
                # TimeoutError is an OSError.
                log.warning("%s is not compared with what was decided, trying again: %r", self._log_topic, error)

    async def _look(self) -> None:
        states = list(self._owned())
        if not states:
            return
        logs = [TP(self._log_topic, state.partition) for state in states]
        inboxes = [TP(self._inbox, state.partition) for state in states]
        # The inbox's ends are asked last: an input that a decision in the log names was there before.
        log_ends = await self._ends(logs)
        behind = [
            (state, last) for state, tp in zip(states, logs, strict=True) if (last := _gap(state, log_ends[tp])) >= 0
        ]
        if not behind:
            return
        inbox_ends = await self._ends(inboxes)
        for state, last in behind:
            try:
                await self._compare(state, last, inbox_ends[TP(self._inbox, state.partition)])
            except Poisoned as poisoned:
                if self._in_use(state):
                    self._stop_at(state, poisoned.at(self._log_topic, state.partition))

    def _in_use(self, state: PartitionState[Any]) -> bool:
        return any(state is one for one in self._owned())

    async def _compare(self, state: PartitionState[Any], last: int, inbox_end: int) -> None:
        """Reads from where the state is sure of its log. Raises Poisoned at a foreign record."""
        tp = TopicPartition(self._log_topic, state.partition)
        duplicates = DuplicateCheck(state)
        reached, digest = state.applied, state.digest
        async with aclosing(read_range(self._kafka, tp, reached + 1, last)) as records:
            async for record in records:
                if not self._in_use(state):
                    return
                if not duplicates.is_duplicate(record):
                    _check_foreign(state, record, duplicates.cause, inbox_end)
                    # Not decided here yet. What is before it is compared.
                    break
                reached, digest = record.offset, duplicates.digest
        if reached > state.applied:
            state.applied, state.digest = reached, digest


def _gap(state: PartitionState[Any], end: int) -> int:
    """Last offset of the log that somebody else may have written; -1: all of it was acknowledged here."""
    if state.written_ahead > state.applied:
        return state.written_ahead
    # With output under way nobody can say whose the newest records are.
    return end - 1 if state.pending == 0 and end - 1 > state.applied else -1


def _check_foreign(state: PartitionState[Any], record: Any, cause: int, inbox_end: int) -> None:
    """Raises Poisoned for a decision that this state does not hold and never will."""
    place = state.log, state.partition, record.offset, record.value
    if cause < state.next_input:
        raise Poisoned.for_record(
            *place, f"nobody here has decided it, and its input {cause} is behind {state.next_input}"
        )
    if cause >= inbox_end:
        raise Poisoned.for_record(*place, f"its input {cause} does not exist: the inbox ends at {inbox_end}")


async def folded(kafka: Kafka, state: PartitionState[Any], end: int, in_epoch: Callable[[], bool]) -> Poisoned | None:
    """Folds what a state misses of its log up to `end`, or to the end of the epoch; a record that stops it, or None."""
    tp = TopicPartition(state.log, state.partition)
    async with aclosing(read_range(kafka, tp, state.applied + 1, end - 1, wanted=in_epoch)) as records:
        async for record in records:
            try:
                state.apply(record)
            except Poisoned as poisoned:
                return poisoned
    return None
