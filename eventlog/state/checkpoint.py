"""Writes checkpoints of partition states, so that a recovery need not fold the log from its beginning.

A checkpoint holds only acknowledged decisions, and names a log offset up to which everything is folded. So the offset
is taken first, then the aggregates are encoded while deciding goes on, then everything decided by then is awaited, and
last the checkpoint is written. It may hold later versions than its offset says; a fold drops those again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from eventlog.broker.security import Kafka
from eventlog.consuming.log_range import read_range
from eventlog.core.duplicate_check import DuplicateCheck
from eventlog.core.errors import Poisoned
from eventlog.core.partition_state import PartitionState
from eventlog.runtime import failpoints
from eventlog.runtime.time_slice import TimeSlice
from eventlog.state.rocksdb_store import RocksDBStore

log = logging.getLogger(__name__)

#: Changed aggregates, of all partitions, that make a checkpoint due; and the age of a change that does.
UNSAVED = 40_000
AGE_S = 20.0
POLL_INTERVAL_S = 0.5
#: Longest time to read the records between our own. After it, the checkpoint is skipped until the next one is due.
GAP_S = 10.0


class Checkpointer:
    """Writes the checkpoints of one decider's partitions when they are due."""

    def __init__(
        self,
        kafka: Kafka,
        log_topic: str,
        owned: Callable[[], Iterable[PartitionState[Any]]],
        in_flight: Callable[[int], Iterable[asyncio.Future[Any]]],
        *,
        age_s: float = AGE_S,
    ) -> None:
        """`in_flight` returns the acknowledgements that a partition's output still waits for."""
        self._kafka = kafka
        self._log_topic = log_topic
        self._owned = owned
        self._in_flight = in_flight
        self._age_s = age_s
        self._written_at: dict[int, float] = {}
        #: When each partition was last seen to have all its changes on disk, on the monotonic clock.
        self._saved_at: dict[int, float] = {}
        self.written = 0

    async def run(self) -> None:
        """Checks the partitions until cancelled."""
        while True:
            owned = list(self._owned())
            for lost in self._saved_at.keys() - {state.partition for state in owned}:
                del self._saved_at[lost]
            for state in owned:
                states = state.states
                if not isinstance(states, RocksDBStore):
                    continue
                self._saved_at.setdefault(state.partition, time.monotonic())
                if self._is_due(state.partition, states.unsaved, len(owned)):
                    await self.write(state, states)
                elif not states.unsaved:
                    self._saved_at[state.partition] = time.monotonic()
            await asyncio.sleep(POLL_INTERVAL_S)

    def age_s(self, partition: int) -> float:
        """Seconds since all changes of a partition were last known to be on disk. May be called on any thread."""
        now = time.monotonic()
        return now - self._saved_at.get(partition, now)

    def _is_due(self, partition: int, unsaved: int, partitions: int) -> bool:
        since = self._written_at.setdefault(partition, time.monotonic())
        return unsaved >= UNSAVED // partitions or (unsaved > 0 and time.monotonic() - since >= self._age_s)

    async def write(self, state: PartitionState[Any], states: RocksDBStore[Any]) -> None:
        """Writes one checkpoint; writes nothing if the partition is lost meanwhile."""
        began = self._written_at[state.partition] = time.monotonic()
        if state.written_ahead > state.applied and not await self._close_gap(state, states):
            return
        position = state.checkpoint_position
        if failpoints.armed:
            failpoints.passed("checkpoint begun, not encoded")
        slices = TimeSlice()
        for _ in states.begin_checkpoint():
            if slices.expired():
                await slices.yield_to_loop()
        try:
            for future in list(self._in_flight(state.partition)):
                await future
            if failpoints.armed:
                failpoints.passed("checkpoint encoded, not written")
            await asyncio.to_thread(states.finish_checkpoint, position)
            if failpoints.armed:
                failpoints.passed("checkpoint written")
            self.written += 1
            self._saved_at[state.partition] = began
        finally:
            states.end_checkpoint()

    async def _close_gap(self, state: PartitionState[Any], states: RocksDBStore[Any]) -> bool:
        """Reads what another owner wrote between our own records, and moves the state past it if these are duplicates.

        Returns False if there can be no checkpoint now. If the broker is away or slow, the next checkpoint tries again.
        """
        first, last = state.applied + 1, state.written_ahead
        tp = TopicPartition(self._log_topic, state.partition)
        duplicates = DuplicateCheck(state)
        try:
            async with asyncio.timeout(GAP_S), aclosing(read_range(self._kafka, tp, first, last)) as records:
                async for record in records:
                    if states.closed or not duplicates.is_duplicate(record):
                        log.warning("%s-%s: another process decides this partition; no checkpoint", *tp)
                        return False
        except Poisoned as error:
            # LogWatch stops the partition.
            log.critical("%s-%s: no checkpoint: %s", *tp, error)
            return False
        except (KafkaError, OSError) as error:
            # TimeoutError is an OSError.
            log.warning("%s-%s: no checkpoint yet, the records between ours can't be read: %r", *tp, error)
            return False
        log.info("%s-%s: offsets %s to %s are repeats by another owner", *tp, first, last)
        # Acknowledgements that came meanwhile, and a gap among them, are handled at the next checkpoint.
        if last > state.applied:
            state.applied, state.digest = last, duplicates.digest
        return True
