"""A payment event has one outcome in every status of an order, and funds without a seat are returned once."""

from __future__ import annotations

import pytest
from groupbuy.groups.v1.campaigns_pb2 import FAILED_CAPTURE_POLICY_KEEP_PRICE
from groupbuy.payments.v1.decisions_pb2 import Captured, PaymentEvent

from services.groups.api.mapping import group_message
from services.groups.domain.model import OrderStatus, Phase
from tests.scenarios.groups import (
    DAY,
    HOLD_WINDOW,
    START_MS,
    WINDOW,
    Group,
    authorised,
    campaign,
    cancels,
    capture_declined,
    captured,
    declined,
    forming,
    given,
    hold_lost,
    joins,
    opens,
    owed,
    payments_decided,
    placed,
    released,
    tick,
)

LASTS = START_MS + WINDOW + DAY


def settling(*members: str) -> Group:
    return forming(*members).when(tick(), at=WINDOW)


# Holds --------------------------------------------------------------------------------------------------------------


def test_a_hold_confirms_a_member_once() -> None:
    group = given(opens("a")).when(authorised("a")).then("member_confirmed a 1")
    assert group.events[0].member_confirmed.hold == "hold-a"
    group.when(authorised("a")).then_nothing()


@pytest.mark.parametrize("until_ms", [0, LASTS, LASTS + 1])
def test_a_hold_that_outlasts_the_deadline_by_a_day_is_sufficient(until_ms: int) -> None:
    given(opens("a")).when(authorised("a", until_ms=until_ms)).then("member_confirmed a 1")


@pytest.mark.parametrize(
    "hold",
    [
        authorised("b", until_ms=LASTS - 1),
        authorised("b", until_ms=1),
        authorised("b", amount_minor=899),
        authorised("b", amount_minor=901),
        authorised("b", currency="USD"),
    ],
)
def test_an_insufficient_hold_is_returned_and_its_seat_released(hold: bytes) -> None:
    group = given(opens("a"), joins("b")).when(hold)
    group.then("seat_released b HOLD_TOO_SHORT", "release_requested b HOLD_TOO_SHORT").when(hold).then_nothing()


def test_a_declined_hold_releases_the_seat_without_a_return_of_funds() -> None:
    group = given(opens("a"), joins("b")).when(declined("b")).then("seat_released b DECLINED")
    group.when(declined("b")).then_nothing()
    assert group.state.seats_left == 3


def test_a_member_whose_hold_is_lost_does_not_count_any_more() -> None:
    group = given(opens("a"), joins("b"), authorised("b")).when(hold_lost("b"))
    group.then("seat_released b HOLD_LOST", "release_requested b HOLD_LOST").when(hold_lost("b")).then_nothing()
    assert (len(group.state.confirmed), group.state.seats_left) == (0, 3)
    assert group.state.status("b") is OrderStatus.RELEASED


# Settlement ---------------------------------------------------------------------------------------------------------


def test_a_group_is_settled_when_every_member_is_charged_or_declined() -> None:
    group = settling("a", "b", "c")
    group.when(captured("b")).then("member_settled b 800").when(captured("b")).then_nothing()
    group.when(capture_declined("c")).then("member_declined c card closed")
    group.when(captured("a")).then("member_settled a 800", "settled 2 1 1600")
    assert group.state.is_done


def test_events_of_one_payment_decision_are_decided_in_order() -> None:
    group = settling("a", "b")
    both = (PaymentEvent(captured=Captured(order=order, amount_minor=800)) for order in ("a", "b"))
    group.when(payments_decided(*both)).then("member_settled a 800", "member_settled b 800", "settled 2 0 1600")


def test_a_declined_renewal_affects_its_member_only() -> None:
    group = settling("a", "b").when(declined("b")).then("member_declined b insufficient funds")
    group.when(captured("a")).then("member_settled a 800", "settled 1 1 800")


def test_a_renewed_hold_of_a_settling_member_changes_nothing() -> None:
    settling("a", "b").when(authorised("a", 800)).then_nothing()


def test_duplicate_payment_events_after_settlement_change_nothing() -> None:
    group = settling("a", "b").when(captured("a"), captured("b"))
    group.when(authorised("a"), captured("a"), declined("a"), capture_declined("a"), released("a")).then_nothing()


# Money without a seat -----------------------------------------------------------------------------------------------


def ended(status: OrderStatus) -> Group:
    """A group in which order b has this final status."""
    group = given(opens("a"), joins("b"))
    if status is OrderStatus.REFUSED:
        group = given(opens("a"), joins("b", quantity=0))
    elif status is OrderStatus.CANCELLED:
        group = given(opens("a"), cancels("b"))
    elif status is OrderStatus.HOLD_DECLINED:
        group.when(declined("b"))
    elif status is OrderStatus.LAPSED:
        group.when(tick(), at=HOLD_WINDOW)
    elif status is OrderStatus.RELEASED:
        group.when(tick(), at=HOLD_WINDOW - 1).when(authorised("b", 1))
    elif status is OrderStatus.CAPTURE_DECLINED:
        group.when(authorised("a"), authorised("b")).when(tick(), at=WINDOW).when(capture_declined("b"))
    assert group.state.status("b") is status
    return group


_ENDS = [
    OrderStatus.REFUSED,
    OrderStatus.CANCELLED,
    OrderStatus.HOLD_DECLINED,
    OrderStatus.LAPSED,
    OrderStatus.RELEASED,
    OrderStatus.CAPTURE_DECLINED,
]


@pytest.mark.parametrize("status", _ENDS)
@pytest.mark.parametrize("arrival", [authorised("b"), captured("b")])
def test_funds_of_an_ended_order_are_returned_once(status: OrderStatus, arrival: bytes) -> None:
    group = ended(status)
    is_requested = status in (OrderStatus.LAPSED, OrderStatus.RELEASED)
    group.when(arrival).then(*([] if is_requested else ["release_requested b NO_SEAT"]))
    group.when(arrival, authorised("b"), captured("b")).then_nothing()
    assert group.state.status("b") is status
    group.when(released("b")).then("member_released b").when(released("b"), arrival).then_nothing()


@pytest.mark.parametrize("arrival", [authorised("x"), captured("x")])
def test_funds_of_an_unknown_order_are_returned_once_and_it_gets_no_seat(arrival: bytes) -> None:
    for group in (given(), given(opens("a")), given(opens("a")).when(tick(), at=WINDOW)):
        group.when(arrival).then("release_requested x NO_SEAT").when(arrival).then_nothing()
        group.when(released("x")).then("member_released x")
        group.when(joins("x")).then("seat_refused x CANCELLED")
        group.when(joins("x"), cancels("x"), arrival, released("x")).then_nothing()


def test_an_orphaned_leader_opens_no_group() -> None:
    given(authorised("a")).when(opens("a")).then("seat_refused a CANCELLED")


def test_funds_of_a_waitlisted_order_end_its_place() -> None:
    offer = campaign(capacity=3, waitlist=True)
    for arrival in (authorised("d"), captured("d")):
        group = given(opens("a", offer), joins("b"), joins("c"), joins("d")).when(arrival)
        group.then("seat_released d NO_SEAT", "release_requested d NO_SEAT")


def test_a_capture_before_completion_is_returned() -> None:
    for paid in ((), ("b",)):
        group = given(opens("a"), joins("b"), *(authorised(order) for order in paid)).when(captured("b"))
        group.then("seat_released b NO_SEAT", "release_requested b NO_SEAT")


def test_a_decline_of_a_confirmed_member_releases_its_seat() -> None:
    for end in (declined("b"), capture_declined("b")):
        group = forming("a", "b").when(end).then("seat_released b DECLINED", "release_requested b DECLINED")
        group.when(end).then_nothing()
    given(opens("a"), joins("b")).when(capture_declined("b")).then("seat_released b DECLINED")


def test_a_release_by_payments_releases_the_seat() -> None:
    given(opens("a"), joins("b")).when(released("b")).then("seat_released b DECLINED", "member_released b")
    forming("a", "b").when(released("b")).then("seat_released b DECLINED", "member_released b")
    group = settling("a", "b").when(released("b")).then("member_declined b RELEASED", "member_released b")
    group.when(captured("a")).then("member_settled a 800", "settled 1 1 800")


def test_a_decline_of_an_order_without_a_hold_changes_nothing() -> None:
    group = given(opens("a", campaign(capacity=3, waitlist=True)), joins("b"), joins("c"), joins("d"))
    group.when(declined("d"), capture_declined("d"), declined("x"), capture_declined("x"), released("x")).then_nothing()


# Releases -----------------------------------------------------------------------------------------------------------


def test_a_closed_group_is_done_when_all_funds_are_returned() -> None:
    group = given(opens("a"), joins("b"), authorised("a")).when(tick(), at=WINDOW)
    assert group.state.phase is Phase.EXPIRED
    group.when(released("a")).then("member_released a").when(released("a")).then_nothing()
    assert not group.state.is_done
    group.when(released("b")).then("member_released b")
    assert group.state.is_done


@pytest.mark.parametrize(
    ("declined_orders", "cost"),
    [
        ("", 0),
        # Three members reach the tier of 800; two reach that of 900, and one reaches none.
        ("c", 2 * 100),
        ("bc", 100),
        ("abc", 0),
    ],
)
def test_the_merchant_bears_the_price_that_stays_when_captures_fail(declined_orders: str, cost: int) -> None:
    group = settling("a", "b", "c")
    for order in "abc":
        assert group_message(group.decided, group.state.frozen).kept_price_cost_minor == 0
        group.when(capture_declined(order) if order in declined_orders else captured(order))
    shown = group_message(group.decided, group.state.frozen)
    assert (shown.kept_price_cost_minor, shown.declined_members) == (cost, len(declined_orders))
    assert shown.terms.failed_capture_policy == FAILED_CAPTURE_POLICY_KEEP_PRICE
    # Nobody pays more than the price of the completion.
    assert (shown.unit_price_minor, group.state.captured_minor) == (800, 800 * (3 - len(declined_orders)))


def test_a_group_is_not_done_while_money_is_owed() -> None:
    group = settling("a", "b").when(captured("a"), captured("b"))
    assert group.state.is_done
    # A refund of a settled order comes back, and is returned in the end.
    group.when(owed("a", 300, refund="r1")).then("member_owed a 300")
    assert (group.state.is_done, group.state.status("a")) == (False, OrderStatus.SETTLED)
    group.when(owed("a", 200, refund="r1")).then_nothing()
    group.when(owed("a", 100)).then("member_owed a 100")
    group.when(owed("a", 0, refund="r1")).then("member_owed a 0").when(owed("a", 0, refund="r1")).then_nothing()
    assert not group.state.is_done
    group.when(owed("a", 0)).then("member_owed a 0")
    assert group.state.is_done


def test_a_copy_of_an_older_decision_of_payments_changes_nothing() -> None:
    group = settling("a", "b").when(captured("a"), captured("b"))
    group.when(owed("a", 300, version=7)).then("member_owed a 300").when(owed("a", 0, version=9)).then(
        "member_owed a 0"
    )
    # Another process had decided the same and appends it late.
    group.when(owed("a", 200, version=8)).then_nothing().when(owed("a", 0, version=9)).then_nothing()
    assert group.state.is_done
    group.when(owed("a", 100, version=12)).then("member_owed a 100")


def test_a_released_order_that_is_owed_money_reopens_its_group() -> None:
    group = given(opens("a"), authorised("a")).when(tick(), at=WINDOW).when(released("a"))
    assert group.state.is_done
    group.when(owed("a", 1_000)).then("member_owed a 1000")
    assert not group.state.is_done


def test_a_sum_of_an_order_that_the_group_does_not_know_is_left_to_payments() -> None:
    given(opens("a")).when(owed("x", 5)).then_nothing()


def test_a_done_group_keeps_only_the_statuses_of_its_orders() -> None:
    state = settling("a", "b").when(captured("a"), capture_declined("b")).state
    assert (state.settled, state.declined, state.captured_minor, state.members) == (1, 1, 800, 2)
    assert not (state.reserved or state.confirmed or state.waitlist or state.customers)
    assert set(state.ended) == {"a", "b"}
    assert all(end < 128 for end in state.ended.values())
    assert (state.status("a"), state.status("b")) == (OrderStatus.SETTLED, OrderStatus.CAPTURE_DECLINED)


def test_late_inputs_change_nothing_after_a_group_is_done() -> None:
    group = given(opens("a"), joins("b"), authorised("a")).when(tick(), at=WINDOW).when(released("a"), released("b"))
    again = (
        opens("a"),
        joins("b"),
        authorised("a"),
        authorised("b"),
        released("a"),
        released("b"),
        declined("b"),
        tick(),
    )
    group.when(*again, *reversed(again)).then_nothing()
    group.when(placed("c")).then("seat_refused c GROUP_EXPIRED")
