"""Records and bytes of each topic, as the broker of a benchmark stores them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition


class Size(NamedTuple):
    """Records, and bytes on disk with all headers and batch frames."""

    records: int
    bytes: int


async def sizes(kafka: str, data: Path, topics: Iterable[str], partitions: int) -> dict[str, Size]:
    """The size of each of the topics. `data` is the broker's log directory."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(topic, p) for topic in topics for p in range(partitions)])
    finally:
        await consumer.stop()
    records: Counter[str] = Counter()
    stored: Counter[str] = Counter()
    for tp, end in ends.items():
        records[tp.topic] += end
        stored[tp.topic] += sum(path.stat().st_size for path in (data / f"{tp.topic}-{tp.partition}").glob("*.log"))
    return {topic: Size(records[topic], stored[topic]) for topic in records}


def per_order(before: Mapping[str, Size], after: Mapping[str, Size], orders: int) -> dict[str, tuple[float, float]]:
    """Records and bytes of each topic for one settled order, largest first. Topics without new records are left out."""
    grown = {
        topic: (
            (size.records - before.get(topic, Size(0, 0)).records) / orders,
            (size.bytes - before.get(topic, Size(0, 0)).bytes) / orders,
        )
        for topic, size in after.items()
    }
    return dict(sorted(((t, g) for t, g in grown.items() if g[0] > 0), key=lambda one: -one[1][1]))
