"""Digests, bytes and headers of an order do not change between versions: retries and other services depend on them."""

from __future__ import annotations

import pytest
from groupbuy.orders.v1.facts_pb2 import OrderCancelRequested, OrderFact, OrderPlaced
from groupbuy.orders.v1.orders_pb2 import (
    WAIT_ACCEPTED,
    BatchPlaceOrdersRequest,
    CancelOrderRequest,
    Order,
    PlaceOrderRequest,
)

from eventlog.records.envelope import headers
from services.orders.api.mapping import order_message
from services.orders.domain.fold import OrdersFold
from services.orders.domain.ids import OrderName, group_id, order_id, request_digest
from tests.scenarios.api_call import call
from tests.scenarios.orders import reserves
from tests.unit.orders.world import OTHER, REQUEST, TIME_MS, World, place_request

ORDERS = [
    {},
    {"solo": True, "quantity": 7, "max_unit_price_minor": 123_456_789},
    {"group": f"groups/{group_id('ann', REQUEST)}", "customer": "bob", "request_id": OTHER},
]


@pytest.fixture
def world() -> World:
    made = World()
    made.decides = reserves
    return made


def names(request: PlaceOrderRequest) -> tuple[str, str]:
    """Ids of a request's group and order."""
    group = request.group.removeprefix("groups/") or group_id(request.customer, request.request_id)
    return group, order_id(group, request.customer, request.request_id)


@pytest.mark.parametrize(
    ("payload", "digest"),
    [
        (place_request(), "05c4cbc14012a83dc807354d4fa27151a16a1990f9abbe92b8732e0cfba2c8e3"),
        (
            place_request(solo=True, wait=WAIT_ACCEPTED),
            "d78899ac6a89c1ab6ab2c295a2ae406e39e8f3273cb073a3d14789b018be5c6e",
        ),
        (
            place_request(group=f"groups/{group_id('ann', REQUEST)}", share_link="v1.a.b.c", wait=WAIT_ACCEPTED),
            "28d625ed4aa6e962ae5ca2cb679c007b9d7112aa303e32a4da3f49c00bb94655",
        ),
        # Fields that this build does not know are part of the payload.
        (
            PlaceOrderRequest.FromString(place_request().SerializeToString() + b"\xfa\x06\x03abc"),
            "5904c11c7ea515bfc1e738dca307166afb9b3f054f48be3e46d5ba15efb7813b",
        ),
        # A field that only resembles an excluded one is part of the payload.
        (
            place_request(customer=f"J${REQUEST}P\x01", wait=WAIT_ACCEPTED),
            "289ed8dd9966790e78e5978c16fd57598f0297e6044f95447ac04351edeb1868",
        ),
    ],
)
def test_digests_do_not_change_between_versions(payload: PlaceOrderRequest, digest: str) -> None:
    assert request_digest(payload).hex() == digest


@pytest.mark.parametrize("more", ORDERS)
@pytest.mark.parametrize("together", [False, True])
async def test_a_record_is_the_fact_and_its_headers(world: World, more: dict[str, object], together: bool) -> None:
    await world.place()
    world.raw.clear()
    request = place_request(**{"request_id": OTHER, **more})
    if together:
        await world.orders.BatchPlaceOrders(BatchPlaceOrdersRequest(requests=[request]), call())
    else:
        await world.orders.PlaceOrder(request, call())
    group, order = names(request)
    ((key, value, written),) = world.raw
    placed = OrderPlaced(
        campaign="mug",
        opens_group=not request.group,
        solo=request.solo,
        quantity=request.quantity,
        currency=request.currency,
        max_unit_price_minor=request.max_unit_price_minor,
        payment_method=request.payment_method,
        request_id=request.request_id,
        request_sha256=request_digest(request),
    )
    assert key == group
    assert value == OrderFact(order=order, group=group, customer=request.customer, placed=placed).SerializeToString()
    extra = {} if request.group else {"groupbuy-campaign": "mug"}
    kind = "groupbuy.orders.v1.OrderPlaced"
    subject = f"groups/{group}/orders/{order}"
    assert written == headers(f"{order}:placed", kind, "/groupbuy/orders", TIME_MS, subject, extra)


async def test_a_cancel_request_is_its_fact_and_headers(world: World) -> None:
    order, _ = await world.place()
    world.raw.clear()
    world.folds = False
    with pytest.raises(Exception, match=r"read groups/.* with GetOrder"):
        await world.orders.CancelOrder(CancelOrderRequest(name=order.name, request_id=OTHER, reason="no"), call(0.2))
    group, ident = names(place_request())
    ((key, value, written),) = world.raw
    body = OrderCancelRequested(request_id=OTHER, reason="no")
    assert key == group
    fact = OrderFact(order=ident, group=group, customer="ann", cancel_requested=body)
    assert value == fact.SerializeToString()
    kind = "groupbuy.orders.v1.OrderCancelRequested"
    assert written == headers(f"{ident}:cancel_requested:{OTHER}", kind, "/groupbuy/orders", TIME_MS, order.name)


@pytest.mark.parametrize("more", ORDERS)
@pytest.mark.parametrize("together", [False, True])
async def test_an_accepted_order_equals_its_later_read(world: World, more: dict[str, object], together: bool) -> None:
    await world.place()
    world.records.clear()
    request = place_request(**{"request_id": OTHER, **more, "wait": WAIT_ACCEPTED})
    shown: Order
    if together:
        (result,) = (await world.orders.BatchPlaceOrders(BatchPlaceOrdersRequest(requests=[request]), call())).results
        shown = result.order
    else:
        shown = (await world.orders.PlaceOrder(request, call())).order
    ((fact, _),) = world.records
    rules = OrdersFold()
    state = rules.initial(fact.group)
    rules.fold_fact(state, fact, world.now_ms)
    assert shown == order_message(OrderName(fact.group, fact.order), state, state.orders[fact.order])
