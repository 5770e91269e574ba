"""Money that went back to a customer twice: it is recorded, and an alarm until it comes back or is explained.

Rules version 2. A scenario's text leaves out RulesSelected.
"""

from __future__ import annotations

import pytest
from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.inbox_pb2 import PaymentInput

from services.payments.api.mapping import payment_of
from services.payments.domain.owed import PAUSES_MS
from services.payments.domain.state.issues import IssueKind, issues_of
from tests.scenarios import payments as s
from tests.scenarios.payments import REFUND

SALE = [s.reserved(method="wallet_ok"), s.sold()]
CHARGED = [s.reserved(), s.authorised(), s.settle(), s.captured()]


def outside(amount: int, refund: str = "") -> PaymentInput:
    body = pb.MarkReturnedOutside(amount_minor=amount, reference="transfer", refund=refund)
    return s.operator(f"transfer of {amount}", mark_returned_outside=body)


def twice(scenario: s.PaymentsScenario) -> int:
    """The subjects of the open alarms."""
    found = [one for one in issues_of(scenario.state) if one.kind is IssueKind.RETURNED_TWICE]
    assert all(one.alarm for one in found)
    return sum(one.amount for one in found)


@pytest.mark.parametrize(("by_transfer", "events"), [(100, ()), (40, ("MoneyOwed 0", "PaymentReleased"))])
def test_a_refund_that_succeeds_after_a_transfer_is_recorded(by_transfer: int, events: tuple[str, ...]) -> None:
    scenario = s.current(*SALE, s.release(), s.declined(REFUND), outside(by_transfer))
    scenario.when(s.refunded(100)).then(f"Refunded h1 100 twice {by_transfer}", *events)
    assert twice(scenario) == by_transfer
    scenario.when(s.refunded(100)).then_nothing()


def test_the_difference_to_the_tier_price_that_went_back_twice_is_recorded() -> None:
    scenario = s.current(*SALE, s.settle(60), s.declined(REFUND), outside(40))
    assert scenario.lines[1:] == ["ReturnedOutside h1 40", "MoneyOwed 0", "Captured h1 60 released 0"]
    scenario.when(s.refunded(40)).then("Refunded h1 40 twice 40")
    assert twice(scenario) == 40
    # The charge is what it was.
    shown = payment_of(scenario.state, "o1")
    assert shown is not None and (shown.captured, shown.refunded) == (60, 0)
    scenario.when(s.refund("r1")).then("RefundRequested refund:2 h1 60 r1")


def test_a_second_attempt_that_succeeds_beside_the_first_is_recorded() -> None:
    scenario = s.current(*SALE, s.settle(60), s.declined(REFUND)).when(s.tick(), after_ms=PAUSES_MS[0])
    scenario.when(s.refunded(40)).then("Refunded h1 40", "MoneyOwed 0")
    scenario.when(s.refunded(40, 2)).then("Refunded h1 40 twice 40", "Captured h1 60 released 0")
    assert twice(scenario) == 40


def test_a_command_that_returned_its_amount_twice_is_recorded() -> None:
    scenario = s.current(*CHARGED, s.refund("r1", 30), s.refunded(30), s.reversed_refund(30))
    scenario.when(s.tick(), after_ms=PAUSES_MS[0]).when(s.declined(REFUND, 2)).when(outside(30, "r1"))
    scenario.when(s.refunded(30, 2)).then("Refunded h1 30 r1 twice 30")
    assert twice(scenario) == 30
    scenario.when(s.refund("r2")).then("RefundRequested refund:3 h1 30 r2")


def test_a_command_that_succeeds_after_its_decline_is_no_second_return() -> None:
    scenario = s.current(*CHARGED, s.refund("r1", 30), s.declined(REFUND))
    scenario.when(s.refunded(30)).then("Refunded h1 30 r1")
    assert twice(scenario) == 0


def test_a_person_who_refunds_beside_a_pending_refund_reduces_the_charge() -> None:
    scenario = s.current(*SALE, s.settle(60)).when(s.external(REFUND, 40))
    scenario.when(s.refunded(40)).then("Refunded h1 40", "Captured h1 60 released 0")
    assert twice(scenario) == 0


def test_what_was_returned_twice_is_not_due_when_it_comes_back() -> None:
    scenario = s.current(*SALE, s.release(), s.declined(REFUND), outside(100), s.refunded(100))
    scenario.when(s.reversed_refund(100)).then("RefundReversed h1 100")
    assert twice(scenario) == 0
    part = s.current(*CHARGED, s.refund("r1", 30), s.refunded(30), s.reversed_refund(30))
    part.when(s.tick(), after_ms=PAUSES_MS[0]).when(s.declined(REFUND, 2)).when(outside(20, "r1"))
    part.when(s.refunded(30, 2)).then("Refunded h1 30 r1 twice 20", "MoneyOwed 0 r1")
    part.when(s.reversed_refund(30, attempt=2)).then("RefundReversed h1 30", "MoneyOwed 10 r1")
    assert twice(part) == 0


def test_an_adjustment_of_the_ledger_that_another_operator_approves_explains_it() -> None:
    scenario = s.current(*SALE, s.release(), s.declined(REFUND), outside(100), s.refunded(100))
    wanted = pb.AdjustLedger(from_account=11, to_account=4, amount_minor=70, currency="CNY", hold="h1")
    scenario.when(s.operator("loss", adjust_ledger=wanted))
    assert twice(scenario) == 100
    approval = pb.ApproveAdjustment(proposal="loss")
    scenario.when(s.operator("yes", who="bob", approve_adjustment=approval))
    scenario.then("OperatorActed approve_adjustment", "LedgerAdjusted 11 4 70")
    assert twice(scenario) == 30
