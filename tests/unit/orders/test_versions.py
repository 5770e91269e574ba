"""Tokens of groups and payments: a read waits for that state, and refuses versions that no decision has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from groupbuy.orders.v1.orders_pb2 import (
    ORDER_STATE_RESERVED,
    ORDER_STATE_SETTLED,
    GetOrderRequest,
    ListOrdersRequest,
    Order,
    WatchOrderRequest,
)

from chassis.rpc.errors import ApiError
from eventlog.core.errors import BrokerUnavailable, NotReady
from eventlog.core.partitioner import partition_of
from services.orders.api import positions
from services.orders.domain.ids import OrderName, parse_order_name
from shared_kernel.consistency_tokens import Token, encode, of_group, of_payments
from tests.scenarios import orders as h
from tests.scenarios.api_call import call
from tests.scenarios.orders import reserves
from tests.unit.chassis.support import eventually
from tests.unit.orders.test_place_order import reason
from tests.unit.orders.world import OTHER, PARTITIONS, World, still_waits, upcoming


@pytest.fixture
def world() -> World:
    made = World()
    made.decides = reserves
    return made


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks a version at the broker as soon as it is not folded."""
    monkeypatch.setattr(positions, "SHOWN_BEFORE_S", 0.0)


async def get(world: World, name: OrderName, token: str, seconds: float = 5.0) -> Order:
    return await world.orders.GetOrder(GetOrderRequest(name=str(name), consistency_token=token), call(seconds))


async def settled_unfolded(world: World) -> tuple[OrderName, str]:
    """An order that is settled in the log and RESERVED in the projection. Returns its name and the group's token."""
    order, _ = await world.place()
    name = parse_order_name(order.name)
    world.folds_decisions = False
    world.decide(name.group, h.settled(name.order))
    return name, of_group(name.group, 2)


async def test_a_read_with_the_token_of_a_settled_group_shows_settled(world: World) -> None:
    name, token = await settled_unfolded(world)
    assert (await get(world, name, "")).state == ORDER_STATE_RESERVED
    reading = asyncio.create_task(get(world, name, token))
    await still_waits(reading)
    world.fold_decisions()
    assert (await reading).state == ORDER_STATE_SETTLED
    assert (await get(world, name, token)).state == ORDER_STATE_SETTLED
    assert world.end_queries == []


async def test_a_read_with_the_token_of_a_payment_shows_its_money(world: World) -> None:
    order, _ = await world.place()
    name = parse_order_name(order.name)
    world.folds_decisions = False
    world.pay(name.group, h.authorised(name.order))
    reading = asyncio.create_task(get(world, name, of_payments(name.group, 1)))
    await still_waits(reading)
    world.fold_decisions()
    assert (await reading).held_minor == h.HELD


async def test_one_token_names_a_position_and_versions(world: World) -> None:
    name, _ = await settled_unfolded(world)
    partition = partition_of(name.group, PARTITIONS)
    world.pay(name.group, h.authorised(name.order))
    token = encode(Token(partition, world.written_elsewhere(partition), name.group, 2, 1))
    reading = asyncio.create_task(get(world, name, token))
    await still_waits(reading)
    world.fold_decisions()
    await still_waits(reading)
    world.fold_all(partition)
    shown = await reading
    assert (shown.state, shown.captured_minor > 0) == (ORDER_STATE_SETTLED, True)


async def test_a_watch_with_a_token_begins_with_that_state(world: World) -> None:
    name, token = await settled_unfolded(world)
    orders: AsyncIterator[Order] = world.orders.WatchOrder(
        WatchOrderRequest(name=str(name), consistency_token=token), call()
    )
    first = asyncio.create_task(upcoming(orders))
    await still_waits(first)
    world.fold_decisions()
    assert (await first).state == ORDER_STATE_SETTLED
    with pytest.raises(StopAsyncIteration):
        await upcoming(orders)


@pytest.mark.parametrize("of_customer", [False, True])
async def test_a_list_with_a_token_shows_that_state(world: World, of_customer: bool) -> None:
    name, token = await settled_unfolded(world)
    request = ListOrdersRequest(parent=f"groups/{name.group}", consistency_token=token)
    if of_customer:
        request = ListOrdersRequest(parent="groups/-", customer="ann", consistency_token=token)
    listing = asyncio.ensure_future(world.orders.ListOrders(request, call()))
    await still_waits(listing)
    world.fold_decisions()
    assert [order.state for order in (await listing).orders] == [ORDER_STATE_SETTLED]


@pytest.mark.usefixtures("at_once")
async def test_versions_without_a_decision_are_refused_after_one_read_of_the_logs_end(world: World) -> None:
    name, _ = await settled_unfolded(world)
    world.fold_decisions()
    reads = [get(world, name, of_group(name.group, 10**9), 60.0) for _ in range(100)]
    reads += [get(world, name, of_payments(name.group, 1), 60.0)]
    async with asyncio.timeout(5):
        errors = await asyncio.gather(*reads, return_exceptions=True)
    for error in errors:
        assert isinstance(error, ApiError)
        assert (error.reason_name, error.fields[0][0]) == ("INVALID_FIELDS", "consistency_token")
    assert world.end_queries == [partition_of(name.group, PARTITIONS)] * 2


@pytest.mark.usefixtures("at_once")
async def test_a_version_that_the_log_has_is_waited_for(world: World) -> None:
    name, token = await settled_unfolded(world)
    reading = asyncio.create_task(get(world, name, token))
    await eventually(lambda: bool(world.end_queries))
    await still_waits(reading)
    world.fold_decisions()
    assert (await reading).state == ORDER_STATE_SETTLED


async def test_a_version_that_is_not_folded_by_the_deadline_is_pending(world: World) -> None:
    name, token = await settled_unfolded(world)
    with pytest.raises(ApiError) as caught:
        await get(world, name, token, 0.1)
    assert reason(caught) == (grpc.StatusCode.DEADLINE_EXCEEDED, "ANSWER_PENDING")


async def test_a_token_of_another_group_is_refused(world: World) -> None:
    name, _ = await settled_unfolded(world)
    with pytest.raises(ApiError) as caught:
        await get(world, name, of_group(OTHER, 1))
    assert reason(caught) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")


@pytest.mark.usefixtures("at_once")
async def test_an_unreadable_log_is_unavailable_and_a_moved_partition_not_ready(world: World) -> None:
    name, token = await settled_unfolded(world)
    reading = asyncio.create_task(get(world, name, token))
    await eventually(lambda: bool(world.end_queries))
    world.away.add(partition_of(name.group, PARTITIONS))
    world.notifier.notify_all()
    with pytest.raises(NotReady):
        await reading
    world.away.clear()
    world.broker = False
    with pytest.raises(BrokerUnavailable):
        await get(world, name, token)
