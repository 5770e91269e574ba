"""The producer of commands that append records. Its writes are idempotent and acknowledged by all in-sync replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaProducer

from eventlog.broker.security import Kafka, client


@asynccontextmanager
async def appending(kafka: Kafka, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    """A started producer for the block. `options` are further settings of aiokafka's producer."""
    producer = AIOKafkaProducer(**client(kafka), acks="all", enable_idempotence=True, **options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()
