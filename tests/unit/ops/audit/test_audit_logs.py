"""The audit reports faults of a log, between logs, and against the provider's statement.

Method: correct logs whose records or statement are changed afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from groupbuy.groups.v1 import decisions_pb2 as g
from groupbuy.groups.v1.inbox_pb2 import GroupInput, OrderRejected

from ops.audit import Invariant
from ops.audit.auditor import Auditor
from shared_kernel.topics import GROUP_LOG, PAYMENT_LOG
from tests.scenarios.facts import GROUP, digest_of
from tests.scenarios.group_events import seat_refused
from tests.unit.ops.scripted_logs import OPENED_MS, Line, ScriptedLogs, campaign, completed_group


def test_a_missing_version_is_a_gap() -> None:
    logs = completed_group()
    del logs.groups[3]
    assert Invariant.VERSIONS in logs.broken()


def test_a_missing_version_of_group_payments_is_a_gap() -> None:
    logs = completed_group()
    del logs.payments[3]
    assert Invariant.VERSIONS in logs.broken()


def test_an_identical_duplicate_is_counted_and_no_violation() -> None:
    logs = completed_group()
    logs.groups.append(logs.groups[2])
    logs.payments.append(logs.payments[0])
    report = logs.audit()
    assert report.clean
    assert report.duplicates == 2


def test_two_different_decisions_of_one_version_are_a_violation() -> None:
    logs = completed_group()
    other = g.GroupDecision.FromString(logs.groups[2].value)
    other.time_ms += 1
    logs.groups.append(Line(99, other.SerializeToString()))
    assert logs.broken() == {Invariant.VERSIONS}


@pytest.mark.parametrize(
    ("change", "invariant"),
    [
        (lambda made: setattr(made, "previous_sha256", bytes(32)), Invariant.CHAIN),
        (lambda made: setattr(made, "cause", 1), Invariant.VERSIONS),
        (lambda made: setattr(made, "time_ms", OPENED_MS - 1), Invariant.VERSIONS),
        (lambda made: setattr(made, "group", "another"), Invariant.VERSIONS),
    ],
    ids=["chain", "cause", "time", "key"],
)
def test_a_changed_envelope_is_reported(change: Callable[[g.GroupDecision], None], invariant: Invariant) -> None:
    logs = completed_group()
    last = g.GroupDecision.FromString(logs.groups[-1].value)
    change(last)
    logs.groups[-1].value = last.SerializeToString()
    assert invariant in logs.broken()


def test_undecodable_bytes_are_a_violation() -> None:
    logs = completed_group()
    logs.payments.append(Line(99, b"\xff\xff\xff"))
    assert Invariant.VERSIONS in logs.broken()


def test_a_hold_above_the_agreed_maximum_is_a_violation() -> None:
    logs = completed_group()
    logs.facts.clear()
    for order, customer in (("a", "ann"), ("b", "bob"), ("c", "cid"), ("d", "dan"), ("e", "eve")):
        logs.place(order, customer, quantity=2 if order == "a" else 1, agreed=8800 if order == "d" else 8900)
    found = logs.audit().findings.violations
    assert [(one.invariant, one.order) for one in found] == [(Invariant.RIGHT_AMOUNT, "d")]


def test_a_decision_about_an_order_that_was_not_placed_is_a_violation() -> None:
    logs = completed_group()
    logs.facts = [line for line in logs.facts if b"dan" not in line.value]
    assert logs.broken() == {Invariant.ONE_END_OF_ORDER}


def test_an_acknowledged_order_that_is_not_in_the_log_is_a_violation() -> None:
    assert completed_group().broken(acknowledged=((GROUP, "z"),)) == {Invariant.ACKNOWLEDGED_IS_LOGGED}


def test_a_duplicate_order_record_is_counted_and_no_violation() -> None:
    logs = completed_group()
    logs.place("b", "bob")
    report = logs.audit()
    assert report.clean
    assert (report.placed, report.repeats) == (5, 1)


def test_an_undecodable_order_has_to_be_refused() -> None:
    logs = completed_group()
    logs.facts.append(Line(50, b"\xff", headers=(("ce_subject", f"groups/{GROUP}/orders/u".encode()),)))
    assert logs.broken() == {Invariant.ONE_END_OF_ORDER}
    logs.input(GroupInput(order_rejected=OrderRejected(order="u")))
    rejected = g.SeatRefused(order="u", reason=g.REFUSAL_REASON_UNREADABLE)
    logs.decide("reject u", OPENED_MS + 50, g.GroupEvent(seat_refused=rejected))
    assert logs.audit().clean


def test_a_capture_decided_before_the_completion_is_in_the_inbox_is_a_violation() -> None:
    logs = completed_group()
    # The copy of the completion arrives in the payment inbox after the captures were requested.
    completion = next(line for line in logs.inbox if b"hold-d" in line.value and b"hold-a" in line.value)
    completion.offset = 10_000
    assert logs.broken() == {Invariant.CAPTURE_AFTER_COMPLETION}


@pytest.mark.parametrize(
    ("name", "value"), [("authorised_minor", 1), ("captured_minor", 1), ("released_minor", 1), ("refunded_minor", 1)]
)
def test_any_difference_to_the_statement_is_reported(name: str, value: int) -> None:
    logs = completed_group()
    setattr(logs.entries["hold-b"], name, value)
    report = logs.audit()
    assert report.books_equal is False
    assert {violation.order for violation in report.findings.violations} == {"b"}


def test_a_hold_of_one_side_only_is_a_difference() -> None:
    logs = completed_group()
    del logs.entries["hold-c"]
    assert logs.broken() == {Invariant.BOOKS_EQUAL}
    logs = completed_group()
    logs.state_hold("z", 100, 0, 100)
    assert logs.broken() == {Invariant.BOOKS_EQUAL}


def test_two_captures_at_the_provider_are_a_violation() -> None:
    logs = completed_group()
    logs.entries["hold-b"].captures = 2
    assert logs.broken() == {Invariant.ONE_CAPTURE}


@pytest.mark.parametrize("groups", range(1, 8))
@pytest.mark.parametrize("payments", range(1, 8))
def test_an_unfinished_run_is_pending_without_a_violation(groups: int, payments: int) -> None:
    logs = completed_group()
    # Every decision of payments has its cause in the group's log, which is read further.
    del logs.payments[payments:], logs.groups[max(groups, payments) :]
    report = logs.audit(settled=False)
    assert report.findings.violations == []
    assert report.findings.pending_count > 0
    assert not logs.audit(settled=True).clean


def test_of_a_trimmed_log_only_the_chain_is_checked() -> None:
    logs = completed_group()
    del logs.groups[:3], logs.payments[:2]
    auditor = Auditor()
    for topic, lines in ((PAYMENT_LOG.name, logs.payments), (GROUP_LOG.name, logs.groups)):
        auditor.begins_at(topic, 0, 3)
        auditor.take(topic, lines)
    assert auditor.report(settled=True).clean


@pytest.mark.parametrize("answered", [True, False])
def test_the_alarm_of_a_fault_in_a_group_that_never_opened_ends_with_its_orders(answered: bool) -> None:
    logs = ScriptedLogs({})
    logs.place("a", "ann", opens=campaign())
    failed = g.GroupEvent(faulted=g.Faulted(error="ValueError"))
    refused = seat_refused("a", g.REFUSAL_REASON_UNREADABLE, customer="ann", request_sha256=digest_of("a"))
    logs.decide("fail", OPENED_MS, *([refused, failed] if answered else [failed]))
    findings = logs.audit(settled=False).findings
    assert findings.violations == []
    assert findings.alarms == [f"group {GROUP}: the rules failed with ValueError"]
    assert bool(findings.open_alarms) is not answered
