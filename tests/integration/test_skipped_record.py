"""An undecodable record quarantines its partition. A recorded skip ends the quarantine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer

from eventlog.core.partitioner import partition_of
from eventlog.records.topic_spec import TopicSpec
from groupbuy_testing.running import RunningStack
from shared_kernel.topics import GROUP_INBOX, PAYMENT_INBOX
from tests.integration.shop import Shop, until

#: Seconds. The test starts many short processes, each of which loads Python and its libraries.
pytestmark = pytest.mark.timeout(400)

FOREIGN = b"\xff\xff foreign"


def ops(kafka: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "ops.main", *arguments, "--kafka", kafka)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


async def plant(kafka: str, topic: TopicSpec, partitions: int) -> tuple[int, int]:
    """Appends a foreign record. Returns its partition and offset."""
    key = str(uuid4())
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    try:
        partition = partition_of(key, partitions)
        done = await producer.send_and_wait(topic.name, FOREIGN, key=key.encode(), partition=partition)
        return partition, int(done.offset)
    finally:
        await producer.stop()


@pytest.mark.parametrize("inbox", [PAYMENT_INBOX, GROUP_INBOX], ids=["payments", "groups"])
def test_a_skip_ends_the_quarantine_also_after_a_restart(
    shop: Shop, groupbuy_stack: RunningStack, inbox: TopicSpec
) -> None:
    stack, kafka = groupbuy_stack.stack, groupbuy_stack.kafka
    campaign = shop.campaign()
    partition, offset = asyncio.run(plant(kafka, inbox, stack.partitions))
    until(lambda: "is quarantined" in stack.log(inbox.writer))

    # Groups continues while payments is quarantined: a seat is decided before its hold.
    orders = [shop.place(campaign, solo=True)] if inbox is PAYMENT_INBOX else []
    skipped = ops(kafka, "skip", inbox.name, str(partition), str(offset), "--reason", "planted by a test")
    assert skipped.returncode == 0, skipped.stderr
    # One order for each partition.
    seen: set[int] = set()
    while len(seen) < stack.partitions:
        order = shop.place(campaign, solo=True)
        seen.add(partition_of(order.group.removeprefix("groups/"), stack.partitions))
        orders.append(order)
    shop.wait_all(orders, "SETTLED")

    stack.kill(inbox.writer)
    stack.wait_serving(inbox.writer)
    shop.wait(shop.place(campaign, solo=True), "SETTLED")
    replayed = ops(kafka, "replay")
    assert replayed.returncode == 0, replayed.stdout
    assert '"stopped": 0' in replayed.stdout
