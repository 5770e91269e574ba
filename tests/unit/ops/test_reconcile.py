"""Reconciliation: each hold is matched, ours only, theirs only or differs, with its order and a way out that works.

Method: the logs of scenarios against statements; claims are applied to the same scenario.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision
from groupbuy.payments.v1.inbox_pb2 import OutcomePaidOut, PaymentInput
from groupbuy.simprovider.v1.simprovider_pb2 import StatementEntry

from ops.audit.cases import Case
from ops.audit.findings import Findings
from ops.audit.money.statement import check_payouts
from ops.errors import OpsError
from ops.reconcile.claims import addressed
from ops.reconcile.command import OurBooks
from ops.reconcile.comparison import Kind, Line, compare, payout_lines
from ops.statements.collected import Statement
from ops.statements.movements import Kind as Movements
from ops.statements.movements import Movement
from tests.scenarios.facts import GROUP
from tests.scenarios.payments import (
    PaymentsScenario,
    authorised,
    captured,
    given,
    hold_gone,
    news,
    refund,
    refunded,
    release,
    reserved,
    settle,
    sold,
    voided,
)
from tests.scenarios.statement import statement_entry
from tests.unit.ops.scripted_logs import Line as Record


def there(
    authorised: int, captured: int = 0, released: int = 0, refunded: int = 0, *, order: str = "o1", hold: str = "h1"
) -> StatementEntry:
    return statement_entry(order, hold, authorised, captured, released, refunded, wire="simulated")


def ours_of(scenario: PaymentsScenario) -> OurBooks:
    ours = OurBooks()
    ours.take([Record(offset, value, GROUP.encode()) for offset, value in enumerate(scenario.log)])
    return ours


def compared(scenario: PaymentsScenario, *statement: StatementEntry) -> list[Line]:
    ours = ours_of(scenario)
    return compare(ours.books, ours.payments, statement)


def only(lines: Iterable[Line]) -> Line:
    (line,) = lines
    return line


CHARGED = (reserved(), authorised(), settle(60), captured(amount=60))


@pytest.mark.parametrize(
    ("scenario", "entry"),
    [
        (given(reserved(), authorised()), there(100)),
        (given(*CHARGED), there(100, 60, 40)),
        (given(*CHARGED, refund("r1", 25), refunded(25)), there(100, 60, 40, 25)),
        (given(reserved(), authorised(), release(), voided()), there(100, 0, 100)),
        (given(reserved(), authorised(), settle(60), hold_gone()), there(100, 0, 100)),
        (given(reserved(method="wallet_ok"), sold()), there(100, 100)),
        (given(reserved(method="wallet_ok"), sold(), settle(60), refunded(40)), there(100, 100, 0, 40)),
        (given(reserved(method="wallet_ok"), sold(), release(), refunded(100)), there(100, 100, 0, 100)),
        # Unexpected funds: held and released; captured and refunded; captured after the release.
        (given(reserved(), authorised(), authorised("h1", attempt=2)), there(100)),
        (given(release(), authorised(), voided()), there(100, 0, 100)),
        (given(release(), sold(), refunded(100)), there(100, 100, 0, 100)),
        (
            given(reserved(), authorised(), release(), voided(), captured(amount=70), refunded(70)),
            there(100, 70, 30, 70),
        ),
    ],
)
def test_equal_holds_are_matched(scenario: PaymentsScenario, entry: StatementEntry) -> None:
    line = only(compared(scenario, entry))
    assert line == Line(Kind.MATCHED, GROUP, "o1", "h1"), line


def test_a_hold_that_the_statement_lacks_is_ours_only() -> None:
    line = only(compared(given(*CHARGED)))
    assert (line.kind, line.order, line.hold, line.claim) == (Kind.OURS_ONLY, "o1", "h1", None)
    assert line.what == "100 CNY here, nothing there"
    assert "look the hold up" in line.action


def test_holds_without_money_are_omitted() -> None:
    assert compared(given(reserved()), StatementEntry(hold="pending", order="o1")) == []


def fed(scenario: PaymentsScenario, line: Line) -> PaymentsScenario:
    assert line.claim is not None
    assert "run with --feed" in line.action
    return scenario.when(PaymentInput(outcome=line.claim))


def test_an_unknown_hold_is_theirs_only_and_is_released_once_fed() -> None:
    scenario = given(release("o9"))
    line = only(compared(scenario, there(100, order="o9", hold="h9")))
    assert (line.kind, line.order, line.what) == (Kind.THEIRS_ONLY, "o9", "100 CNY there, nothing here")
    fed(scenario, line).then("o9: SuspenseRecorded h9 100 CNY", "o9: VoidRequested void:1 h9 100")
    scenario.when(voided("h9", order="o9"))
    assert only(compared(scenario, there(100, 0, 100, order="o9", hold="h9"))).kind is Kind.MATCHED


def test_a_second_hold_of_a_known_order_is_released_and_the_first_stays() -> None:
    scenario = given(*CHARGED)
    lines = compared(scenario, there(100, 60, 40), there(100, hold="h2"))
    assert [line.kind for line in lines] == [Kind.MATCHED, Kind.THEIRS_ONLY]
    fed(scenario, lines[1]).then("SuspenseRecorded h2 100 CNY", "VoidRequested void:1 h2 100")


def test_an_unknown_capture_is_refunded_once_fed() -> None:
    scenario = given(release("o9"))
    line = only(compared(scenario, there(100, 100, order="o9", hold="h9")))
    assert line.what == "100 CNY there, nothing here; 100 captured, 0 refunded"
    fed(scenario, line).then("o9: SuspenseRecorded h9 100 CNY", "o9: RefundRequested refund:1 h9 100")
    scenario.when(refunded(100, hold="h9", order="o9"))
    assert only(compared(scenario, there(100, 100, 0, 100, order="o9", hold="h9"))).kind is Kind.MATCHED


def test_a_hold_that_ended_at_the_provider_is_booked_once_fed() -> None:
    scenario = given(reserved(), authorised())
    line = only(compared(scenario, there(100, 0, 100)))
    assert (line.kind, line.what) == (Kind.DIFFERS, "released 100 there, 0 here")
    fed(scenario, line).then("HoldLapsed h1 100")
    assert only(compared(scenario, there(100, 0, 100))).kind is Kind.MATCHED


def test_a_capture_that_was_not_requested_is_refunded_once_fed() -> None:
    scenario = given(reserved(), authorised())
    line = only(compared(scenario, there(100, 80, 20)))
    assert line.what == "captured 80 there, 0 here; released 20 there, 0 here"
    fed(scenario, line)
    scenario.when(refunded(80))
    assert only(compared(scenario, there(100, 80, 20, 80))).kind is Kind.MATCHED


@pytest.mark.parametrize(
    ("scenario", "entry", "action"),
    [
        (given(*CHARGED), there(100, 60, 40, 10), "the money was refunded at the provider"),
        (given(*CHARGED, refund("r1", 25), refunded(25)), there(100, 60, 40), "the state of the refund"),
        (given(*CHARGED), there(100, 70, 30), "request the calls of this hold"),
        (given(*CHARGED), there(110, 60, 50), "request the calls of this hold"),
        (given(reserved(), authorised(), release(), voided()), there(100), "request the calls of this hold"),
        (given(release()), there(100, 100, 0, 40), "a part was refunded at the provider"),
    ],
)
def test_a_difference_that_payments_would_not_book_needs_an_operator(
    scenario: PaymentsScenario, entry: StatementEntry, action: str
) -> None:
    line = only(compared(scenario, entry))
    assert line.kind in {Kind.DIFFERS, Kind.THEIRS_ONLY}
    assert line.claim is None
    assert line.action.startswith("by hand: ")
    assert action in line.action


def test_another_order_or_currency_of_the_same_hold_is_reported() -> None:
    line = only(compared(given(*CHARGED), there(100, 60, 40, order="o2")))
    assert f"CNY of group {GROUP} order o2 there; CNY of group {GROUP} order o1 here" in line.what
    assert line.claim is None


@pytest.mark.parametrize(
    ("scenario", "entry"),
    [
        (given(reserved()), there(100)),
        (given(reserved(), authorised(), settle(60)), there(100, 60, 40)),
        (given(reserved(), authorised(), release()), there(100, 0, 100)),
        (given(*CHARGED, refund("r1", 25)), there(100, 60, 40, 25)),
    ],
)
def test_a_difference_that_a_pending_call_may_resolve_is_pending(
    scenario: PaymentsScenario, entry: StatementEntry
) -> None:
    line = only(compared(scenario, entry))
    assert (line.pending, line.claim) == (True, None)
    assert line.action.startswith("wait: ")


def test_a_difference_that_has_just_changed_is_pending() -> None:
    line = only(compared(given(reserved(), authorised()), there(100, 0, 100))).unconfirmed()
    assert (line.pending, line.claim) == (True, None)
    assert only(compared(given(*CHARGED), there(100, 60, 40))).unconfirmed().pending is False


def test_decisions_after_the_statement_are_omitted() -> None:
    scenario = given(*CHARGED)
    ours = OurBooks(until_ms=2)
    ours.take([Record(at, value, GROUP.encode(), timestamp=at) for at, value in enumerate(scenario.log)])
    line = only(compare(ours.books, ours.payments, [there(100)]))
    assert line.kind is Kind.MATCHED or line.pending


def test_a_broken_log_is_not_compared() -> None:
    scenario = given(*CHARGED)
    with pytest.raises(OpsError, match="the payment log is broken at partition 0 offset 1"):
        OurBooks().take([Record(0, scenario.log[0], GROUP.encode()), Record(1, scenario.log[2], GROUP.encode())])


def test_a_claim_without_our_ids_gets_the_same_derived_ids_at_every_retry() -> None:
    line = only(compared(given(release("o9")), there(100, order="anything", hold="h9")))
    assert line.claim is not None
    first, again = addressed("", line.claim), addressed("", line.claim)
    assert first == again
    assert first[1].order != "anything"
    ours = "9f6c1c5e-0000-4000-8000-000000000002"
    line.claim.order = ours
    assert addressed(GROUP, line.claim) == (GROUP, line.claim)


# Payouts ------------------------------------------------------------------------------------------------------------


def paid_out(amount: int, payout: str = "po_1", reference: str = "txn_1") -> PaymentInput:
    return news(paid_out=OutcomePaidOut(hold="h1", reference=reference, amount_minor=amount, payout=payout))


def test_payouts_of_the_log_are_compared_with_those_of_the_statement() -> None:
    ours = ours_of(given(*CHARGED, paid_out(50), paid_out(7, reference="txn_2"), paid_out(3, "po_2", "txn_3")))
    assert ours.payouts == {("po_1", "CNY"): 57, ("po_2", "CNY"): 3}
    assert payout_lines(ours.payouts, {("po_1", "CNY"): 57, ("po_2", "CNY"): 3}) == []
    lines = payout_lines(ours.payouts, {("po_1", "CNY"): 60, ("po_3", "CNY"): 9})
    assert [(line.kind, line.hold) for line in lines] == [
        (Kind.DIFFERS, "po_1"),
        (Kind.OURS_ONLY, "po_2"),
        (Kind.THEIRS_ONLY, "po_3"),
    ]
    assert lines[0].what == "payout po_1: 60 CNY in the statement, 57 CNY in the log"
    assert all(line.action.startswith("by hand: ") and line.claim is None for line in lines)


def test_payouts_are_not_compared_where_the_log_has_none() -> None:
    assert payout_lines({}, {("po_1", "CNY"): 60}) == []
    assert payout_lines({("po_1", "CNY"): 60}, {("po_1", "CNY"): 60, ("po_2", "USD"): 5}) == []


@pytest.mark.parametrize(
    ("theirs", "settled", "found"),
    [
        ({("po_1", "CNY"): 50}, True, (0, 0)),
        ({("po_1", "CNY"): 60}, True, (1, 0)),
        # The statement is newer than the log.
        ({("po_1", "CNY"): 60}, False, (0, 1)),
        ({("po_1", "CNY"): 40}, False, (1, 0)),
        ({}, False, (1, 0)),
        ({("po_1", "CNY"): 50, ("po_2", "CNY"): 5}, True, (1, 0)),
    ],
)
def test_the_audit_compares_payouts(theirs: dict[tuple[str, str], int], settled: bool, found: tuple[int, int]) -> None:
    findings = Findings()
    cases = [Case(GROUP, findings) for _ in range(2)]
    # A payout has shares of several orders.
    for case, share in zip(cases, (30, 20), strict=True):
        for value in given(*CHARGED, paid_out(share)).log:
            case.group_payments.take(value, PaymentDecision.FromString(value), log_trimmed=False)
    check_payouts(cases, theirs, settled, findings)
    assert (len(findings.violations), len(findings.pending)) == found


def test_a_statement_sums_its_payouts() -> None:
    made = Statement("stripe")
    for number, amount in enumerate((-100, -20, 5)):
        kind = Movements.PAYOUT_UNDONE if amount > 0 else Movements.PAYOUT
        source = "po_1" if number != 1 else "po_2"
        made.take(Movement("stripe", kind, f"txn_{number}", 0, "CNY", amount, source=source))
    assert made.payouts == {("po_1", "CNY"): 95, ("po_2", "CNY"): 20}
