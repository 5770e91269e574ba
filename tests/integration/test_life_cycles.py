"""The life cycles of groups and orders on the real system. Each test ends with the audit (see conftest)."""

from __future__ import annotations

import grpc
import pytest
from groupbuy.groups.v1.groups_pb2 import GroupState
from groupbuy.simprovider.v1.simprovider_pb2 import ConfirmRequest

from tests.integration.shop import Shop, state


def test_a_full_group_is_charged_the_price_of_its_tier(shop: Shop) -> None:
    campaign = shop.campaign(capacity=5)
    orders = shop.full_group(campaign, 5)
    settled = shop.wait_all(orders, "SETTLED")
    assert {order.captured_minor for order in settled} == {7_900}
    assert {(e.authorised_minor, e.captured_minor, e.released_minor) for e in shop.holds(orders)} == {
        (8_900, 7_900, 1_000)
    }
    group = shop.group(orders[0])
    assert group.state == GroupState.GROUP_STATE_COMPLETED
    assert group.unit_price_minor == 7_900


def test_at_the_deadline_the_reached_tier_is_charged(shop: Shop) -> None:
    campaign = shop.campaign(capacity=10, at_deadline=True, window_s=3, leader_discount=100)
    leader = shop.place(campaign, quantity=2)
    friend = shop.place(campaign, leader.group)
    third = shop.place(campaign, leader.group, quantity=3)
    assert shop.wait(leader, "SETTLED").captured_minor == 2 * (8_900 - 100)
    assert shop.wait(friend, "SETTLED").captured_minor == 8_900
    assert shop.wait(third, "SETTLED").captured_minor == 3 * 8_900


def test_an_expired_group_releases_every_member(shop: Shop) -> None:
    campaign = shop.campaign(tiers=((3, 8_900), (5, 7_900)), capacity=5, window_s=2)
    orders = shop.full_group(campaign, 2)
    for order in shop.wait_all(orders, "RELEASED"):
        assert order.reason == "GROUP_EXPIRED"
    refused = shop.place(campaign, orders[0].group)
    assert (state(refused), refused.reason) == ("REFUSED", "GROUP_EXPIRED")


def test_a_declined_card_frees_the_seat_for_another_shopper(shop: Shop) -> None:
    campaign = shop.campaign(capacity=2, tiers=((2, 8_900),))
    leader = shop.place(campaign)
    declined = shop.place(campaign, leader.group, payment_method="card_declined")
    shop.wait(declined, "DECLINED")
    friend = shop.place(campaign, leader.group)
    shop.wait_all([leader, friend], "SETTLED")
    assert shop.holds([declined]) == []


def test_a_declined_capture_does_not_affect_other_members(shop: Shop) -> None:
    campaign = shop.campaign(capacity=3)
    leader = shop.place(campaign)
    broke = shop.place(campaign, leader.group, payment_method="card_decline_capture")
    friend = shop.place(campaign, leader.group)
    assert {o.captured_minor for o in shop.wait_all([leader, friend], "SETTLED")} == {8_900}
    assert shop.wait(broke, "DECLINED").captured_minor == 0


def test_a_shopper_leaves_before_and_after_the_money_is_held(shop: Shop) -> None:
    campaign = shop.campaign(capacity=3, window_s=4)
    leader = shop.place(campaign)
    shop.wait(leader, "CONFIRMED")
    early = shop.place(campaign, leader.group, payment_method="card_action")
    assert state(shop.cancel(early)) == "CANCELLED"
    late = shop.place(campaign, leader.group)
    shop.wait(late, "CONFIRMED")
    assert state(shop.cancel(late)) == "CANCELLED"
    assert state(shop.cancel(late)) == "CANCELLED"
    shop.wait(leader, "RELEASED")


def test_a_leader_who_leaves_is_replaced(shop: Shop) -> None:
    campaign = shop.campaign(capacity=3, window_s=4)
    leader = shop.place(campaign)
    shop.wait(leader, "CONFIRMED")
    friend = shop.place(campaign, leader.group)
    shop.wait(friend, "CONFIRMED")
    shop.cancel(leader)
    assert shop.group(friend).leader_order == friend.name
    third = shop.place(campaign, leader.group)
    shop.wait_all([friend, third], "SETTLED")


def test_after_completion_it_is_too_late_to_leave(shop: Shop) -> None:
    campaign = shop.campaign(capacity=2, tiers=((2, 8_900),))
    orders = shop.full_group(campaign, 2)
    shop.wait_all(orders, "SETTLED")
    with pytest.raises(grpc.RpcError) as refused:
        shop.cancel(orders[0])
    assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION


def test_buying_alone_costs_the_solo_price_at_once(shop: Shop) -> None:
    order = shop.place(shop.campaign(), solo=True)
    assert shop.wait(order, "SETTLED").captured_minor == 9_900


def test_a_payment_that_needs_a_confirmation_is_returned_to_the_shopper(shop: Shop) -> None:
    campaign = shop.campaign(capacity=2, tiers=((2, 8_900),), window_s=40, hold_s=30)
    leader = shop.place(campaign)
    friend = shop.place(campaign, leader.group, payment_method="card_action")
    for _ in range(400):
        friend = shop.get(friend)
        if friend.action_url:
            break
    assert friend.action_url
    order = friend.name.rsplit("/", 1)[1]
    shop.provider.Confirm(ConfirmRequest(key=f"{order}:authorise:1"), timeout=5)
    shop.wait_all([leader, friend], "SETTLED")


def test_a_payment_that_is_never_confirmed_loses_its_seat(shop: Shop) -> None:
    campaign = shop.campaign(capacity=2, tiers=((2, 8_900),), window_s=6, hold_s=1.5)
    leader = shop.place(campaign)
    friend = shop.place(campaign, leader.group, payment_method="card_action")
    assert shop.wait(friend, "LAPSED").captured_minor == 0
    shop.wait(leader, "RELEASED")


def test_a_wallet_pays_at_once_and_the_excess_is_refunded(shop: Shop) -> None:
    campaign = shop.campaign(capacity=5)
    orders = shop.full_group(campaign, 5, payment_method="wallet_ok")
    assert {order.captured_minor for order in shop.wait_all(orders, "SETTLED")} == {7_900}
    assert {(e.captured_minor, e.refunded_minor) for e in shop.holds(orders)} == {(8_900, 1_000)}


def test_a_waitlisted_order_takes_a_free_seat(shop: Shop) -> None:
    campaign = shop.campaign(capacity=2, tiers=((2, 8_900),), at_deadline=True, waitlist=True, window_s=5)
    leader = shop.place(campaign)
    friend = shop.place(campaign, leader.group)
    waiting = shop.place(campaign, leader.group)
    assert state(waiting) == "WAITLISTED"
    assert shop.holds([waiting]) == []
    shop.wait(friend, "CONFIRMED")
    shop.cancel(friend)
    shop.wait_all([leader, waiting], "SETTLED")
