"""The broker of a benchmark that starts no services, and its input."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aiokafka import AIOKafkaProducer

from devstack.kafka.broker import Broker
from eventlog.core.partitioner import partition_of

#: Records that are appended before their acknowledgements are awaited.
MAX_PENDING = 20_000


@contextmanager
def kafka(*, core: int | None = None) -> Iterator[str]:
    """host:port of a broker: $KAFKA if it is set, else a temporary broker, on one CPU core if `core` is given."""
    if external := os.environ.get("KAFKA"):
        yield external
        return
    directory = Path(tempfile.mkdtemp(prefix="bench-kafka-"))
    broker = Broker()
    try:
        broker.start(directory)
        if core is not None and broker.process.pid is not None:
            os.sched_setaffinity(broker.process.pid, {core})
        yield broker.bootstrap
    finally:
        broker.release()
        shutil.rmtree(directory, ignore_errors=True)


def new_producer(bootstrap: str) -> AIOKafkaProducer:
    """A producer of large batches."""
    return AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=20, max_batch_size=512 * 1024)


async def append(
    producer: AIOKafkaProducer,
    topic: str,
    partitions: int,
    records: Iterable[tuple[str, bytes]],
    headers_of: Callable[[str, int], list[tuple[str, bytes]]] | None = None,
) -> int:
    """Appends (key, value) records, and awaits their acknowledgements. Returns their number.

    `headers_of` returns the headers of a record from its key and its number, which begins at 1.
    """
    pending, count = [], 0
    for count, (key, value) in enumerate(records, 1):
        made = headers_of(key, count) if headers_of else None
        partition = partition_of(key, partitions)
        pending.append(await producer.send(topic, value, key=key.encode(), partition=partition, headers=made))
        if len(pending) >= MAX_PENDING:
            await asyncio.gather(*pending)
            pending = []
    await asyncio.gather(*pending)
    return count
