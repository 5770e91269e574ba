"""Records of one partition between two offsets, read outside any consumer group.

A decider reads its own log this way where another owner may have written to it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from eventlog.broker.security import Kafka, client
from eventlog.runtime.time_slice import TimeSlice

#: Milliseconds that one poll waits for records, so the longest time until `wanted` is checked again.
POLL_MS = 1_000


async def read_range(
    kafka: Kafka, tp: TopicPartition, first: int, last: int, *, wanted: Callable[[], bool] = lambda: True
) -> AsyncGenerator[Any]:
    """Yields the records from offset `first` to `last`, both included, and yields to the event loop in between.

    Stops early once `wanted` is false before a poll. Waits for a record that is late: the caller sets the time limit.
    Iterate within `contextlib.aclosing`, so that the connection is closed where the iteration ends early. Raises
    KafkaError and OSError.
    """
    slices = TimeSlice()
    consumer = AIOKafkaConsumer(**client(kafka), enable_auto_commit=False, auto_offset_reset="none")
    try:
        await consumer.start()
        consumer.assign([tp])
        consumer.seek(tp, first)
        while first <= last and wanted():
            for record in (await consumer.getmany(tp, timeout_ms=POLL_MS)).get(tp, []):
                if record.offset > last:
                    break
                yield record
                first = record.offset + 1
                if slices.expired():
                    await slices.yield_to_loop()
    finally:
        await consumer.stop()
