"""PlaceOrder: invalid requests are refused before a record is appended, and the answer is the decision."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import grpc
import pytest
from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.orders.v1.facts_pb2 import OrderFact
from groupbuy.orders.v1.orders_pb2 import (
    ORDER_STATE_CONFIRMED,
    ORDER_STATE_PLACED,
    ORDER_STATE_REFUSED,
    ORDER_STATE_RESERVED,
    ORDER_STATE_SETTLED,
    ORDER_STATE_WAITLISTED,
    WAIT_ACCEPTED,
    WAIT_FINAL,
    GetOrderRequest,
)

from chassis.rpc.errors import ApiError
from eventlog.core.errors import BrokerUnavailable, NotReady
from services.orders.domain.ids import group_id, order_id, request_digest
from tests.scenarios import group_events as ge
from tests.scenarios import orders as h
from tests.scenarios.api_call import call
from tests.scenarios.facts import GROUP
from tests.unit.orders.world import OTHER, REQUEST, World, place_request, still_waits


def refuses(fact: OrderFact, why: g.RefusalReason.ValueType) -> Sequence[g.GroupEvent]:
    """The decision that refuses a seat."""
    return [ge.seat_refused(fact.order, why, request_sha256=fact.placed.request_sha256)]


def fills(fact: OrderFact) -> Sequence[g.GroupEvent]:
    """A decider that has one seat, for the leader."""
    return h.reserves(fact) if fact.placed.opens_group else refuses(fact, g.REFUSAL_REASON_GROUP_FULL)


@pytest.fixture
def world() -> World:
    made = World()
    made.decides = h.reserves
    return made


def reason(caught: pytest.ExceptionInfo[ApiError]) -> tuple[grpc.StatusCode, str]:
    return caught.value.code, caught.value.reason_name


async def test_an_order_that_opens_a_group_is_one_fact(world: World) -> None:
    order, _ = await world.place()
    group = group_id("ann", REQUEST)
    ((fact, headers),) = world.records
    assert order.name == f"groups/{group}/orders/{order_id(group, 'ann', REQUEST)}"
    assert (fact.group, fact.order, fact.customer) == (group, order.name.split("/")[-1], "ann")
    assert fact.placed.opens_group
    assert fact.placed.campaign == "mug"
    assert fact.placed.payment_method == "card_ok"
    assert fact.placed.request_id == REQUEST
    assert fact.placed.request_sha256 == request_digest(place_request())
    assert headers["ce_id"] == f"{fact.order}:placed".encode()
    assert headers["ce_type"] == b"groupbuy.orders.v1.OrderPlaced"
    assert headers["ce_source"] == b"/groupbuy/orders"
    assert headers["ce_subject"] == order.name.encode()
    assert headers["groupbuy-campaign"] == b"mug"


async def test_the_answer_waits_for_the_seat_and_has_all_fields(world: World) -> None:
    order, _ = await world.place()
    assert order.state == ORDER_STATE_RESERVED
    # The decision was read before the fact. The answer has the fields of the fact nevertheless.
    assert order.max_unit_price_minor == 8900
    assert order.opened_group


async def test_an_accepted_order_is_answered_before_the_decision(world: World) -> None:
    world.folds = False
    order, token = await world.place(wait=WAIT_ACCEPTED)
    assert (order.state, order.revision, order.quantity, order.campaign) == (ORDER_STATE_PLACED, 1, 2, "campaigns/mug")
    assert token


async def test_wait_final_waits_for_the_final_state(world: World) -> None:
    placing = asyncio.create_task(world.place(wait=WAIT_FINAL))
    group = group_id("ann", REQUEST)
    order = order_id(group, "ann", REQUEST)
    with world.notifier.subscribe(group) as watch:
        async with asyncio.timeout(1):
            await watch.changed()
    assert not placing.done()
    world.decide(group, ge.member_confirmed(order), ge.completed(order))
    world.pay(group, h.authorised(order), h.captured(order))
    world.decide(group, h.settled(order))
    assert (await placing)[0].state == ORDER_STATE_SETTLED


async def test_a_full_group_answers_with_a_refused_order(world: World) -> None:
    world.decides = fills
    leader, _ = await world.place()
    order, _ = await world.place(customer="bob", group=leader.group)
    assert (order.state, order.reason) == (ORDER_STATE_REFUSED, "GROUP_FULL")
    assert not order.opened_group
    assert "groupbuy-campaign" not in world.records[1][1]


async def test_an_order_that_waits_for_pieces_alone_is_not_decided(world: World) -> None:
    terms = g.Terms(campaign="mug", currency="CNY", stock="drop")

    def waits(fact: OrderFact) -> Sequence[g.GroupEvent]:
        waitlisted = g.SeatWaitlisted(
            order=fact.order, customer="ann", quantity=2, request_sha256=fact.placed.request_sha256
        )
        return [ge.opened(fact.order, terms, 1), g.GroupEvent(seat_waitlisted=waitlisted)]

    world.decides = waits
    group = group_id("ann", REQUEST)
    placing = asyncio.create_task(world.place())
    await still_waits(placing)
    world.decide(group, ge.seat_reserved(order_id(group, "ann", REQUEST), "ann", 17_800))
    assert (await placing)[0].state == ORDER_STATE_RESERVED


async def test_an_order_that_opens_a_group_of_a_sold_out_stock_item_is_refused_at_once(world: World) -> None:
    world.campaigns.known["mug"].stock = "stocks/drop"
    # One order a second passes, because the hint may be stale.
    first, _ = await world.place()
    assert first.state == ORDER_STATE_RESERVED
    world.sell_out("drop")
    await world.place(customer="eve")
    with pytest.raises(ApiError) as caught:
        await world.place(customer="bob", request_id=OTHER)
    assert reason(caught) == (grpc.StatusCode.FAILED_PRECONDITION, "SOLD_OUT")
    # A group that has pieces seats on, and a retry of an order that has a seat is no new order.
    joined, _ = await world.place(customer="bob", group=first.group)
    again, _ = await world.place()
    assert (joined.state, again.name) == (ORDER_STATE_RESERVED, first.name)


async def test_a_waitlisted_order_is_decided(world: World) -> None:
    leader, _ = await world.place()
    world.decides = lambda fact: [
        g.GroupEvent(seat_waitlisted=g.SeatWaitlisted(order=fact.order, customer="bob", quantity=2))
    ]
    order, _ = await world.place(customer="bob", group=leader.group)
    assert order.state == ORDER_STATE_WAITLISTED


async def test_a_solo_purchase_opens_a_group_of_one(world: World) -> None:
    order, _ = await world.place(solo=True)
    assert order.solo
    assert world.records[0][0].placed.solo
    assert world.records[0][0].placed.opens_group


# Retries ----------------------------------------------------------------------------------------------------------


async def test_a_retry_is_the_same_order_and_no_second_record(world: World) -> None:
    first, _ = await world.place()
    world.decide(first.group.split("/")[1], ge.member_confirmed(first.name.split("/")[-1]))
    again, token = await world.place(wait=WAIT_ACCEPTED)
    assert again.name == first.name
    assert again.state == ORDER_STATE_CONFIRMED
    assert len(world.records) == 1
    assert await world.orders.GetOrder(GetOrderRequest(name=first.name, consistency_token=token), call()) == again


async def test_a_retry_is_answered_after_the_campaign_was_archived(world: World) -> None:
    first, _ = await world.place()
    world.campaigns.known["mug"].archived = True
    assert (await world.place())[0] == first


async def test_five_at_once_are_one_order(world: World) -> None:
    answers = await asyncio.gather(*(world.place() for _ in range(5)))
    assert len({order.name for order, _ in answers}) == 1
    assert {order.state for order, _ in answers} == {ORDER_STATE_RESERVED}


async def test_another_payload_under_the_same_request_id_is_refused(world: World) -> None:
    order, _ = await world.place()
    with pytest.raises(ApiError) as caught:
        await world.place(quantity=3)
    assert reason(caught) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert caught.value.metadata["order"] == order.name
    assert len(world.records) == 1


async def test_of_two_payloads_at_once_the_first_in_the_log_wins(world: World) -> None:
    first, second = await asyncio.gather(world.place(), world.place(quantity=3), return_exceptions=True)
    assert isinstance(first, tuple)
    assert first[0].quantity == 2
    assert isinstance(second, ApiError)
    assert second.reason_name == "REQUEST_ID_REUSED"


async def test_a_new_request_id_is_a_new_order(world: World) -> None:
    assert (await world.place())[0].name != (await world.place(request_id=OTHER))[0].name


# Invalid requests -------------------------------------------------------------------------------------------------


async def test_an_unknown_campaign_is_refused(world: World) -> None:
    with pytest.raises(ApiError) as caught:
        await world.place(campaign="campaigns/none")
    assert reason(caught) == (grpc.StatusCode.NOT_FOUND, "CAMPAIGN_NOT_FOUND")
    assert not world.records


async def test_a_campaign_that_was_just_created_is_known(world: World) -> None:
    world.campaigns.late["cup"] = Campaign(name="campaigns/cup", currency="CNY")
    assert (await world.place(campaign="campaigns/cup"))[0].state == ORDER_STATE_RESERVED


async def test_unreadable_campaigns_are_unavailable_not_unknown(world: World) -> None:
    world.campaigns.away = True
    with pytest.raises(BrokerUnavailable):
        await world.place(0.1, campaign="campaigns/none")


async def test_an_archived_campaign_opens_no_group_but_lets_friends_join(world: World) -> None:
    leader, _ = await world.place()
    world.campaigns.known["mug"].archived = True
    with pytest.raises(ApiError) as caught:
        await world.place(customer="bob")
    assert reason(caught) == (grpc.StatusCode.FAILED_PRECONDITION, "CAMPAIGN_ARCHIVED")
    assert (await world.place(customer="bob", group=leader.group))[0].state == ORDER_STATE_RESERVED


async def test_another_currency_is_refused(world: World) -> None:
    with pytest.raises(ApiError) as caught:
        await world.place(currency="EUR")
    assert reason(caught) == (grpc.StatusCode.INVALID_ARGUMENT, "CURRENCY_MISMATCH")
    assert [field for field, _ in caught.value.fields] == ["currency"]
    assert not world.records


async def test_a_group_of_another_campaign_is_refused(world: World) -> None:
    leader, _ = await world.place()
    world.campaigns.known["cup"] = Campaign(name="campaigns/cup", currency="CNY")
    with pytest.raises(ApiError) as caught:
        await world.place(customer="bob", group=leader.group, campaign="campaigns/cup")
    assert reason(caught) == (grpc.StatusCode.INVALID_ARGUMENT, "CAMPAIGN_MISMATCH")


async def test_a_group_that_is_not_opened_within_a_second_is_refused(world: World) -> None:
    with pytest.raises(ApiError) as caught:
        await world.place(0.1, group=f"groups/{GROUP}")
    assert reason(caught) == (grpc.StatusCode.NOT_FOUND, "GROUP_NOT_FOUND")
    assert not world.records


async def test_a_group_that_was_just_opened_is_waited_for(world: World) -> None:
    joining = asyncio.create_task(world.place(customer="bob", group=f"groups/{GROUP}"))
    await still_waits(joining)
    world.decide(GROUP, h.opened("leader"))
    assert (await joining)[0].state == ORDER_STATE_RESERVED


@pytest.mark.parametrize("group", ["-" * 36, "a" * 36, "0b6a0c2e0f54-5a4e-9a59-3f3a5f1f-7a10"])
async def test_an_invalid_group_name_is_refused(world: World, group: str) -> None:
    with pytest.raises(ApiError) as caught:
        await world.place(group=f"groups/{group}")
    assert reason(caught) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
    assert [field for field, _ in caught.value.fields] == ["group"]


# Slow or unavailable -----------------------------------------------------------------------------------------------


async def test_a_late_decision_is_pending_and_the_error_names_the_order(world: World) -> None:
    world.folds = False
    with pytest.raises(ApiError) as caught:
        await world.place(0.1)
    assert reason(caught) == (grpc.StatusCode.DEADLINE_EXCEEDED, "ANSWER_PENDING")
    fact, _ = world.records[0]
    name = f"groups/{fact.group}/orders/{fact.order}"
    assert caught.value.metadata["order"] == name
    world.fold(fact)
    token = caught.value.metadata["consistency_token"]
    assert (
        await world.orders.GetOrder(GetOrderRequest(name=name, consistency_token=token), call())
    ).state == ORDER_STATE_RESERVED


async def test_an_unavailable_broker_is_reported_within_the_deadline(world: World) -> None:
    world.broker = False
    with pytest.raises(BrokerUnavailable):
        await world.place(0.3)
    (timeout_s,) = world.timeouts
    assert timeout_s is not None
    assert 0 < timeout_s < 0.3


async def test_no_order_is_appended_while_the_projection_recovers(world: World) -> None:
    world.ready = False
    with pytest.raises(NotReady):
        await world.place()
    assert not world.records


async def test_no_log_line_contains_the_token_of_the_payment_method(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await world.place(payment_method="card_very_secret")
    with pytest.raises(ApiError) as caught:
        await world.place(payment_method="card_other_secret")
    assert "secret" not in caplog.text + repr(caught.value) + repr(caught.value.metadata) + repr(caught.value.fields)
