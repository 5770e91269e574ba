"""BatchPlaceOrders and PlaceOrders: orders are appended together and answered one by one; failures are independent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from uuid import UUID

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from groupbuy.errors.v1 import errors_pb2
from groupbuy.orders.v1.orders_pb2 import (
    ORDER_STATE_PLACED,
    ORDER_STATE_RESERVED,
    WAIT_ACCEPTED,
    WAIT_FINAL,
    WAIT_SEAT_DECIDED,
    BatchPlaceOrdersRequest,
    PlaceOrderRequest,
    PlaceOrderResult,
    PlaceOrdersRequest,
    PlaceOrdersResponse,
)

from chassis.admission.capacity import CapacityLimiter
from chassis.routing.partition_router import LocalRouter
from chassis.rpc.caller import IDENTITY
from chassis.rpc.errors import ApiError, to_status
from chassis.rpc.validation import validate
from services.orders.api.placing.batch_place_orders import MAX_IN_STREAM, SHARE_WAIT_FINAL, BatchPlaceOrders
from services.orders.api.placing.place_order import SHARE_WAIT_FINAL as SINGLE_SHARE
from tests.scenarios.api_call import call
from tests.scenarios.orders import reserves
from tests.unit.chassis.support import eventually
from tests.unit.orders.world import OTHER, REQUEST, World, place_request


@pytest.fixture
def world() -> World:
    made = World()
    made.decides = reserves
    return made


def request(number: int, **more: object) -> PlaceOrderRequest:
    """The request with this number."""
    return place_request(**{"request_id": str(UUID(int=number + 1)), "wait": WAIT_ACCEPTED, **more})


async def batch(world: World, *requests: PlaceOrderRequest) -> list[PlaceOrderResult]:
    response = await world.orders.BatchPlaceOrders(BatchPlaceOrdersRequest(requests=requests), call())
    assert [result.index for result in response.results] == list(range(len(requests)))
    return list(response.results)


def reason(result: PlaceOrderResult) -> str:
    """Reason of a failed result; empty if it succeeded."""
    if not result.HasField("status"):
        assert result.consistency_token
        assert result.order.name == result.name
        return ""
    assert not result.HasField("order")
    assert not result.consistency_token
    info = ErrorInfo()
    assert any(detail.Unpack(info) for detail in result.status.details)
    return str(info.reason)


async def test_orders_of_a_batch_are_appended_together_and_answered_in_order(world: World) -> None:
    results = await batch(world, *(request(number) for number in range(20)))
    assert world.together == [20]
    assert [result.order.state for result in results] == [ORDER_STATE_PLACED] * 20
    assert [f"groups/{fact.group}/orders/{fact.order}" for fact, _ in world.records] == [one.name for one in results]
    unary = await world.orders.PlaceOrder(request(3), call())
    assert unary.order.name == results[3].name


async def test_each_order_waits_as_requested(world: World) -> None:
    accepted, decided = await batch(world, request(1), request(2, wait=WAIT_SEAT_DECIDED))
    assert (accepted.order.state, decided.order.state) == (ORDER_STATE_PLACED, ORDER_STATE_RESERVED)


async def test_a_failed_order_does_not_affect_the_others(world: World) -> None:
    world.campaigns.late["late"] = world.campaigns.known["mug"]
    results = await batch(
        world,
        request(0),
        request(1, quantity=0, currency="cny"),
        request(2, currency="EUR"),
        request(3, campaign="campaigns/nothing"),
        request(4, group=f"groups/{UUID(int=5)}"),
        request(5, campaign="campaigns/late"),
        request(6),
    )
    assert [reason(result) for result in results] == [
        "",
        "INVALID_FIELDS",
        "CURRENCY_MISMATCH",
        "CAMPAIGN_NOT_FOUND",
        "GROUP_NOT_FOUND",
        "",
        "",
    ]
    assert len(world.records) == 3
    fields = BadRequest()
    assert any(detail.Unpack(fields) for detail in results[1].status.details)
    assert {one.field for one in fields.field_violations} == {"quantity", "currency"}
    assert results[1].name == ""
    assert results[2].status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert results[2].name


WRONG: list[dict[str, object]] = [
    {"customer": ""},
    {"campaign": "mug"},
    {"group": "groups/x"},
    {"group": f"groups/{UUID(int=5)}", "solo": True},
    {"quantity": 10_001},
    {"currency": "yuan"},
    {"max_unit_price_minor": 0, "payment_method": ""},
    {"request_id": "1"},
    {"wait": 99},
    {"share_link": "x" * 501},
]


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("wrong", WRONG, ids=str)
async def test_an_order_fails_in_a_batch_as_it_fails_alone(world: World, wrong: dict[str, object], place: int) -> None:
    requests = [request(0), request(1)]
    requests.insert(place, request(2, **wrong))
    results = await batch(world, *requests)
    with pytest.raises(ApiError) as caught:
        validate(requests[place])
    assert results.pop(place).status == to_status(caught.value)
    assert [reason(result) for result in results] == ["", ""]


async def test_a_broker_that_does_not_acknowledge_one_group_fails_its_order_only(world: World) -> None:
    first, second = await batch(world, request(1), request(2))
    world = World()
    world.lost.add(first.name.split("/")[1])
    lost, kept = await batch(world, request(1), request(2))
    assert (reason(lost), reason(kept)) == ("BROKER_UNAVAILABLE", "")
    assert any(detail.Is(RetryInfo.DESCRIPTOR) for detail in lost.status.details)
    assert (lost.name, kept.name) == (first.name, second.name)


async def test_the_same_request_twice_in_a_batch_is_one_order_and_another_payload_an_error(world: World) -> None:
    first, again, other = await batch(world, request(1), request(1), request(1, quantity=7))
    assert (reason(first), reason(again), reason(other)) == ("", "", "REQUEST_ID_REUSED")
    assert first.name == again.name == other.name
    assert {fact.order for fact, _ in world.records} == {first.name.split("/")[3]}


async def test_a_placed_order_is_answered_and_not_appended_again(world: World) -> None:
    order, _ = await world.place()
    same, reused = await batch(world, place_request(), place_request(quantity=9))
    assert (same.order.name, same.order.state) == (order.name, ORDER_STATE_RESERVED)
    assert reason(reused) == "REQUEST_ID_REUSED"
    assert len(world.records) == 1


async def test_friends_join_a_group_that_the_same_batch_opens(world: World) -> None:
    leader = (await batch(World(), request(1)))[0].name
    group = leader.rpartition("/orders/")[0]
    opened, joined = await batch(world, request(1), request(2, group=group, customer="bob"))
    assert (reason(opened), reason(joined)) == ("", "")
    assert joined.order.group == group


async def test_a_partition_that_is_not_ready_fails_each_order_with_a_delay(world: World) -> None:
    world.ready = False
    (result,) = await batch(world, request(1))
    assert reason(result) == "NOT_READY"
    assert not world.records


async def test_batches_are_refused_at_capacity(world: World) -> None:
    limiter = CapacityLimiter(10)
    handler = BatchPlaceOrders(world.orders._place_order, world.orders._event_publisher, LocalRouter(), limiter)
    limiter.try_acquire(8)
    with pytest.raises(ApiError) as caught:
        await handler.batch([request(n) for n in range(3)], call())
    assert (caught.value.code, caught.value.reason_name) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert caught.value.retry_after_ms
    assert len((await handler.batch([request(n) for n in range(2)], call())).results) == 2
    assert limiter.in_use == 8


# The stream ----------------------------------------------------------------------------------------------------------


async def sent(messages: Iterable[list[PlaceOrderRequest]]) -> AsyncIterator[PlaceOrdersRequest]:
    for requests in messages:
        yield PlaceOrdersRequest(requests=requests)


async def answers(stream: AsyncIterator[PlaceOrdersResponse]) -> list[PlaceOrderResult]:
    async with asyncio.timeout(5):
        return [result async for response in stream for result in response.results]


async def test_a_stream_answers_each_order_once(world: World) -> None:
    messages = [[request(10 * m + n) for n in range(10)] for m in range(5)]
    messages[2][3].quantity = 0
    results = await answers(world.orders.PlaceOrders(sent(messages), call(None)))
    assert sorted(result.index for result in results) == list(range(50))
    failed = {result.index: reason(result) for result in results if reason(result)}
    assert failed == {23: "INVALID_FIELDS"}
    assert len(world.records) == 49


async def test_a_stream_is_not_read_at_capacity(world: World) -> None:
    read = 0

    async def endless() -> AsyncIterator[PlaceOrdersRequest]:
        nonlocal read
        while True:
            requests = [request(read + n, wait=WAIT_SEAT_DECIDED) for n in range(100)]
            read += 100
            yield PlaceOrdersRequest(requests=requests)

    world.folds = False
    stream = world.orders.PlaceOrders(endless(), call(None))
    first = asyncio.ensure_future(anext(aiter(stream)))
    for _ in range(2_000):
        await asyncio.wait([first], timeout=0)
    assert not first.done()
    assert MAX_IN_STREAM <= read <= MAX_IN_STREAM + 100
    for fact, _ in list(world.records):
        world.fold(fact)
    assert (await first).results
    await stream.aclose()  # type: ignore[attr-defined] # an async generator
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_an_error_of_the_stream_comes_after_the_results_before_it(world: World) -> None:
    async def broken() -> AsyncIterator[PlaceOrdersRequest]:
        yield PlaceOrdersRequest(requests=[request(1), request(2)])
        raise ApiError(grpc.StatusCode.INVALID_ARGUMENT, errors_pb2.ERROR_REASON_INVALID_FIELDS, "not a request")

    results: list[PlaceOrderResult] = []
    with pytest.raises(ApiError, match="not a request"):
        async for response in world.orders.PlaceOrders(broken(), call(None)):
            results.extend(response.results)
    assert len(results) == 2


async def test_other_requests_of_a_customer_are_other_orders(world: World) -> None:
    first, second = await batch(world, place_request(request_id=REQUEST), place_request(request_id=OTHER))
    assert first.name != second.name


def waiting(number: int) -> PlaceOrderRequest:
    return request(number, wait=WAIT_FINAL)


async def test_orders_that_wait_for_their_final_state_do_not_block_others(world: World) -> None:
    """Forty batches of 500 once took all slots for a minute."""
    IDENTITY.set("shop")
    message = [waiting(number) for number in range(500)]
    batches = [asyncio.create_task(batch(world, *message)) for _ in range(40)]
    held: list[asyncio.Task[list[PlaceOrderResult]]] = []
    try:
        await eventually(lambda: sum(one.done() for one in batches) >= 40 - SHARE_WAIT_FINAL // 500)
        refused = [one for one in batches if one.done()]
        held = [one for one in batches if not one.done()]
        assert all(isinstance(one.exception(), ApiError) for one in refused)
        (result,) = await batch(world, request(9_999))
        assert result.order.state == ORDER_STATE_PLACED
        # Another identity has a share of these slots too.
        IDENTITY.set("other")
        held.append(asyncio.create_task(batch(world, waiting(7_777))))
        await asyncio.wait(held, timeout=0)
        assert not held[-1].done()
    finally:
        for one in held:
            one.cancel()
        await asyncio.gather(*held, return_exceptions=True)


async def test_single_orders_that_wait_for_their_final_state_have_a_share(world: World) -> None:
    IDENTITY.set("shop")
    calls = [
        asyncio.create_task(world.orders.PlaceOrder(waiting(number), call())) for number in range(SINGLE_SHARE + 1)
    ]
    try:
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED, timeout=30)
        assert [type(one.exception()) for one in done] == [ApiError]
    finally:
        for one in calls:
            one.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
