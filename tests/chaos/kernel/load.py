"""Paced input for the kernel's chaos test: additions to counters, with duplicates, some of them much later."""

from __future__ import annotations

import asyncio
import random
import time

from aiokafka import AIOKafkaProducer

from eventlog.core.partitioner import partition_of
from tests.unit.eventlog.counting import add
from tests.waiting import moment


async def load(
    kafka: str,
    topic: str,
    *,
    facts: int,
    aggregates: int,
    seconds: float,
    partitions: int = 4,
    seed: int = 7,
    prefix: str = "c",
) -> int:
    """Appends `facts` inputs over `aggregates` keys within about `seconds`; returns how many keys were used."""
    chance = random.Random(seed)
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka, acks="all", linger_ms=5, enable_idempotence=True, request_timeout_ms=60_000
    )
    await producer.start()
    began, pending, keys = time.monotonic(), [], set()
    try:
        for n in range(facts):
            # The window of keys moves on, so some aggregates get no more input and expire by ticks.
            key = f"{prefix}{(n * aggregates // facts + chance.randrange(200)) % aggregates:07d}"
            keys.add(key)
            value = add(chance.randrange(1, 4), str(chance.randrange(8)))
            partition = partition_of(key, partitions)
            pending.append(await producer.send(topic, value, key=key.encode(), partition=partition))
            if n % 50 == 0:
                behind = began + n * seconds / facts - time.monotonic()
                if behind > 0:
                    await moment(behind)
            if len(pending) >= 5_000:
                await asyncio.gather(*pending)
                pending = []
        await asyncio.gather(*pending)
    finally:
        await producer.stop()
    return len(keys)
