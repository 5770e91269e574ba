"""Goal: the audit names every kind of harm and accuses nobody without cause. Method: flawless logs, one harm each."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.payments.v1 import decisions_pb2 as p

from chassis.topics import GROUP_LOG, PAYMENT_LOG
from ops.audit import Invariant
from ops.audit.auditor import Auditor
from ops.audit.membership import GroupState
from tests.unit.ops.story import (
    DEADLINE_MS,
    GROUP,
    OPENED_MS,
    Edit,
    Line,
    Story,
    asked,
    authorised,
    captured,
    charge,
    completed_group,
    confirmed,
    expired_group,
    opening,
    request,
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


refused_again = g.GroupEvent(
    seat_refused=g.SeatRefused(
        order="b", customer="bob", reason=g.REFUSAL_REASON_GROUP_FULL, request_sha256=request("b")
    )
)
released_d = g.GroupEvent(release_requested=g.ReleaseRequested(order="d", reason=g.RELEASE_REASON_CANCELLED))
refund = p.PaymentEvent(refunded=p.Refunded(order="b", hold="hold-b", amount_minor=8000, currency="CNY", refund="r1"))


def test_a_flawless_completed_group_passes() -> None:
    report = completed_group().audit(acknowledged=((GROUP, "a"), (GROUP, "e")))
    assert report.findings.violations == []
    assert report.books_equal is True
    assert (report.placed, report.holds, report.open_holds) == (5, 4, 0)
    assert report.groups == {GroupState.COMPLETED: 1}
    assert report.money["CNY"].captured == 31400


def test_a_flawless_expired_group_passes() -> None:
    report = expired_group().audit()
    assert report.findings.violations == []
    assert report.money["CNY"].released == report.money["CNY"].held == 26700


def test_the_last_line_is_one_object_with_the_agreed_keys() -> None:
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
    "a second capture": (Invariant.ONE_CAPTURE, "capture b", add(captured("b", 7900, 1000))),
    "a capture of a hold nobody made": (
        Invariant.HELD_IS_ACCOUNTED_FOR, "capture b", put("captured.hold", "hold-x"),
    ),
    "a capture before completion": (Invariant.CAPTURE_AFTER_COMPLETION, "hold b", add(captured("b", 7900, 1000))),
    "a hold above the first tier's price": (
        Invariant.RIGHT_AMOUNT, "join b", put("seat_reserved.hold_amount_minor", 9900),
    ),
    "a hold that is not what the seat says": (
        Invariant.RIGHT_AMOUNT, "ask b", put("hold_requested.call.amount_minor", 8901),
    ),
    "more held than asked for": (Invariant.RIGHT_AMOUNT, "hold b", put("hold_authorised.amount_minor", 9000)),
    "a hold in another currency": (Invariant.RIGHT_AMOUNT, "hold b", put("hold_authorised.currency", "JPY")),
    "a void that lets go too little": (Invariant.HELD_IS_ACCOUNTED_FOR, "gone c", put("voided.amount_minor", 8800)),
    "a hold authorised twice": (Invariant.HELD_IS_ACCOUNTED_FOR, "hold b", add(authorised("b"))),
    "money asked for twice": (Invariant.ONE_CAPTURE, "hold b", add(asked("b"))),
    "a refund beyond the capture": (Invariant.REFUNDS_WITHIN_CAPTURES, "capture b", add(refund)),
    "a release nobody asked for": (
        Invariant.ONE_END_OF_ORDER, "capture d", add(p.PaymentEvent(payment_released=p.PaymentReleased(order="d"))),
    ),
    "a release that leaves the hold open": (Invariant.HELD_IS_ACCOUNTED_FOR, "gone c", drop(0)),
    "a leader without the discount": (
        Invariant.RIGHT_AMOUNT, "complete", put("settlement_requested.amount_minor", 15800, 3),
    ),
    "a charge to the wrong hold": (Invariant.RIGHT_AMOUNT, "complete", put("settlement_requested.hold", "hold-b", 3)),
    "a member charged twice": (Invariant.ONE_CAPTURE, "complete", add(charge("b", 7900))),
    "a charge to somebody who left": (Invariant.CAPTURE_AFTER_COMPLETION, "complete", add(charge("c", 7900))),
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
    "the discount for somebody else": (Invariant.RIGHT_AMOUNT, "complete", put("completed.leader_order", "b", 2)),
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
        Invariant.ENDS_IN_TIME, "refuse e", add(reserved("x", "xia", OPENED_MS + 40), confirmed("x", 4)),
    ),
    "a confirmation after its time": (
        Invariant.ENDS_IN_TIME, "join b", put("seat_reserved.reserved_until_ms", OPENED_MS + 11),
    ),
    # orders
    "an order refused after its seat": (Invariant.ONE_END_OF_ORDER, "confirm b", add(refused_again)),
    "an order without an answer": (Invariant.ONE_END_OF_ORDER, "refuse e", clear),
    "a member let go and charged": (Invariant.ONE_END_OF_ORDER, "complete", add(released_d)),
    "an order decided for another customer": (
        Invariant.SAME_REQUEST_SAME_RESULT, "join b", put("seat_reserved.customer", "zoe"),
    ),
    "an order decided on another request": (
        Invariant.SAME_REQUEST_SAME_RESULT, "join b", put("seat_reserved.request_sha256", request("z")),
    ),
    "another quantity than ordered": (Invariant.RIGHT_AMOUNT, "join b", put("seat_reserved.quantity", 2)),
    "a hold nobody let go": (Invariant.HELD_IS_ACCOUNTED_FOR, "gone c", clear),
    "a capture that never came": (Invariant.ENDS_IN_TIME, "capture b", clear),
    "a group that is not told of its end": (Invariant.ENDS_IN_TIME, "settle d", drop(1)),
    "an event of no known kind": (Invariant.VERSIONS, "settle b", add(g.GroupEvent())),
}  # fmt: skip


@pytest.mark.parametrize("harm", PLANTED)
def test_a_planted_harm_is_named(harm: str) -> None:
    invariant, step, edit = PLANTED[harm]
    found = completed_group({step: edit}).audit().findings
    assert invariant in {violation.invariant for violation in found.violations}, found.violations
    assert all(violation.group == GROUP for violation in found.violations if violation.group)


PLANTED_AT_THE_DEADLINE: dict[str, tuple[Invariant, Edit]] = {
    "an expiry before the deadline": (Invariant.ENDS_IN_TIME, clear),
    "an expiry that counts wrongly": (Invariant.ONE_END_OF_GROUP, put("expired.members", 2)),
    "an expired member who is not let go": (Invariant.ONE_END_OF_ORDER, drop(1)),
}


@pytest.mark.parametrize("harm", PLANTED_AT_THE_DEADLINE)
def test_a_harm_planted_at_the_deadline_is_named(harm: str) -> None:
    invariant, edit = PLANTED_AT_THE_DEADLINE[harm]
    found = expired_group({"expire": edit}).audit().findings
    assert invariant in {violation.invariant for violation in found.violations}, found.violations


def invariants(story: Story, **how: Any) -> set[Invariant]:
    return {violation.invariant for violation in story.audit(**how).findings.violations}


def test_an_expiry_with_enough_members_is_a_violation() -> None:
    story = Story()
    opening(story)
    story.decide("expire", DEADLINE_MS, g.GroupEvent(expired=g.GroupExpired(members=2)))
    assert Invariant.ONE_END_OF_GROUP in invariants(story)


def test_a_missing_version_is_a_gap() -> None:
    story = completed_group()
    del story.groups[3]
    assert Invariant.VERSIONS in invariants(story)


def test_a_missing_version_of_a_purse_is_a_gap() -> None:
    story = completed_group()
    del story.purses[3]
    assert Invariant.VERSIONS in invariants(story)


def test_an_identical_repeat_is_counted_and_harmless() -> None:
    story = completed_group()
    story.groups.append(story.groups[2])
    story.purses.append(story.purses[0])
    report = story.audit()
    assert report.clean
    assert report.duplicates == 2


def test_two_different_decisions_of_one_version_are_a_violation() -> None:
    story = completed_group()
    other = g.GroupDecision.FromString(story.groups[2].value)
    other.time_ms += 1
    story.groups.append(Line(99, other.SerializeToString()))
    assert invariants(story) == {Invariant.VERSIONS}


@pytest.mark.parametrize(
    ("spoil", "invariant"),
    [
        (lambda made: setattr(made, "previous_sha256", bytes(32)), Invariant.CHAIN),
        (lambda made: setattr(made, "cause", 1), Invariant.VERSIONS),
        (lambda made: setattr(made, "time_ms", OPENED_MS - 1), Invariant.VERSIONS),
        (lambda made: setattr(made, "group", "another"), Invariant.VERSIONS),
    ],
    ids=["chain", "cause", "time", "key"],
)
def test_a_spoilt_envelope_is_named(spoil: Callable[[g.GroupDecision], None], invariant: Invariant) -> None:
    story = completed_group()
    last = g.GroupDecision.FromString(story.groups[-1].value)
    spoil(last)
    story.groups[-1].value = last.SerializeToString()
    assert invariant in invariants(story)


def test_bytes_that_are_no_decision_are_a_violation() -> None:
    story = completed_group()
    story.purses.append(Line(99, b"\xff\xff\xff"))
    assert Invariant.VERSIONS in invariants(story)


def test_a_hold_above_what_was_agreed_is_a_violation() -> None:
    story = completed_group()
    story.facts.clear()
    for order, customer in (("a", "ann"), ("b", "bob"), ("c", "cid"), ("d", "dan"), ("e", "eve")):
        story.place(order, customer, quantity=2 if order == "a" else 1, agreed=8800 if order == "d" else 8900)
    found = story.audit().findings.violations
    assert [(one.invariant, one.order) for one in found] == [(Invariant.RIGHT_AMOUNT, "d")]


def test_a_decision_about_an_order_nobody_placed_is_a_violation() -> None:
    story = completed_group()
    story.facts = [line for line in story.facts if b"dan" not in line.value]
    assert invariants(story) == {Invariant.ONE_END_OF_ORDER}


def test_an_acknowledged_order_that_is_not_in_the_log_is_a_violation() -> None:
    assert invariants(completed_group(), acknowledged=((GROUP, "z"),)) == {Invariant.ACKNOWLEDGED_IS_LOGGED}


def test_a_repeated_order_record_is_counted_and_harmless() -> None:
    story = completed_group()
    story.place("b", "bob")
    report = story.audit()
    assert report.clean
    assert (report.placed, report.repeats) == (5, 1)


def test_an_unreadable_order_must_be_rejected() -> None:
    story = completed_group()
    story.facts.append(Line(50, b"\xff", headers=(("ce_subject", f"groups/{GROUP}/orders/u".encode()),)))
    assert invariants(story) == {Invariant.ONE_END_OF_ORDER}
    rejected = g.SeatRefused(order="u", reason=g.REFUSAL_REASON_UNREADABLE)
    story.decide("reject u", OPENED_MS + 50, g.GroupEvent(seat_refused=rejected))
    assert story.audit().clean


def test_a_capture_decided_before_the_purse_knew_of_completion_is_a_violation() -> None:
    story = completed_group()
    # The copy of the completion arrives at the purse only after it had asked for the captures.
    completion = next(line for line in story.inbox if b"hold-d" in line.value and b"hold-a" in line.value)
    completion.offset = 10_000
    assert invariants(story) == {Invariant.CAPTURE_AFTER_COMPLETION}


@pytest.mark.parametrize(
    ("name", "value"), [("authorised_minor", 1), ("captured_minor", 1), ("released_minor", 1), ("refunded_minor", 1)]
)
def test_any_difference_to_the_providers_books_is_named(name: str, value: int) -> None:
    story = completed_group()
    setattr(story.entries["hold-b"], name, value)
    report = story.audit()
    assert report.books_equal is False
    assert {violation.order for violation in report.findings.violations} == {"b"}


def test_a_hold_that_only_one_side_knows_is_a_difference() -> None:
    story = completed_group()
    del story.entries["hold-c"]
    assert invariants(story) == {Invariant.BOOKS_EQUAL}
    story = completed_group()
    story.books("z", 100, 0, 100)
    assert invariants(story) == {Invariant.BOOKS_EQUAL}


def test_two_captures_at_the_provider_are_a_violation() -> None:
    story = completed_group()
    story.entries["hold-b"].captures = 2
    assert invariants(story) == {Invariant.ONE_CAPTURE}


@pytest.mark.parametrize("groups", range(1, 8))
@pytest.mark.parametrize("purses", range(1, 8))
def test_a_run_that_is_not_over_is_under_way_and_accused_of_nothing(groups: int, purses: int) -> None:
    story = completed_group()
    # Whatever the purse did has its cause in the group's log, which is read further.
    del story.purses[purses:], story.groups[max(groups, purses) :]
    report = story.audit(settled=False)
    assert report.findings.violations == []
    assert report.findings.under_way_count > 0
    assert not story.audit(settled=True).clean


def test_a_log_without_its_beginning_is_checked_as_a_chain_only() -> None:
    story = completed_group()
    del story.groups[:3], story.purses[:2]
    auditor = Auditor()
    for topic, lines in ((PAYMENT_LOG.name, story.purses), (GROUP_LOG.name, story.groups)):
        auditor.begins_at(topic, 0, 3)
        auditor.take(topic, lines)
    assert auditor.report(settled=True).clean
