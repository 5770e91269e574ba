"""Reads the last record of a partition."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition


async def last_record(kafka: str, topic: str, partition: int) -> bytes:
    """The value of the last record of a partition."""
    tp = TopicPartition(topic, partition)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([tp])
        end = (await consumer.end_offsets([tp]))[tp]
        consumer.seek(tp, end - 1)
        (record,) = (await consumer.getmany(tp, timeout_ms=10_000))[tp]
        assert record.value is not None
        return bytes(record.value)
    finally:
        await consumer.stop()
