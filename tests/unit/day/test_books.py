"""The checks of `make day` find what they are for: unexplained money, sums that nobody pursues, lost repairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision, PaymentEvent
from groupbuy.simprovider.v1.simprovider_pb2 import (
    BALANCE_KIND_CHARGE,
    BALANCE_KIND_DISPUTE,
    BALANCE_KIND_PAYOUT,
    BalanceTransaction,
    StatementEntry,
)

from services.payments.ledger.journal import Entry, Posting
from services.payments.ledger.posting_rules import Account, OpenAmounts, postings_of
from tests.day.books import Books, dispute_fee, life_recorded, repairs_recorded
from tests.day.support import payouts_of, statement_findings

GROUP, ORDER, HOLD = "g", "o", "h"
MONEY: dict[str, Any] = {"order": ORDER, "hold": HOLD, "currency": "CNY"}
HELD = PaymentEvent(hold_authorised=pb.HoldAuthorised(**MONEY, amount_minor=100, operation=pb.OPERATION_AUTHORISE))
TAKEN = PaymentEvent(captured=pb.Captured(**MONEY, amount_minor=80, released_minor=20))


def books_of(*decisions: Sequence[PaymentEvent]) -> Books:
    books, open_ = Books(), OpenAmounts()
    for version, events in enumerate(decisions, 1):
        books.follow(PaymentDecision(group=GROUP, version=version, events=events))
        for event in events:
            moved = postings_of(open_, event)
            if moved is not None:
                order, hold, name, lines = moved
                postings = tuple(Posting(*line) for line in lines)
                books.book([Entry(0, version, 0, 0, GROUP, version, order, hold, name, postings, b"")])
    return books


def entry(**fields: int) -> StatementEntry:
    return StatementEntry(hold=HOLD, **{"authorised_minor": 100, "captured_minor": 80} | fields)  # type: ignore[arg-type]


def owed(amount: int, next_ms: int = 0, *, alarm: bool = False) -> PaymentEvent:
    return PaymentEvent(money_owed=pb.MoneyOwed(**MONEY, amount_minor=amount, next_attempt_ms=next_ms, alarm=alarm))


def test_equal_books_are_explained() -> None:
    assert books_of([HELD], [TAKEN]).unexplained([entry()]) == []


@pytest.mark.parametrize(
    "other", [{"captured_minor": 81}, {"refunded_minor": 1}, {"disputed_minor": 5}, {"open_minor": 1}]
)
def test_another_amount_at_the_provider_is_not_explained(other: dict[str, int]) -> None:
    assert len(books_of([HELD], [TAKEN]).unexplained([entry(**other)])) == 1


def test_a_hold_of_one_side_alone_is_not_explained() -> None:
    assert len(books_of().unexplained([entry()])) == 1
    assert len(books_of([HELD], [TAKEN]).unexplained([])) == 1


def test_a_sum_that_nobody_pursues_is_found_even_if_it_is_settled_later() -> None:
    assert books_of([owed(5, alarm=True)], [owed(5, 9)], [owed(0)]).unattended == set()
    (found,) = books_of([owed(5)], [owed(0)]).unattended
    assert found == "groups/g/orders/o: 5 in version 1"


def test_a_pending_refund_pursues_a_sum() -> None:
    call = pb.ProviderCall(order=ORDER, hold=HOLD, operation=pb.OPERATION_REFUND, attempt=2)
    requested = PaymentEvent(refund_requested=pb.RefundRequested(call=call))
    declined = PaymentEvent(refund_declined=pb.RefundDeclined(order=ORDER, amount_minor=5))
    assert books_of([owed(5), requested]).unattended == set()
    assert len(books_of([owed(5), requested], [declined]).unattended) == 1


def test_fees_and_payouts_make_the_balance_equal() -> None:
    fee = PaymentEvent(fee_charged=pb.FeeCharged(**MONEY, amount_minor=3, reference="t1"))
    out = PaymentEvent(paid_out=pb.PaidOut(**MONEY, amount_minor=77, reference="t1"))
    charge = BalanceTransaction(
        transaction="t1", kind=BALANCE_KIND_CHARGE, hold=HOLD, currency="CNY", amount_minor=80, fee_minor=3
    )
    assert books_of([HELD], [TAKEN], [fee]).unequal([entry()], [charge]) == []
    charge.payout = "po1"
    assert len(books_of([HELD], [TAKEN], [fee]).unequal([entry()], [charge])) == 2
    assert books_of([HELD], [TAKEN], [fee], [out]).unequal([entry()], [charge]) == []
    assert books_of([HELD], [TAKEN]).unequal([entry()], [charge]) != []


def test_another_deployment_is_left_out() -> None:
    foreign = BalanceTransaction(kind=BALANCE_KIND_CHARGE, hold="theirs", currency="CNY", amount_minor=9)
    assert books_of().unequal([], [foreign]) == []


def test_an_adjustment_that_is_not_reversed_is_found() -> None:
    accounts: dict[str, Any] = {"from_account": int(Account.MERCHANT), "to_account": int(Account.ADJUSTMENTS)}
    adjusted = PaymentEvent(ledger_adjusted=pb.LedgerAdjusted(**MONEY, amount_minor=5, **accounts))
    assert len(books_of([adjusted]).unequal([], [])) == 1


def test_findings_are_the_fees_and_the_shares_of_payouts() -> None:
    made = [
        BalanceTransaction(
            transaction="1", kind=BALANCE_KIND_CHARGE, hold=HOLD, amount_minor=80, fee_minor=3, payout="p"
        ),
        BalanceTransaction(transaction="2", kind=BALANCE_KIND_DISPUTE, hold=HOLD, amount_minor=-80, fee_minor=15),
        BalanceTransaction(transaction="3", kind=BALANCE_KIND_CHARGE, hold="theirs", amount_minor=9, fee_minor=1),
        BalanceTransaction(transaction="4", kind=BALANCE_KIND_PAYOUT, amount_minor=-77),
    ]
    found = statement_findings(made, {HOLD: (GROUP, ORDER)}, dispute_fee)
    assert {name for name, _ in found} == {"groups/g/orders/o/payment"}
    assert [(one.WhichOneof("result"), one.fee.amount_minor or one.paid_out.amount_minor) for _, one in found] == [
        ("fee", 3),
        ("paid_out", 77),
    ]


def test_payouts_are_the_shares_of_our_holds() -> None:
    share: dict[str, Any] = {"kind": BALANCE_KIND_CHARGE, "currency": "CNY", "payout": "p"}
    made = [
        BalanceTransaction(hold=HOLD, amount_minor=80, fee_minor=3, **share),
        BalanceTransaction(hold=HOLD, amount_minor=-10, **share),
        BalanceTransaction(hold="theirs", amount_minor=9, **share),
        BalanceTransaction(kind=BALANCE_KIND_CHARGE, hold=HOLD, currency="CNY", amount_minor=5),
        BalanceTransaction(kind=BALANCE_KIND_PAYOUT, currency="CNY", amount_minor=-76, payout="p"),
    ]
    assert payouts_of(made, {HOLD}) == {("p", "CNY"): 67}


def test_every_dispute_and_every_operation_by_hand_has_to_be_in_the_log_once() -> None:
    opened = PaymentEvent(dispute_opened=pb.DisputeOpened(**MONEY, dispute="d1", amount_minor=5))
    by_hand = PaymentEvent(
        external_operation_recorded=pb.ExternalOperationRecorded(**MONEY, operation=pb.OPERATION_VOID, reference="x")
    )
    holds = {"refund": [], "cancel": [HOLD]}
    assert life_recorded(books_of([opened], [opened, by_hand]), ["d1"], holds) == []
    assert life_recorded(books_of([by_hand]), ["d1"], holds) == ["dispute d1 is on one side alone"]
    assert life_recorded(books_of([opened], [by_hand]), [], holds) == ["dispute d1 is on one side alone"]
    for recorded in ([], [by_hand, by_hand]):
        (found,) = life_recorded(books_of(recorded) if recorded else books_of(), [], holds)
        assert found == f"cancel of {HOLD} by hand: 1 at the provider, {len(recorded)} in the log"


def test_every_repair_has_to_be_in_the_log_with_its_operator_and_reason() -> None:
    action = pb.OperatorAction(order=ORDER, fail_member=pb.FailMember())
    acted = pb.OperatorActed(order=ORDER, request_id="r1", operator="alice", reason="why", action=action)
    accepted = {"r1": ("alice", "fail_member")}
    assert repairs_recorded(accepted, books_of([PaymentEvent(operator_acted=acted)])) == []
    assert repairs_recorded(accepted, books_of()) == ["r1 is not in the log"]
    assert repairs_recorded({}, books_of([PaymentEvent(operator_acted=acted)])) == ["r1 was not made"]
    for name in ("operator", "reason"):
        other = pb.OperatorActed()
        other.CopyFrom(acted)
        setattr(other, name, "")
        assert len(repairs_recorded(accepted, books_of([PaymentEvent(operator_acted=other)]))) == 1
