"""The audit reports every kind of violation, and nothing else. Method: correct logs, each with one fault."""

from __future__ import annotations

import json
from typing import Any

import pytest
from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.payments.v1 import decisions_pb2 as p

from ops.audit import Invariant
from ops.audit.group.membership import GroupState
from tests.scenarios import group_events as ge
from tests.scenarios import payment_events as pe
from tests.scenarios.facts import GROUP, digest_of
from tests.scenarios.group_events import hold_of
from tests.unit.ops.scripted_logs import (
    DEADLINE_MS,
    OPENED_MS,
    Edit,
    ScriptedLogs,
    authorised,
    completed_group,
    expired_group,
    opening,
    release,
    reserved,
)


def put(path: str, value: Any, event: int = 0) -> Edit:
    """An edit that sets one field of one event, for instance `captured.amount_minor`."""

    def edit(events: list[Any]) -> None:
        *names, last = path.split(".")
        at = events[event]
        for name in names:
            at = getattr(at, name)
        setattr(at, last, value)

    return edit


def add(*more: Any) -> Edit:
    return lambda events: events.extend(more)


def drop(event: int) -> Edit:
    return lambda events: events.pop(event)


def clear(events: list[Any]) -> None:
    events.clear()


def orders_named(*orders: str) -> Edit:
    def edit(events: list[Any]) -> None:
        del events[2].completed.orders[:]
        events[2].completed.orders.extend(orders)

    return edit


def keep(count: int) -> Edit:
    def edit(events: list[Any]) -> None:
        del events[count:]

    return edit


def refund_request(order: str, amount: int) -> p.PaymentEvent:
    call = p.ProviderCall(order=order, operation=p.OPERATION_REFUND, amount_minor=amount, hold=hold_of(order))
    call.refund = "r1"
    return p.PaymentEvent(refund_requested=p.RefundRequested(call=call))


def owes(order: str, amount: int, *, alarm: bool = False) -> p.PaymentEvent:
    owed = p.MoneyOwed(order=order, hold=hold_of(order), amount_minor=amount, currency="CNY", reason="no", alarm=alarm)
    return p.PaymentEvent(money_owed=owed)


def owed_before_release(order: str, amount: int) -> Edit:
    return lambda events: events.insert(1, owes(order, amount, alarm=True))


def reversed_refund(order: str, amount: int, refund: str) -> p.PaymentEvent:
    body = p.RefundReversed(order=order, hold=hold_of(order), amount_minor=amount, currency="CNY", refund=refund)
    return p.PaymentEvent(refund_reversed=body)


def fee(order: str) -> p.PaymentEvent:
    body = p.FeeCharged(order=order, hold=hold_of(order), reference="f1", amount_minor=30, currency="CNY")
    return p.PaymentEvent(fee_charged=body)


refused_again = ge.seat_refused("b", customer="bob", request_sha256=digest_of("b"))
released_d = ge.release_requested("d", g.RELEASE_REASON_CANCELLED)
refund = pe.refunded("b", 8000, "r1")


def test_a_correct_completed_group_passes() -> None:
    report = completed_group().audit(acknowledged=((GROUP, "a"), (GROUP, "e")))
    assert report.findings.violations == []
    assert report.books_equal is True
    assert (report.placed, report.holds, report.open_holds) == (5, 4, 0)
    assert report.groups == {GroupState.COMPLETED: 1}
    assert report.money["CNY"].captured == 31400


def test_a_correct_expired_group_passes() -> None:
    report = expired_group().audit()
    assert report.findings.violations == []
    assert report.money["CNY"].released == report.money["CNY"].held == 26700


def test_the_last_line_is_one_object_with_the_documented_keys() -> None:
    figures = json.loads(completed_group().audit().json())
    assert figures["groups"] == 1
    assert figures["orders"] == 5
    assert figures["violations"] == 0
    assert figures["books_equal"] is True
    assert figures["captured_minor"] == {"CNY": 31400}


PLANTED: dict[str, tuple[Invariant, str, Edit]] = {
    # money
    "a capture that is not the tier's price": (
        Invariant.RIGHT_AMOUNT, "capture b", put("captured.amount_minor", 8900),
    ),
    "a capture that leaves a rest open": (
        Invariant.HELD_IS_ACCOUNTED_FOR, "capture b", put("captured.released_minor", 999),
    ),
    "a second capture": (Invariant.ONE_CAPTURE, "capture b", add(pe.captured("b", 7900, 1000))),
    "a capture of a hold nobody made": (
        Invariant.HELD_IS_ACCOUNTED_FOR, "capture b", put("captured.hold", "hold-x"),
    ),
    "a capture before completion": (Invariant.CAPTURE_AFTER_COMPLETION, "hold b", add(pe.captured("b", 7900, 1000))),
    "a hold above the first tier's price": (
        Invariant.RIGHT_AMOUNT, "join b", put("seat_reserved.hold_amount_minor", 9900),
    ),
    "a hold of another amount than the seat's": (
        Invariant.RIGHT_AMOUNT, "ask b", put("hold_requested.call.amount_minor", 8901),
    ),
    "more held than requested": (Invariant.RIGHT_AMOUNT, "hold b", put("hold_authorised.amount_minor", 9000)),
    "a hold in another currency": (Invariant.RIGHT_AMOUNT, "hold b", put("hold_authorised.currency", "JPY")),
    "a void that releases too little": (Invariant.HELD_IS_ACCOUNTED_FOR, "gone c", put("voided.amount_minor", 8800)),
    "a hold authorised twice": (Invariant.HELD_IS_ACCOUNTED_FOR, "hold b", add(authorised("b"))),
    "a hold requested twice": (Invariant.ONE_CAPTURE, "hold b", add(pe.hold_requested("b", 8900))),
    "a refund beyond the capture": (Invariant.REFUNDS_WITHIN_CAPTURES, "capture b", add(refund)),
    "a release without a request": (
        Invariant.ONE_END_OF_ORDER, "capture d", add(p.PaymentEvent(payment_released=p.PaymentReleased(order="d"))),
    ),
    "a release that leaves the hold open": (Invariant.HELD_IS_ACCOUNTED_FOR, "gone c", drop(0)),
    "a leader without the discount": (
        Invariant.RIGHT_AMOUNT, "complete", put("settlement_requested.amount_minor", 15800, 3),
    ),
    "a charge to the wrong hold": (Invariant.RIGHT_AMOUNT, "complete", put("settlement_requested.hold", "hold-b", 3)),
    "a member charged twice": (Invariant.ONE_CAPTURE, "complete", add(ge.settlement_requested("b", 7900))),
    "a charge to a member who left": (
        Invariant.CAPTURE_AFTER_COMPLETION, "complete", add(ge.settlement_requested("c", 7900)),
    ),
    "a member settled at another amount": (
        Invariant.RIGHT_AMOUNT, "settle b", put("member_settled.amount_minor", 7800),
    ),
    "a sum that is not its members'": (Invariant.RIGHT_AMOUNT, "settle d", put("settled.captured_minor", 1, 1)),
    # the group
    "a tier that was not reached": (Invariant.RIGHT_AMOUNT, "confirm b", put("tier_reached.members", 3, 1)),
    "the wrong tier at completion": (Invariant.RIGHT_AMOUNT, "complete", put("completed.unit_price_minor", 8900, 2)),
    "a member left out of completion": (Invariant.ONE_END_OF_GROUP, "complete", orders_named("a", "b")),
    "a stranger in the completion": (Invariant.ONE_END_OF_GROUP, "complete", orders_named("a", "b", "c", "d")),
    "members in another order than confirmed": (Invariant.ONE_END_OF_GROUP, "complete", orders_named("b", "a", "d")),
    "the discount for another member": (Invariant.RIGHT_AMOUNT, "complete", put("completed.leader_order", "b", 2)),
    "a completion before full and deadline": (
        Invariant.ENDS_IN_TIME,
        "confirm b",
        add(g.GroupEvent(completed=g.GroupCompleted(orders=["a", "b"], tier_members=2, unit_price_minor=8900))),
    ),
    "completed and expired": (
        Invariant.ONE_END_OF_GROUP, "refuse e", add(g.GroupEvent(expired=g.GroupExpired(members=3))),
    ),
    "completed and cancelled": (
        Invariant.ONE_END_OF_GROUP, "refuse e", add(g.GroupEvent(cancelled=g.GroupCancelled(reason="no"))),
    ),
    "a seat too many": (
        Invariant.SEATS,
        "join d",
        add(reserved("x", "xia", OPENED_MS + 30), reserved("y", "yan", OPENED_MS + 30)),
    ),
    "two seats of one customer": (Invariant.SEATS, "join b", put("seat_reserved.customer", "ann")),
    "a seat after the close": (Invariant.SEATS, "refuse e", add(reserved("x", "xia", OPENED_MS + 40))),
    "a confirmation after the close": (
        Invariant.ENDS_IN_TIME, "refuse e", add(reserved("x", "xia", OPENED_MS + 40), ge.member_confirmed("x", 4)),
    ),
    "a confirmation after its time": (
        Invariant.ENDS_IN_TIME, "join b", put("seat_reserved.reserved_until_ms", OPENED_MS + 11),
    ),
    # orders
    "an order refused after its seat": (Invariant.ONE_END_OF_ORDER, "confirm b", add(refused_again)),
    "an order without an answer": (Invariant.ONE_END_OF_ORDER, "refuse e", clear),
    "a member released and charged": (Invariant.ONE_END_OF_ORDER, "complete", add(released_d)),
    "an order decided for another customer": (
        Invariant.SAME_REQUEST_SAME_RESULT, "join b", put("seat_reserved.customer", "zoe"),
    ),
    "an order decided on another request": (
        Invariant.SAME_REQUEST_SAME_RESULT, "join b", put("seat_reserved.request_sha256", digest_of("z")),
    ),
    "another quantity than ordered": (Invariant.RIGHT_AMOUNT, "join b", put("seat_reserved.quantity", 2)),
    "a hold that is not released": (Invariant.HELD_IS_ACCOUNTED_FOR, "gone c", clear),
    "a capture that never came": (Invariant.ENDS_IN_TIME, "capture b", clear),
    "an end that is not reported to the group": (Invariant.ENDS_IN_TIME, "settle d", drop(1)),
    "an event of no known kind": (Invariant.VERSIONS, "settle b", add(g.GroupEvent())),
    # inputs
    "other terms than the campaign's": (Invariant.FOLLOWS_INPUT, "open", put("opened.terms.max_quantity", 98)),
    "another customer who opened it": (Invariant.FOLLOWS_INPUT, "open", put("opened.leader_customer", "zoe")),
    "a deadline that is not its window's": (Invariant.ENDS_IN_TIME, "open", put("opened.deadline_ms", DEADLINE_MS + 1)),
    "terms without a version of the rules": (Invariant.FOLLOWS_INPUT, "open", put("opened.terms.rules_version", 0)),
    "a refusal with an untrue reason": (
        Invariant.ONE_END_OF_ORDER, "refuse e", put("seat_refused.reason", g.REFUSAL_REASON_GROUP_EXPIRED),
    ),
    "a refusal for a price that fits": (
        Invariant.ONE_END_OF_ORDER, "refuse e", put("seat_refused.reason", g.REFUSAL_REASON_PRICE_CHANGED),
    ),
    "another payment method than ordered": (
        Invariant.FOLLOWS_INPUT, "join b", put("seat_reserved.payment_method", "card_other"),
    ),
    "a reservation that is longer than its window": (
        Invariant.ENDS_IN_TIME, "join b", put("seat_reserved.reserved_until_ms", OPENED_MS + 20_000),
    ),
    "a hold that may end at the deadline": (
        Invariant.ENDS_IN_TIME, "join b", put("seat_reserved.hold_until_ms", DEADLINE_MS),
    ),
    "a member cancelled without a request": (
        Invariant.FOLLOWS_INPUT, "join d", add(*release("b", g.RELEASE_REASON_CANCELLED)),
    ),
    "a seat lost without a release": (Invariant.ONE_END_OF_ORDER, "leave c", drop(1)),
    "a leader who is not the first member": (
        Invariant.RIGHT_AMOUNT, "join d", add(g.GroupEvent(leader_changed=g.LeaderChanged(order="b"))),
    ),
    "a tier that is not announced": (Invariant.RIGHT_AMOUNT, "confirm b", drop(1)),
    "a group that is full and goes on": (Invariant.ONE_END_OF_GROUP, "complete", keep(2)),
    "a member whose capture is not requested": (Invariant.ONE_END_OF_ORDER, "complete", drop(4)),
    "a cancel refused that nobody asked for": (
        Invariant.FOLLOWS_INPUT, "refuse e", add(g.GroupEvent(cancel_refused=g.CancelRefused(order="b"))),
    ),
    "a group cancelled without a command": (
        Invariant.FOLLOWS_INPUT, "join d", add(g.GroupEvent(cancelled=g.GroupCancelled(reason="no"))),
    ),
    # money owed and repairs
    "a refund of more than the charge": (
        Invariant.REFUNDS_WITHIN_CAPTURES, "capture b", add(refund_request("b", 8000)),
    ),
    "released with money owed": (Invariant.OWED, "gone c", owed_before_release("c", 100)),
    "owed without an attempt or an alarm": (Invariant.OWED, "capture b", add(owes("b", 100))),
    "owed less, and nothing reached the customer": (
        Invariant.OWED, "capture b", add(owes("b", 100, alarm=True), owes("b", 0)),
    ),
    "a refund that came back and is not owed": (
        Invariant.OWED, "capture b", add(pe.refunded("b", 100, "r1"), reversed_refund("b", 100, "r1")),
    ),
    "more came back than was refunded": (
        Invariant.REFUNDS_WITHIN_CAPTURES, "capture b", add(reversed_refund("b", 100, "")),
    ),
    "an adjustment without two operators": (
        Invariant.REPAIRS, "capture b", add(p.PaymentEvent(ledger_adjusted=p.LedgerAdjusted(order="b", proposal="x"))),
    ),
    "suspense kept without a command": (
        Invariant.REPAIRS, "capture b",
        add(p.PaymentEvent(suspense_kept=p.SuspenseKept(order="b", hold="hold-b", amount_minor=1, currency="CNY"))),
    ),
    "a dispute that ends and was not opened": (
        Invariant.ONE_END_OF_ORDER, "capture b",
        add(p.PaymentEvent(dispute_lost=p.DisputeLost(order="b", hold="hold-b", dispute="d1", amount_minor=5))),
    ),
    "a fee recorded twice": (Invariant.ONE_END_OF_ORDER, "capture b", add(fee("b"), fee("b"))),
}  # fmt: skip


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_reported(fault: str) -> None:
    invariant, step, edit = PLANTED[fault]
    found = completed_group({step: edit}).audit().findings
    assert invariant in {violation.invariant for violation in found.violations}, found.violations
    assert all(violation.group == GROUP for violation in found.violations if violation.group)


PLANTED_AT_THE_DEADLINE: dict[str, tuple[Invariant, Edit]] = {
    "an expiry before the deadline": (Invariant.ENDS_IN_TIME, clear),
    "an expiry that counts wrongly": (Invariant.ONE_END_OF_GROUP, put("expired.members", 2)),
    "a member of an expired group who is not released": (Invariant.ONE_END_OF_ORDER, drop(1)),
}


@pytest.mark.parametrize("fault", PLANTED_AT_THE_DEADLINE)
def test_a_fault_planted_at_the_deadline_is_reported(fault: str) -> None:
    invariant, edit = PLANTED_AT_THE_DEADLINE[fault]
    found = expired_group({"expire": edit}).audit().findings
    assert invariant in {violation.invariant for violation in found.violations}, found.violations


def test_an_expiry_with_enough_members_is_a_violation() -> None:
    logs = ScriptedLogs()
    opening(logs)
    logs.decide("expire", DEADLINE_MS, ge.expired(2))
    assert Invariant.ONE_END_OF_GROUP in logs.broken()


def released_instead_of_charged(command: p.OperatorActed | None) -> ScriptedLogs:
    """Payments release Bob, a member of the completed group."""
    acted = [] if command is None else [p.PaymentEvent(operator_acted=command)]
    done = [*acted, pe.void_requested("b", 8900), pe.voided("b", 8900), pe.payment_released("b")]

    def back(events: list[Any]) -> None:
        events[:] = done

    def end(events: list[Any]) -> None:
        events[:] = [ge.member_declined("b", "RELEASED"), ge.member_released("b")]

    def settle(events: list[Any]) -> None:
        events[-1] = ge.settled(2, 23500)
        events[-1].settled.declined = 1

    logs = completed_group({"take": drop(1), "capture b": back, "settle b": end, "settle d": settle})
    logs.state_hold("b", 8900, 0, 8900)
    return logs


def test_an_operator_may_release_a_member_instead_of_charging_it() -> None:
    command = p.OperatorActed(order="b", request_id="1", operator="kim", reason="the settlement is stuck")
    command.action.order = "b"
    command.action.release_member.SetInParent()
    assert released_instead_of_charged(command).audit().findings.violations == []
    assert Invariant.ONE_END_OF_ORDER in released_instead_of_charged(None).broken()


def test_an_alarm_that_is_open_needs_an_operator_and_violates_nothing() -> None:
    logs = completed_group({"capture b": add(owes("b", 100, alarm=True))})
    report = logs.audit()
    assert report.needs_operator
    assert report.findings.open_alarms == [f"group {GROUP} order b: 100 of hold hold-b are owed: no"]
    assert report.figures()["open_alarms"] == 1


def test_an_alarm_is_closed_by_a_return_that_an_operator_recorded() -> None:
    command = p.OperatorActed(order="b", request_id="1", operator="kim", reason="bank transfer")
    command.action.order = "b"
    command.action.mark_returned_outside.reference = "T-1"
    outside = p.ReturnedOutside(
        order="b", hold="hold-b", amount_minor=100, currency="CNY", refund="r1", reference="T-1"
    )
    refund = pe.refunded("b", 100, "r1")
    owed = owes("b", 100, alarm=True)
    owed.money_owed.refund = "r1"
    paid = owes("b", 0)
    paid.money_owed.refund = "r1"
    back = add(refund, reversed_refund("b", 100, "r1"), owed)
    repair = add(p.PaymentEvent(operator_acted=command), p.PaymentEvent(returned_outside=outside), paid)
    assert completed_group({"capture b": back}).audit().needs_operator
    report = completed_group({"capture b": back, "capture d": repair}).audit()
    # The scripted group log has no reaction to what was owed.
    unknown = "its group does not know whether hold-b r1 is owed"
    assert [violation.what for violation in report.findings.violations] == [unknown]
    assert not report.needs_operator


def test_a_disputed_charge_is_part_of_the_books() -> None:
    opened = p.DisputeOpened(
        order="b", hold="hold-b", dispute="d1", amount_minor=7900, withdrawn_minor=7900, fee_minor=1500, currency="CNY"
    )
    lost = p.DisputeLost(order="b", hold="hold-b", dispute="d1", amount_minor=7900, currency="CNY")
    events = add(p.PaymentEvent(dispute_opened=opened), p.PaymentEvent(dispute_lost=lost))
    logs = completed_group({"capture b": events})
    assert Invariant.BOOKS_EQUAL in logs.broken()
    logs.entries["hold-b"].disputed_minor = 7900
    logs.entries["hold-b"].fees_minor = 1500
    assert logs.audit().findings.violations == []
