"""Duplicate requests, many requests for one seat, and a crash in the middle of charging: everything happens once."""

from __future__ import annotations

from uuid import uuid4

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from tests.integration.shop import CALL_S, Shop, state


def reason_of(error: grpc.RpcError) -> str:
    """The reason in a call's ErrorInfo."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type, unused-ignore]
    assert status is not None, "no google.rpc.Status"
    for detail in status.details:
        info = ErrorInfo()
        if detail.Unpack(info):
            assert info.domain == "groupbuy"
            return str(info.reason)
    raise AssertionError("no ErrorInfo")


def test_the_same_request_five_times_is_one_order_one_hold_one_capture(shop: Shop) -> None:
    campaign = shop.campaign(capacity=2)
    leader = shop.place(campaign)
    request = shop.request(campaign, leader.group)
    at_once = shop.place_all([request] * 4)
    later = shop.orders.PlaceOrder(request, timeout=CALL_S).order
    assert {order.name for order in (*at_once, later)} == {later.name}
    shop.wait_all([leader, later], "SETTLED")
    again = shop.orders.PlaceOrder(request, timeout=CALL_S).order
    assert (again.name, state(again)) == (later.name, "SETTLED")
    (hold,) = shop.holds([later])
    assert (hold.captures, hold.captured_minor) == (1, 8_900)


def test_the_same_request_id_with_another_payload_is_an_error(shop: Shop) -> None:
    campaign = shop.campaign(window_s=3)
    request = shop.request(campaign)
    shop.orders.PlaceOrder(request, timeout=CALL_S)
    request.quantity = 2
    with pytest.raises(grpc.RpcError) as refused:
        shop.orders.PlaceOrder(request, timeout=CALL_S)
    assert refused.value.code() == grpc.StatusCode.ALREADY_EXISTS
    assert reason_of(refused.value) == "REQUEST_ID_REUSED"


def test_one_of_twenty_gets_the_last_seat_and_nothing_is_held_for_the_others(shop: Shop) -> None:
    campaign = shop.campaign(capacity=2, at_deadline=True, window_s=6)
    leader = shop.place(campaign)
    orders = shop.place_all([shop.request(campaign, leader.group) for _ in range(20)])
    states = [state(order) for order in orders]
    refused = [order for order in orders if state(order) == "REFUSED"]
    assert len(refused) == 19, states
    assert {order.reason for order in refused} == {"GROUP_FULL"}
    assert shop.holds(refused) == []
    (winner,) = (order for order in orders if state(order) != "REFUSED")
    shop.wait_all([leader, winner], "SETTLED")


@pytest.mark.parametrize("victim", ["orders", "groups", "payments"])
def test_a_service_killed_during_a_settlement_charges_every_member_once(shop: Shop, victim: str) -> None:
    campaign = shop.campaign(capacity=30, tiers=((2, 8_900), (30, 6_900)), window_s=60, hold_s=50)
    leader = shop.place(campaign, payment_method="card_ok")
    friends = shop.place_all([shop.request(campaign, leader.group) for _ in range(28)])
    shop.wait_all([leader, *friends], "CONFIRMED")
    # Slow, so that only some are charged at the crash.
    shop.behave(latency_min_ms=300, latency_max_ms=3_000)
    last = shop.place(campaign, leader.group)
    orders = [leader, *friends, last]
    # After the last hold and the first capture.
    while not any(entry.captured_minor for entry in shop.holds(orders)):
        assert state(shop.get(last)) in {"RESERVED", "CONFIRMED", "SETTLED"}
    assert not all(entry.captured_minor for entry in shop.holds(orders))
    shop.stack.stack.kill(victim)
    shop.behave()
    settled = shop.wait_all(orders, "SETTLED", seconds=60)
    assert {order.captured_minor for order in settled} == {6_900}
    assert {(entry.captures, entry.captured_minor) for entry in shop.holds(orders)} == {(1, 6_900)}


def test_payments_frozen_past_its_session_charges_every_member_once(shop: Shop) -> None:
    campaign = shop.campaign(capacity=12, tiers=((2, 8_900), (12, 6_900)), window_s=60, hold_s=50)
    leader = shop.place(campaign)
    orders = [leader, *shop.place_all([shop.request(campaign, leader.group) for _ in range(10)])]
    shop.wait_all(orders, "CONFIRMED")
    shop.behave(latency_min_ms=300, latency_max_ms=2_000)
    orders.append(shop.place(campaign, leader.group))
    while not any(entry.captured_minor for entry in shop.holds(orders)):
        assert state(shop.get(orders[-1])) != "REFUSED"
    stack = shop.stack.stack
    stack.freeze("payments")
    try:
        frozen_for = shop.place(shop.campaign(window_s=3), request_id=str(uuid4()))
        # The broker removes a member after its session of 10 s. Orders continues meanwhile.
        shop.wait(frozen_for, "RELEASED", "LAPSED", seconds=30)
        shop.until_session_is_over()
    finally:
        stack.thaw("payments")
    shop.behave()
    settled = shop.wait_all(orders, "SETTLED", seconds=60)
    assert {order.captured_minor for order in settled} == {6_900}
    assert {entry.captures for entry in shop.holds(orders)} == {1}
