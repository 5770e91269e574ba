"""GetOrder, CancelOrder and WatchOrder: reads see their writes, and a cancel returns the decision."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.orders.v1.orders_pb2 import (
    ORDER_STATE_CANCELLED,
    ORDER_STATE_CONFIRMED,
    ORDER_STATE_PLACED,
    ORDER_STATE_REFUSED,
    ORDER_STATE_RESERVED,
    ORDER_STATE_SETTLED,
    WAIT_ACCEPTED,
    CancelOrderRequest,
    GetOrderRequest,
    Order,
    WatchOrderRequest,
)

from chassis.rpc.errors import ApiError
from eventlog.core.errors import NotReady
from services.orders.domain.ids import OrderName, parse_order_name
from shared_kernel.consistency_tokens import Token, decode, encode
from tests.scenarios import group_events as ge
from tests.scenarios import orders as h
from tests.scenarios.api_call import call
from tests.scenarios.facts import GROUP
from tests.scenarios.orders import reserves
from tests.unit.orders.test_place_order import reason, refuses
from tests.unit.orders.world import OTHER, PARTITIONS, World, still_waits, upcoming

UNKNOWN = f"groups/{GROUP}/orders/{GROUP}"


@pytest.fixture
def world() -> World:
    made = World()
    made.decides = lambda fact: reserves(fact) if fact.HasField("placed") else ()
    return made


async def get(world: World, name: str, token: str = "", seconds: float = 5.0) -> Order:
    return await world.orders.GetOrder(GetOrderRequest(name=name, consistency_token=token), call(seconds))


async def cancel(world: World, name: str, seconds: float = 5.0) -> Order:
    request = CancelOrderRequest(name=name, reason="changed my mind", request_id=OTHER)
    return await world.orders.CancelOrder(request, call(seconds))


async def reserved(world: World) -> OrderName:
    order, _ = await world.place()
    return parse_order_name(order.name)


# GetOrder ---------------------------------------------------------------------------------------------------------


async def test_an_order_is_read(world: World) -> None:
    order, token = await world.place()
    assert await get(world, order.name) == order
    assert await get(world, order.name, token) == order


async def test_an_unknown_order_is_not_found(world: World) -> None:
    await world.place()
    for name in (UNKNOWN, f"{(await world.place())[0].group}/orders/{GROUP}"):
        with pytest.raises(ApiError) as caught:
            await get(world, name)
        assert reason(caught) == (grpc.StatusCode.NOT_FOUND, "ORDER_NOT_FOUND")


async def test_a_read_with_a_token_waits_for_its_write(world: World) -> None:
    world.folds = False
    order, token = await world.place(wait=WAIT_ACCEPTED)
    reading = asyncio.create_task(get(world, order.name, token))
    await still_waits(reading)
    world.fold(world.records[0][0])
    assert (await reading).state == ORDER_STATE_RESERVED


async def test_a_read_waits_for_this_process_writes_without_a_token(world: World) -> None:
    world.folds = False
    order, _ = await world.place(wait=WAIT_ACCEPTED)
    reading = asyncio.create_task(get(world, order.name))
    await still_waits(reading)
    world.fold(world.records[0][0])
    assert (await reading).state == ORDER_STATE_RESERVED


async def test_a_token_that_is_not_folded_by_the_deadline_is_pending(world: World) -> None:
    order, token = await world.place()
    partition = decode(token).partition
    far = encode(Token(partition, world.written_elsewhere(partition)))
    with pytest.raises(ApiError) as caught:
        await get(world, order.name, far, 0.1)
    assert reason(caught) == (grpc.StatusCode.DEADLINE_EXCEEDED, "ANSWER_PENDING")


async def test_an_invalid_token_or_one_of_another_partition_is_refused(world: World) -> None:
    order, token = await world.place()
    other = encode(Token((decode(token).partition + 1) % PARTITIONS, 0))
    for wrong in ("nonsense!", other):
        with pytest.raises(ApiError) as caught:
            await get(world, order.name, wrong)
        assert reason(caught) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
        assert [field for field, _ in caught.value.fields] == ["consistency_token"]


async def test_before_the_number_of_partitions_is_known_reads_are_not_ready(world: World) -> None:
    world.partitions = 0
    with pytest.raises(NotReady):
        await get(world, UNKNOWN)


# CancelOrder ------------------------------------------------------------------------------------------------------


async def test_a_cancel_returns_the_decision(world: World) -> None:
    name = await reserved(world)
    world.decides = lambda fact: [ge.seat_released(fact.order, g.RELEASE_REASON_CANCELLED)]
    assert (await cancel(world, str(name))).state == ORDER_STATE_CANCELLED
    fact, headers = world.records[-1]
    assert (fact.order, fact.group, fact.customer) == (name.order, name.group, "ann")
    assert (fact.cancel_requested.request_id, fact.cancel_requested.reason) == (OTHER, "changed my mind")
    assert headers["ce_id"] == f"{name.order}:cancel_requested:{OTHER}".encode()
    assert headers["ce_type"] == b"groupbuy.orders.v1.OrderCancelRequested"
    assert "groupbuy-campaign" not in headers


async def test_a_second_cancel_is_idempotent(world: World) -> None:
    name = await reserved(world)
    world.decides = lambda fact: [ge.seat_released(fact.order, g.RELEASE_REASON_CANCELLED)]
    first = await cancel(world, str(name))
    assert await cancel(world, str(name)) == first
    assert len(world.records) == 2


async def test_a_late_cancel_is_refused_with_its_reason(world: World) -> None:
    name = await reserved(world)
    world.decides = lambda fact: [ge.cancel_refused(fact.order, "COMPLETED")]
    for _ in range(2):
        with pytest.raises(ApiError) as caught:
            await cancel(world, str(name))
        assert reason(caught) == (grpc.StatusCode.FAILED_PRECONDITION, "ORDER_NOT_CANCELLABLE")
        assert caught.value.metadata["reason"] == "COMPLETED"
    # The refusal is final: the second request appended no record.
    assert len(world.records) == 2


async def test_a_final_order_can_not_be_cancelled_and_no_record_is_appended(world: World) -> None:
    name = await reserved(world)
    world.decide(name.group, ge.member_confirmed(name.order), ge.completed(name.order), h.settled(name.order))
    with pytest.raises(ApiError) as caught:
        await cancel(world, str(name))
    assert reason(caught) == (grpc.StatusCode.FAILED_PRECONDITION, "ORDER_NOT_CANCELLABLE")
    assert (caught.value.metadata["state"], caught.value.metadata["reason"]) == ("SETTLED", "SETTLED")
    assert len(world.records) == 1


async def test_a_cancel_that_came_before_its_order_succeeded(world: World) -> None:
    world.decides = lambda fact: refuses(fact, g.REFUSAL_REASON_CANCELLED)
    order, _ = await world.place()
    assert (await cancel(world, order.name)).state == ORDER_STATE_REFUSED
    assert len(world.records) == 1


async def test_an_unknown_order_can_not_be_cancelled(world: World) -> None:
    with pytest.raises(ApiError) as caught:
        await cancel(world, UNKNOWN)
    assert reason(caught) == (grpc.StatusCode.NOT_FOUND, "ORDER_NOT_FOUND")
    assert not world.records


async def test_a_late_decision_is_pending(world: World) -> None:
    name = await reserved(world)
    with pytest.raises(ApiError) as caught:
        await cancel(world, str(name), 0.1)
    assert reason(caught) == (grpc.StatusCode.DEADLINE_EXCEEDED, "ANSWER_PENDING")
    assert caught.value.metadata["order"] == str(name)


# WatchOrder -------------------------------------------------------------------------------------------------------


async def test_a_watch_sends_the_order_then_its_changes_and_ends_with_a_final_state(world: World) -> None:
    name = await reserved(world)
    watching = world.orders.WatchOrder(WatchOrderRequest(name=str(name)), call(None))
    assert (await upcoming(watching)).state == ORDER_STATE_RESERVED
    world.decide(name.group, ge.member_confirmed(name.order))
    assert (await upcoming(watching)).state == ORDER_STATE_CONFIRMED
    world.decide(name.group, ge.completed(name.order))
    world.pay(name.group, h.authorised(name.order), h.captured(name.order))
    world.decide(name.group, h.settled(name.order))
    last = await upcoming(watching)
    assert (last.state, last.unit_price_minor, last.captured_minor) == (ORDER_STATE_SETTLED, 7900, 15800)
    with pytest.raises(StopAsyncIteration):
        await upcoming(watching)
    assert len(world.notifier) == 0


async def test_a_settled_order_shows_its_money_in_either_reading_order(world: World) -> None:
    name = await reserved(world)
    world.decide(name.group, ge.member_confirmed(name.order), ge.completed(name.order), h.settled(name.order))
    watching = world.orders.WatchOrder(WatchOrderRequest(name=str(name)), call(None))
    assert (await upcoming(watching)).captured_minor == 15800


async def test_a_watch_continues_from_a_revision(world: World) -> None:
    name = await reserved(world)
    seen = await get(world, str(name))
    watching = world.orders.WatchOrder(WatchOrderRequest(name=str(name), from_revision=seen.revision), call(None))
    pending = asyncio.create_task(upcoming(watching))
    await still_waits(pending)
    world.decide(name.group, ge.member_confirmed(name.order))
    assert (await pending).revision == seen.revision + 1


async def test_a_watch_does_not_send_changes_of_other_orders(world: World) -> None:
    name = await reserved(world)
    watching = world.orders.WatchOrder(WatchOrderRequest(name=str(name)), call(None))
    first = await upcoming(watching)
    world.decide(name.group, h.refused("other"))
    world.decide(name.group, ge.member_confirmed(name.order))
    assert (await upcoming(watching)).revision == first.revision + 1


async def test_an_order_that_was_just_accepted_can_be_watched(world: World) -> None:
    world.folds = False
    order, _ = await world.place(wait=WAIT_ACCEPTED)
    world.decides = lambda fact: ()
    watching = world.orders.WatchOrder(WatchOrderRequest(name=order.name), call(None))
    pending = asyncio.create_task(upcoming(watching))
    await still_waits(pending)
    world.fold(world.records[0][0])
    assert (await pending).state == ORDER_STATE_PLACED


async def test_an_unknown_order_can_not_be_watched(world: World) -> None:
    with pytest.raises(ApiError) as caught:
        await upcoming(world.orders.WatchOrder(WatchOrderRequest(name=UNKNOWN), call(None)))
    assert reason(caught) == (grpc.StatusCode.NOT_FOUND, "ORDER_NOT_FOUND")
