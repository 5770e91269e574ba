"""Creation of topics, and of the offsets from which their readers begin.

Services never create topics. An operator runs the creation once, before the first start. It also commits offset 0 for
every reader of an empty partition, so that a missing offset later means a lost one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from eventlog.broker.security import Kafka, client
from eventlog.broker.topic_checks import check_topics
from eventlog.core.errors import TopicsDiffer
from eventlog.records.topic_spec import TopicSpec

#: How long a broker may take to list topics that it has just created.
LISTED_WITHIN_S = 10.0


async def create_topics(kafka: Kafka, topics: Sequence[TopicSpec], *, partitions: int, replication: int) -> list[str]:
    """Creates the missing topics and commits offset 0 for their readers. Returns the names of the created topics.

    The number of partitions can't be changed later, because keys map to partitions. Raises TopicsDiffer, before it
    changes anything, when an existing topic differs from its specification.
    """
    admin = AIOKafkaAdminClient(**client(kafka))
    await admin.start()
    try:
        existing = set(await admin.list_topics())
        missing = [topic for topic in topics if topic.name not in existing]
        # Check first: a client that asks for a partition that does not exist waits until its time-out.
        if present := [topic for topic in topics if topic.name in existing]:
            await check_topics(kafka, present, partitions=partitions)
        new_topics = [
            NewTopic(topic.name, partitions, replication, topic_configs=creation_config(topic, replication))
            for topic in missing
        ]
        if new_topics:
            reply = await admin.create_topics(new_topics)
            for name, code, *rest in reply.topic_errors:
                if code and for_code(code) is not TopicAlreadyExistsError:
                    raise TopicsDiffer(f"the broker did not create topic {name}: {for_code(code).__name__} {rest}")
            await wait_until_listed(admin, [topic.name for topic in missing])
    finally:
        await admin.close()
    # For all topics: an earlier run may have been interrupted after it created some.
    await _commit_first_offsets(kafka, topics, partitions)
    await check_topics(kafka, topics, partitions=partitions)
    return [topic.name for topic in missing]


def creation_config(topic: TopicSpec, replication: int) -> dict[str, str]:
    """All settings that a topic is created with."""
    min_in_sync = "2" if replication > 2 else "1"
    return {**topic.config(), "min.insync.replicas": min_in_sync, "unclean.leader.election.enable": "false"}


async def wait_until_listed(admin: Any, names: Sequence[str], *, within_s: float = LISTED_WITHIN_S) -> None:
    """Waits until the broker lists the topics; it may list a topic some time after it acknowledged the creation.

    Returns after `within_s` seconds in any case. `check_topics` then reports the missing topics.
    """
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        rows = await admin.describe_topics(list(names))
        if {row["topic"] for row in rows if not row["error_code"]} >= set(names):
            return
        await asyncio.sleep(0.05)


async def _commit_first_offsets(kafka: Kafka, topics: Sequence[TopicSpec], partitions: int) -> None:
    """Commits offset 0 for each reader of a partition that is empty, if the reader has no committed offset yet."""
    by_reader: dict[str, list[TopicPartition]] = {}
    for topic in topics:
        for reader in topic.readers:
            by_reader.setdefault(reader, []).extend(TopicPartition(topic.name, p) for p in range(partitions))
    for reader, tps in by_reader.items():
        consumer = AIOKafkaConsumer(**client(kafka), group_id=reader, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign(tps)
            ends = await consumer.end_offsets(tps)
            # Only in an empty partition is it certain that the reader has missed no record.
            unread = [tp for tp in tps if ends[tp] == 0 and await consumer.committed(tp) is None]
            if unread:
                await consumer.commit(dict.fromkeys(unread, 0))
        finally:
            await consumer.stop()
