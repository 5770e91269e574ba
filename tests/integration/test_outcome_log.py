"""The outcome log on a real broker: one outcome for each end of an order, also when the orders service is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from typing import Any

import pytest
from groupbuy.orders.v1.outcomes_pb2 import OrderOutcome

from devstack.stack import Stack
from groupbuy_testing.running import RunningStack
from ops.log.reader import Reader
from shared_kernel.topics import OUTCOMES
from tests.integration.shop import Shop, state
from tests.waiting import wait_for_async

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    environment = {"orders": {"GROUPBUY_ORDERS_OUTCOMES": "true"}}
    with Stack(tmp_path_factory.mktemp("outcomes"), environment=environment) as stack:
        made = RunningStack(stack)
        try:
            yield made
        finally:
            made.close()


async def outcomes(kafka: str) -> dict[str, OrderOutcome]:
    """The outcomes by id. A repeat has the same bytes."""
    found: dict[str, OrderOutcome] = {}

    def take(_topic: str, records: list[Any]) -> None:
        for record in records:
            one = OrderOutcome.FromString(record.value)
            assert one.group.encode() == record.key
            assert dict(record.headers)["ce_id"] == one.id.encode()
            assert found.setdefault(one.id, one) == one

    async with Reader(kafka, [OUTCOMES.name]) as reader:
        await reader.read_to_end(take)
    return found


async def complete(kafka: str, expected: Collection[str]) -> dict[str, OrderOutcome]:
    """The outcomes, once all expected ones are there."""

    async def are_there() -> bool:
        return (await outcomes(kafka)).keys() >= set(expected)

    await wait_for_async(are_there, seconds=60)
    return await outcomes(kafka)


def test_every_end_of_an_order_is_one_outcome(running: RunningStack) -> None:
    shop = Shop(running)
    campaign = shop.campaign(capacity=3, tiers=[(2, 8_900), (3, 6_900)], leader_discount=100)
    expected: dict[str, str] = {}
    for number in range(6):
        orders = shop.full_group(campaign, 3)
        late = shop.place(campaign, orders[0].group)
        if number == 2:
            running.stack.kill("orders")
        for order in shop.wait_all(orders, "SETTLED"):
            expected[f"{order.name.rsplit('/', 1)[1]}:sold"] = state(order)
        refused = shop.wait(late, "REFUSED")
        expected[f"{refused.name.rsplit('/', 1)[1]}:unsold"] = "REFUSED"
    found = asyncio.run(complete(running.kafka, expected))
    assert found.keys() == expected.keys()
    sold = [one for one in found.values() if one.HasField("sold")]
    assert sum(one.sold.leader for one in sold) == 6
    assert sorted({one.sold.amount_minor for one in sold}) == [6_800, 6_900]
    assert {one.unsold.reason for one in found.values() if one.HasField("unsold")} <= {"GROUP_FULL", "GROUP_COMPLETED"}
    for one in sold:
        assert (one.campaign, one.product, one.currency) == (campaign.removeprefix("campaigns/"), "mug", "CNY")
        assert (one.quantity, one.sold.members, one.sold.unit_price_minor) == (1, 3, 6_900)
