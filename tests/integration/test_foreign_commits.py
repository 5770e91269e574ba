"""A foreign client commits offsets for a service's group. No service skips a record because of it, and each logs it."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from groupbuy.orders.v1 import orders_pb2 as pb

from groupbuy_testing.running import RunningStack
from ops.log.reader import Reader
from ops.log.rendering.decode import line
from shared_kernel import topics
from tests.integration.shop import Shop, until
from tests.waiting import wait_for_async

#: Seconds. The sessions of killed static members have to end before another client can commit.
pytestmark = pytest.mark.timeout(300)
EMPTY_S = 40.0

READERS = sorted(
    {(reader, topic.name) for topic in topics.ALL for reader in topic.readers if reader not in topics.OF_INVENTORY}
)


async def commit(kafka: str, group: str, topic: str, partitions: int, beyond: int = 0) -> None:
    """Commits the end offsets of a topic, or offsets beyond them, once the group has no member."""

    async def done() -> bool:
        consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=group, enable_auto_commit=False)
        await consumer.start()
        try:
            tps = [TopicPartition(topic, partition) for partition in range(partitions)]
            consumer.assign(tps)
            ends = await consumer.end_offsets(tps)
            await consumer.commit({tp: end + beyond for tp, end in ends.items()})
        except KafkaError:
            return False
        finally:
            await consumer.stop()
        return True

    await wait_for_async(done, seconds=EMPTY_S, every=0.5)


def alarms(stack: RunningStack, service: str) -> list[str]:
    """Log lines of a service about offsets that it did not commit."""
    return [line for line in stack.stack.log(service).splitlines() if "acls check" in line and "ritical" in line]


async def _requests(kafka: str) -> str:
    async with Reader(kafka, [topics.PAYMENT_LOG.name]) as reader:
        found: list[str] = []
        await reader.read_to_end(lambda _, records: found.extend(line(topics.PAYMENT_LOG, one) for one in records))
        return "\n".join(found)


def payments_requested(kafka: str, orders: list[pb.Order]) -> bool:
    """Whether the payment log requests a call for each order."""
    requests = asyncio.run(_requests(kafka))
    return all(order.group.removeprefix("groups/") in requests for order in orders)


def test_acknowledged_orders_are_sequenced_after_any_foreign_commit(shop: Shop, groupbuy_stack: RunningStack) -> None:
    stack, kafka = groupbuy_stack.stack, groupbuy_stack.kafka
    campaign = shop.campaign(window_s=600.0, hold_s=300.0)
    shop.wait(shop.place(campaign, solo=True), "SETTLED")
    before = len(alarms(groupbuy_stack, "groups"))
    stack.kill("groups", restart=False)
    requests = [shop.request(campaign, solo=True, wait=pb.WAIT_ACCEPTED) for _ in range(8)]
    orders = shop.place_all(requests)
    shop.placed += [(one.group.removeprefix("groups/"), one.name.rsplit("/", 1)[1]) for one in orders]
    asyncio.run(commit(kafka, topics.GROUPS_SEQUENCER, topics.ORDERS.name, stack.partitions))
    stack.start_service("groups")
    stack.wait_serving("groups")
    shop.wait_all(orders, "SETTLED")
    until(lambda: len(alarms(groupbuy_stack, "groups")) > before)
    assert "has no copy in the inbox" in alarms(groupbuy_stack, "groups")[-1]


def test_calls_without_a_result_are_retried_after_any_foreign_commit(shop: Shop, groupbuy_stack: RunningStack) -> None:
    stack, kafka = groupbuy_stack.stack, groupbuy_stack.kafka
    campaign = shop.campaign(window_s=600.0, hold_s=300.0)
    shop.wait(shop.place(campaign, solo=True), "SETTLED")
    before = len(alarms(groupbuy_stack, "payments"))
    shop.behave(latency_min_ms=60_000, latency_max_ms=60_000)
    orders = [shop.place(campaign, solo=True, wait=pb.WAIT_SEAT_DECIDED) for _ in range(3)]
    shop.wait_all(orders, "RESERVED")
    # The calls are in flight: payments has requested them.
    until(lambda: payments_requested(kafka, orders))
    stack.kill("payments", restart=False)
    shop.behave()
    asyncio.run(commit(kafka, topics.PAYMENTS_EFFECTS, topics.PAYMENT_LOG.name, stack.partitions))
    stack.start_service("payments")
    stack.wait_serving("payments")
    shop.wait_all(orders, "SETTLED")
    assert any("a call that was never made" in line for line in alarms(groupbuy_stack, "payments")[before:])


def test_offsets_beyond_the_end_stop_no_service(shop: Shop, groupbuy_stack: RunningStack) -> None:
    stack, kafka = groupbuy_stack.stack, groupbuy_stack.kafka
    campaign = shop.campaign()
    shop.wait(shop.place(campaign, solo=True), "SETTLED")
    services = ("orders", "groups", "payments")
    before = {name: len(alarms(groupbuy_stack, name)) for name in services}
    for name in services:
        stack.kill(name, restart=False)
    for group, topic in READERS:
        asyncio.run(commit(kafka, group, topic, stack.partitions, beyond=1_000))
    for name in services:
        stack.start_service(name)
    for name in services:
        stack.wait_serving(name)
        assert len(alarms(groupbuy_stack, name)) > before[name]
    shop.wait(shop.place(campaign, solo=True), "SETTLED")
