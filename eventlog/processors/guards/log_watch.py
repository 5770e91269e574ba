"""Compares the log of a running decider with the decisions that it made, and finds foreign records within seconds.

A decider reads its own log only during a recovery, so without this watch it would find a foreign record only at the
next start. The end of the log shows whether another writer has appended records; these are then read. A duplicate of
our own decision is valid: another owner may write it. A decision that this state does not hold yet is valid as long as
its input is still to be decided here, and is compared afterwards. Any other record stops the partition.
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

#: Seconds between two comparisons, and the longest time of one.
POLL_INTERVAL_S = 1.0
TIMEOUT_S = 10.0


class LogWatch:
    """Compares the partitions of one decider with their log."""

    def __init__(
        self,
        kafka: Kafka,
        log_topic: str,
        inbox: str,
        owned: Callable[[], Iterable[PartitionState[Any]]],
        ends: Callable[[list[TP]], Awaitable[dict[TP, int]]],
        stop_at: Callable[[PartitionState[Any], Poisoned], None],
    ) -> None:
        """`owned` returns the states in use and `ends` the ends of partitions; `stop_at` stops at a foreign record."""
        self._kafka = kafka
        self._log_topic = log_topic
        self._inbox = inbox
        self._owned = owned
        self._ends = ends
        self._stop_at = stop_at

    async def run(self) -> None:
        """Compares until cancelled. Retries while the broker is unavailable."""
        while True:
            await asyncio.sleep(POLL_INTERVAL_S)
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    await self._compare_all()
            except (KafkaError, OSError) as error:
                # OSError includes TimeoutError.
                log.warning("%s: can't compare the log with the decisions, retrying: %r", self._log_topic, error)

    async def _compare_all(self) -> None:
        states = list(self._owned())
        if not states:
            return
        logs = [TP(self._log_topic, state.partition) for state in states]
        inboxes = [TP(self._inbox, state.partition) for state in states]
        # The log's ends are read first: by then the inbox held the input of every decision in the log.
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
        """Reads the log after the position up to which it is verified. Raises Poisoned at a foreign record."""
        tp = TopicPartition(self._log_topic, state.partition)
        duplicates = DuplicateCheck(state)
        reached, digest = state.applied, state.digest
        async with aclosing(read_range(self._kafka, tp, reached + 1, last)) as records:
            async for record in records:
                if not self._in_use(state):
                    return
                if not duplicates.is_duplicate(record):
                    _check_foreign(state, record, duplicates.cause, inbox_end)
                    # Not decided here yet: the next comparison resumes here.
                    break
                reached, digest = record.offset, duplicates.digest
        if reached > state.applied:
            state.applied, state.digest = reached, digest


def _gap(state: PartitionState[Any], end: int) -> int:
    """Last offset of the log that another writer may have written; -1: all of it was acknowledged here."""
    if state.written_ahead > state.applied:
        return state.written_ahead
    # While output is in flight, the newest records may be our own.
    return end - 1 if state.pending == 0 and end - 1 > state.applied else -1


def _check_foreign(state: PartitionState[Any], record: Any, cause: int, inbox_end: int) -> None:
    """Raises Poisoned for a decision that this state does not hold and will not make."""
    place = state.log, state.partition, record.offset, record.value
    if cause < state.next_input:
        raise Poisoned.for_record(
            *place, f"it was not decided here, and its input {cause} is before the next input, {state.next_input}"
        )
    if cause >= inbox_end:
        raise Poisoned.for_record(*place, f"its input {cause} does not exist: the inbox ends at {inbox_end}")


async def fold_rest(
    kafka: Kafka, state: PartitionState[Any], end: int, in_epoch: Callable[[], bool]
) -> Poisoned | None:
    """Folds the rest of a log up to `end`, while the epoch lasts. Returns a record that stops the fold, or None."""
    tp = TopicPartition(state.log, state.partition)
    async with aclosing(read_range(kafka, tp, state.applied + 1, end - 1, wanted=in_epoch)) as records:
        async for record in records:
            try:
                state.apply(record)
            except Poisoned as poisoned:
                return poisoned
    return None
