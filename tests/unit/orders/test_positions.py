"""Tokens name offsets and can be forged: an offset beyond the end of the log is refused, others are waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import grpc
import pytest
from groupbuy.orders.v1.orders_pb2 import GetOrderRequest, ListOrdersRequest, Order

from chassis.rpc.caller import IDENTITY
from chassis.rpc.errors import ApiError
from eventlog.core.errors import BrokerUnavailable, NotReady
from services.orders.api import positions
from shared_kernel.consistency_tokens import Token, decode, encode
from tests.scenarios.api_call import call
from tests.scenarios.orders import reserves
from tests.unit.chassis.support import eventually
from tests.unit.orders.test_place_order import reason
from tests.unit.orders.world import World, still_waits


@pytest.fixture
def world() -> World:
    made = World()
    made.decides = reserves
    return made


def reading(world: World, name: str, token: Token, seconds: float = 5.0) -> Awaitable[Order]:
    return asyncio.ensure_future(
        world.orders.GetOrder(GetOrderRequest(name=name, consistency_token=encode(token)), call(seconds))
    )


async def placed(world: World) -> tuple[str, int]:
    """Places an order. Returns its name and partition."""
    order, token = await world.place()
    return order.name, decode(token).partition


async def test_forged_tokens_are_refused_after_one_read_of_the_logs_end(world: World) -> None:
    name, partition = await placed(world)
    forged = [reading(world, name, Token(partition, 10**15), 60.0) for _ in range(100)]
    async with asyncio.timeout(5):
        errors = await asyncio.gather(*forged, return_exceptions=True)
    for error in errors:
        assert isinstance(error, ApiError)
        assert (error.reason_name, error.fields[0][0]) == ("INVALID_FIELDS", "consistency_token")
    assert world.end_queries == [partition]
    request = ListOrdersRequest(
        parent=name.rpartition("/orders/")[0], consistency_token=encode(Token(partition, 10**15))
    )
    with pytest.raises(ApiError) as caught:
        await world.orders.ListOrders(request, call())
    assert reason(caught) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")


async def test_the_end_of_the_log_is_read_at_most_ten_times_a_second(world: World) -> None:
    name, partition = await placed(world)
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(3):
        with pytest.raises(ApiError):
            await reading(world, name, Token(partition, 10**15))
    assert world.end_queries == [partition] * 3
    assert loop.time() - began >= 2 * positions.READ_INTERVAL_S


async def test_a_call_waits_until_a_record_of_another_process_is_folded(world: World) -> None:
    name, partition = await placed(world)
    offset = world.written_elsewhere(partition)
    call_ = asyncio.ensure_future(reading(world, name, Token(partition, offset)))
    await eventually(lambda: bool(world.end_queries))
    await still_waits(call_)
    world.fold_all(partition)
    assert (await call_).name == name
    # The end is known from then on and not read again.
    await reading(world, name, Token(partition, offset))
    assert world.end_queries == [partition]


async def test_one_identity_can_not_take_all_slots(world: World) -> None:
    name, partition = await placed(world)
    token = Token(partition, world.written_elsewhere(partition))
    IDENTITY.set("shop")
    calls = [reading(world, name, token, 60.0) for _ in range(positions.SHARE)]
    await eventually(lambda: bool(world.end_queries))
    with pytest.raises(ApiError) as caught:
        await reading(world, name, token, 60.0)
    assert reason(caught) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    IDENTITY.set("support")
    other = asyncio.ensure_future(reading(world, name, token, 60.0))
    await still_waits(other)
    world.fold_all(partition)
    await asyncio.gather(*calls, other)


async def test_an_unreadable_end_of_the_log_is_unavailable(world: World) -> None:
    name, partition = await placed(world)
    world.broker = False
    with pytest.raises(BrokerUnavailable):
        await reading(world, name, Token(partition, 10**15))


async def test_a_partition_that_moves_to_another_replica_ends_the_wait(world: World) -> None:
    name, partition = await placed(world)
    call_ = asyncio.ensure_future(reading(world, name, Token(partition, world.written_elsewhere(partition))))
    await eventually(lambda: bool(world.end_queries))
    await still_waits(call_)
    world.away.add(partition)
    world.notifier.notify_all()
    with pytest.raises(NotReady):
        await call_
