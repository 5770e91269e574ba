"""Creation of all topics, and the declaration of their number of partitions in the log's registry."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient
from groupbuy.registry.v1.registry_pb2 import Declared, RegistryRecord

from eventlog.admin.topic_creation import create_topics
from eventlog.broker.security import Kafka, client
from eventlog.broker.topic_checks import (
    HOW_TO_REPAIR,
    common_partition_count,
    find_misplaced_keys,
    partition_counts,
)
from eventlog.core.errors import TopicsDiffer
from shared_kernel.log_registry import DECLARED, Writer, read
from shared_kernel.topics import ALL


async def create_log(kafka: Kafka, *, partitions: int | None, default: int, replication: int, who: str) -> list[str]:
    """Creates the missing topics, commits offset 0 for their readers, and declares the number of partitions.

    Without `partitions`, the number is the declared one, else that of the existing topics, else `default`. The number
    of existing topics is declared only if all topics have it and it puts each key where the key's records are. Raises
    TopicsDiffer before it changes anything. Returns the names of the created topics.
    """
    found = (await read(kafka)).declared
    counts = await partition_counts(kafka, ALL)
    if found is not None and partitions not in (None, found.partitions):
        raise TopicsDiffer(f"{found.partitions} partitions are declared, which cannot be changed to {partitions}")
    if found is not None:
        wanted = found.partitions
    else:
        # Without a declared number, existing topics must agree on one.
        agreed = common_partition_count(counts, None) if counts else None
        wanted = partitions or agreed or default
        if agreed not in (None, wanted):
            raise TopicsDiffer(f"every topic has {agreed} partitions, {wanted} were asked for")
    adopted = False
    if found is None and counts:
        evidence = await find_misplaced_keys(kafka, [topic for topic in ALL if topic.name in counts], wanted)
        if evidence.misplaced:
            raise TopicsDiffer(
                f"no number of partitions was declared, and {wanted}, which every topic has, is not the one that keys "
                f"were placed by: {evidence.misplaced}. {HOW_TO_REPAIR}"
            )
        adopted = evidence.records > 0
    created = await create_topics(kafka, ALL, partitions=wanted, replication=replication)
    if found is None:
        entry = Declared(partitions=wanted, cluster_id=await _cluster_id(kafka), adopted=adopted)
        async with Writer(kafka, who, wanted) as writer:
            await writer.append(DECLARED, RegistryRecord(declared=entry))
    return created


async def _cluster_id(kafka: Kafka) -> str:
    admin = AIOKafkaAdminClient(**client(kafka))
    await admin.start()
    try:
        described = await admin.describe_cluster()
        return str(described.get("cluster_id") or "")
    finally:
        await admin.close()
