"""Writes checkpoints of partition states, so that recovery need not fold the log from its beginning.

A checkpoint may hold nothing that is not acknowledged, and may not claim a log offset before which something is not
folded in. So the offset is taken first, then the aggregates are encoded while deciding goes on, then everything decided
by then must be acknowledged, and only then is it written: later versions than the offset says are dropped by the fold.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from eventlog.broker.security import Kafka, client
from eventlog.core.errors import Poisoned
from eventlog.core.partition_state import PartitionState, Repeats
from eventlog.processors.time_slice import TimeSlice
from eventlog.runtime import failpoints
from eventlog.state.rocksdb_store import RocksDBStore

log = logging.getLogger(__name__)

#: Changed aggregates, of all partitions, that make a checkpoint due, and the age that does.
UNSAVED = 40_000
AGE_S = 20.0
POLL_INTERVAL_S = 0.5
#: Longest that the records between our own are read; the checkpoint is tried again when it is due the next time.
GAP_S = 10.0


class Checkpointer:
    """Keeps the checkpoints of one decider's partitions fresh."""

    def __init__(
        self,
        kafka: Kafka,
        log_topic: str,
        owned: Callable[[], Iterable[PartitionState[Any]]],
        in_flight: Callable[[int], Iterable[asyncio.Future[Any]]],
        *,
        age_s: float = AGE_S,
    ) -> None:
        self._kafka = kafka
        self._log_topic = log_topic
        self._owned = owned
        self._in_flight = in_flight
        self._age_s = age_s
        self._written_at: dict[int, float] = {}
        self.written = 0

    async def run(self) -> None:
        """Looks at the partitions for ever."""
        while True:
            owned = list(self._owned())
            for state in owned:
                states = state.states
                if isinstance(states, RocksDBStore) and self._is_due(state.partition, states.unsaved, len(owned)):
                    await self.write(state, states)
            await asyncio.sleep(POLL_INTERVAL_S)

    def _is_due(self, partition: int, unsaved: int, partitions: int) -> bool:
        since = self._written_at.setdefault(partition, time.monotonic())
        return unsaved >= UNSAVED // partitions or (unsaved > 0 and time.monotonic() - since >= self._age_s)

    async def write(self, state: PartitionState[Any], states: RocksDBStore[Any]) -> None:
        """Writes one checkpoint; does nothing if the partition is lost meanwhile."""
        self._written_at[state.partition] = time.monotonic()
        if state.written_ahead > state.applied and not await self._close_gap(state, states):
            return
        origin = state.origin
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
            await asyncio.to_thread(states.finish_checkpoint, origin)
            if failpoints.armed:
                failpoints.passed("checkpoint written")
            self.written += 1
        finally:
            states.end_checkpoint()

    async def _close_gap(self, state: PartitionState[Any], states: RocksDBStore[Any]) -> bool:
        """Reads what another owner wrote between our own records: repeats of ours, or we have lost the partition.

        False: there is no checkpoint now. A broker that is away, or slow, is asked again for the next one.
        """
        first, last = state.applied + 1, state.written_ahead
        tp = TopicPartition(self._log_topic, state.partition)
        repeats = Repeats(state)
        try:
            async with asyncio.timeout(GAP_S):
                if not await self._read_gap(tp, states, repeats, last, first):
                    log.warning("%s-%s: somebody else decides here; no checkpoint", *tp)
                    return False
        except Poisoned as error:
            # LogWatch stops the partition.
            log.critical("%s-%s: no checkpoint: %s", *tp, error)
            return False
        except (KafkaError, OSError) as error:
            # TimeoutError is an OSError.
            log.warning("%s-%s: what is between our records can't be read, no checkpoint yet: %r", *tp, error)
            return False
        log.info("%s-%s: offsets %s to %s are repeats by another owner", *tp, first, last)
        # More may have been acknowledged meanwhile, in sequence or not; it is looked at next time.
        if last > state.applied:
            state.applied, state.digest = last, repeats.digest
        return True

    async def _read_gap(
        self, tp: TopicPartition, states: RocksDBStore[Any], repeats: Repeats[Any], last: int, position: int
    ) -> bool:
        consumer = AIOKafkaConsumer(**client(self._kafka), enable_auto_commit=False, auto_offset_reset="none")
        try:
            await consumer.start()
            consumer.assign([tp])
            consumer.seek(tp, position)
            slices = TimeSlice()
            while position <= last:
                for record in (await consumer.getmany(tp, timeout_ms=1_000)).get(tp, []):
                    if record.offset > last:
                        break
                    if states.closed or not repeats.take(record):
                        return False
                    position = record.offset + 1
                    if slices.expired():
                        await slices.yield_to_loop()
        finally:
            await consumer.stop()
        return True
