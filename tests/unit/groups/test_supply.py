"""Rules version 2: seats need pieces, an admission, and a time within the sale. Amounts and times as in scenarios."""

from __future__ import annotations

from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from groupbuy.groups.v1 import decisions_pb2 as pb
from groupbuy.groups.v1.campaigns_pb2 import Campaign
from groupbuy.groups.v1.inbox_pb2 import AdmissionAnswer, GroupInput, StockAnswer

from services.groups.domain.model import OrderStatus, Phase
from tests.scenarios.groups import (
    HOUR,
    START_MS,
    Group,
    authorised,
    campaign,
    cancel_group,
    cancels,
    capture_declined,
    captured,
    given,
    joins,
    opens,
    tick,
)


def stocked(**changes: Any) -> Campaign:
    return campaign(**{"stock": "stocks/drop", "rules_version": 2} | changes)


def limited(**changes: Any) -> Campaign:
    return campaign(**{"limit_per_customer": 1, "rules_version": 2} | changes)


def granted(units: int, version: int = 1) -> bytes:
    return GroupInput(stock_answer=StockAnswer(stock="drop", version=version, granted=units)).SerializeToString()


def denied(version: int = 1, *, free: int = 0, queued: bool = False) -> bytes:
    answer = StockAnswer(stock="drop", version=version, free=free, queued=queued)
    return GroupInput(stock_answer=answer).SerializeToString()


def admitted(order: str, *, yes: bool = True) -> bytes:
    return GroupInput(admission_answer=AdmissionAnswer(order=order, admitted=yes)).SerializeToString()


def kinds(group: Group) -> list[str]:
    return [event.WhichOneof("body") or "" for event in group.events]


def only(group: Group, kind: str) -> Any:
    (found,) = [getattr(event, kind) for event in group.events if event.WhichOneof("body") == kind]
    return found


# Pieces -------------------------------------------------------------------------------------------------------------


def test_the_leader_waits_for_pieces_and_is_seated_when_they_come() -> None:
    group = given(opens("a", stocked()))
    assert kinds(group) == ["opened", "seat_waitlisted", "units_requested"]
    asked = only(group, "units_requested")
    assert (asked.stock, asked.at_least, asked.wanted, asked.at_most, asked.queue) == ("drop", 1, 1, 4, False)
    group.when(granted(3))
    assert kinds(group) == ["units_granted", "seat_reserved"]
    group.when(joins("b"))
    assert kinds(group) == ["seat_reserved"]


def test_a_group_asks_once_and_again_only_after_the_answer() -> None:
    group = given(opens("a", stocked())).when(joins("b"))
    assert kinds(group) == ["seat_waitlisted"]
    group.when(granted(1))
    assert kinds(group) == ["units_granted", "seat_reserved", "units_requested"]
    assert only(group, "units_requested").at_least == 1


def test_a_group_that_asks_ahead_opens_with_pieces_for_all_seats() -> None:
    group = given(opens("a", stocked(lease_ahead=4)))
    asked = only(group, "units_requested")
    assert (asked.at_least, asked.wanted, asked.at_most, asked.queue) == (1, 4, 4, False)
    group.when(granted(4))
    assert kinds(group) == ["units_granted", "seat_reserved"]
    for order in "bcd":
        group.when(joins(order))
        assert kinds(group) == ["seat_reserved"]


def test_a_group_asks_for_the_next_pieces_before_the_last_one_is_used() -> None:
    group = given(opens("a", stocked(lease_ahead=2)))
    assert only(group, "units_requested").wanted == 3
    group.when(granted(2))
    assert kinds(group) == ["units_granted", "seat_reserved"]
    group.when(joins("b"))
    assert kinds(group) == ["seat_reserved", "units_requested"]
    asked = only(group, "units_requested")
    assert (asked.at_least, asked.wanted, asked.at_most, asked.queue) == (1, 2, 2, False)
    group.when(granted(2, version=2))
    assert kinds(group) == ["units_granted"]
    group.when(joins("c"))
    assert kinds(group) == ["seat_reserved"]


def test_a_group_asks_ahead_no_more_once_there_are_too_few_until_an_order_waits() -> None:
    group = given(opens("a", stocked(lease_ahead=2)), granted(1)).when(denied(version=2))
    assert kinds(group) == ["units_denied"]
    group.when(joins("b"))
    assert kinds(group) == ["seat_waitlisted", "units_requested"]
    group.when(granted(1, version=3))
    assert kinds(group) == ["units_granted", "seat_reserved", "units_requested"]


def test_a_repeated_grant_changes_nothing() -> None:
    group = given(opens("a", stocked()), granted(2))
    group.when(granted(2))
    assert group.events == []
    assert group.state.supply is not None
    assert group.state.supply.leased == 2


def test_sold_out_refuses_those_that_need_more_than_there_is() -> None:
    group = given(opens("a", stocked(), quantity=3), joins("b"))
    group.when(denied(free=1))
    assert kinds(group) == ["units_denied", "seat_refused", "leader_changed", "units_requested"]
    refused = only(group, "seat_refused")
    assert (refused.order, refused.reason) == ("a", pb.REFUSAL_REASON_SOLD_OUT)
    group.when(denied(version=2))
    assert group.state.status("b") is OrderStatus.REFUSED


def test_a_group_with_a_waitlist_stands_in_line() -> None:
    group = given(opens("a", stocked(waitlist=True))).when(denied(queued=True))
    assert kinds(group) == ["units_denied"]
    assert group.state.supply is not None
    assert group.state.supply.sold_out
    group.when(granted(1, version=5))
    assert kinds(group) == ["units_granted", "seat_reserved"]


def test_a_grant_from_the_line_for_nobody_goes_back_at_once() -> None:
    group = given(opens("a", stocked(waitlist=True)), denied(queued=True), cancels("a"))
    group.when(granted(1, version=5))
    assert kinds(group) == ["units_granted", "units_returned"]
    assert not only(group, "units_returned").closed


def test_pieces_of_a_completed_group_are_sold_or_given_back() -> None:
    group = given(opens("a", stocked()), granted(4), joins("b"), joins("c"), joins("d"))
    group.when(*(authorised(order) for order in "abc"))
    group.when(authorised("d"))
    assert only(group, "units_returned").units == 0
    assert only(group, "units_returned").closed
    group.when(captured("a"))
    assert only(group, "units_sold").units == 1
    group.when(capture_declined("b"))
    assert only(group, "units_returned").units == 1
    assert group.state.supply is not None
    assert group.state.supply.leased == 2


def test_a_cancelled_group_gives_all_back_and_late_pieces_too() -> None:
    group = given(opens("a", stocked()), granted(1), joins("b"))
    group.when(cancel_group())
    assert (only(group, "units_returned").units, only(group, "units_returned").closed) == (1, True)
    group.when(granted(3, version=2))
    assert kinds(group) == ["units_granted", "units_returned"]
    assert only(group, "units_returned").units == 3


def test_a_refused_solo_purchase_ends() -> None:
    group = given(opens("a", stocked(), solo=True))
    assert only(group, "units_requested").at_most == 1
    group.when(denied())
    assert group.state.phase is Phase.EXPIRED


# Limits -------------------------------------------------------------------------------------------------------------


def test_an_order_of_a_limited_campaign_waits_for_its_admission() -> None:
    group = given(opens("a", limited()))
    assert kinds(group) == ["opened", "admission_requested"]
    assert only(group, "admission_requested").limit == 1
    assert group.state.status("a") is OrderStatus.ADMITTING
    group.when(admitted("a"))
    assert kinds(group) == ["seat_reserved"]
    # A repeat finds a seat.
    group.when(admitted("a"))
    assert group.events == []


def test_an_order_beyond_the_limit_is_refused_and_gives_nothing_back() -> None:
    group = given(opens("a", limited()), admitted("a"), joins("b"))
    group.when(admitted("b", yes=False))
    assert kinds(group) == ["seat_refused"]
    assert only(group, "seat_refused").reason == pb.REFUSAL_REASON_LIMIT_REACHED


def test_every_other_end_without_a_purchase_gives_the_allowance_back() -> None:
    group = given(opens("a", limited()), admitted("a"), joins("b")).when(cancels("b"))
    assert kinds(group) == ["seat_refused", "allowance_returned"]
    group.when(cancels("a"))
    returned = only(group, "allowance_returned")
    assert (returned.order, returned.campaign) == ("a", "mug")


def test_an_admission_after_the_end_of_the_group_is_refused_and_given_back() -> None:
    group = given(opens("a", limited()), cancel_group()).when(admitted("a"))
    assert kinds(group) == ["seat_refused", "allowance_returned"]
    assert only(group, "seat_refused").reason == pb.REFUSAL_REASON_GROUP_CANCELLED


def test_one_customer_gets_one_seat_however_many_orders_were_admitted() -> None:
    offer = limited(limit_per_customer=5)
    group = given(opens("a", offer, customer="ann"), joins("b", customer="ann"), admitted("a"))
    group.when(admitted("b"))
    assert kinds(group) == ["seat_refused", "allowance_returned"]
    assert only(group, "seat_refused").reason == pb.REFUSAL_REASON_ALREADY_MEMBER


# Times --------------------------------------------------------------------------------------------------------------


def _at(milliseconds: int) -> Timestamp:
    made = Timestamp()
    made.FromMilliseconds(START_MS + milliseconds)
    return made


def test_orders_are_taken_from_the_start_by_the_logs_clock() -> None:
    offer = campaign(rules_version=2, start_time=_at(10))
    early = given(opens("a", offer))
    assert only(early, "seat_refused").reason == pb.REFUSAL_REASON_NOT_STARTED
    early.when(opens("b", offer), at=10)
    assert kinds(early) == ["opened", "seat_reserved"]


def test_a_group_closes_at_the_end_of_the_sale() -> None:
    group = given(opens("a", campaign(rules_version=2, end_time=_at(HOUR // 2))))
    assert only(group, "opened").deadline_ms == START_MS + HOUR // 2
    group.when(tick(), at=HOUR // 2)
    assert group.state.phase is Phase.EXPIRED
    late = Group()
    late.when(opens("b", campaign(rules_version=2, end_time=_at(HOUR // 2))), at=HOUR // 2)
    assert only(late, "seat_refused").reason == pb.REFUSAL_REASON_ENDED
