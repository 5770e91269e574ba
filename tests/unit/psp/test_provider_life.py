"""The provider's own life: refunds that are refused or undone, disputes, warnings, operations by hand, payouts.

Method: calls and incidents on an account book with a manual clock; then its statement, its balance and its notices.
"""

from __future__ import annotations

import pytest
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.holds import NotFound, NotPossible
from simulators.psp.accounts.provider_life import EVIDENCE_MS
from tests.unit.psp.account_books import HOLD, Books, adds_up, authorise, capture, refund

HAND = pb.ExternalKind


def taken(books: Books, method: str = "card_ok", minor: int = 100) -> None:
    """A hold of 100 of which an amount was captured."""
    books.apply(authorise(method=method))
    books.apply(capture(minor))


def by_hand(books: Books, kind: pb.ExternalKind.ValueType, minor: int = 0) -> pb.CallResult:
    return books.life.operate_by_hand(pb.OperateByHandRequest(hold=HOLD, kind=kind, amount_minor=minor))


def disputed(books: Books, minor: int = 0) -> str:
    made, _ = books.life.open_dispute(pb.OpenDisputeRequest(hold=HOLD, amount_minor=minor))
    return made.dispute


def test_without_rules_nothing_happens_and_no_balance_is_kept(books: Books) -> None:
    taken(books)
    books.apply(refund(40))
    assert not books.life.due(books.clock.now_ms)
    assert books.balance() == []
    assert books.entry(HOLD).fees_minor == 0


def test_a_refused_refund_moves_nothing_and_keeps_its_answer(books: Books) -> None:
    taken(books, "card_refuse_refund")
    for _ in range(2):
        assert books.apply(refund(40)).reason == "refund refused"
    assert books.entry(HOLD).refunded_minor == 0


def test_a_share_of_refunds_is_refused_the_same_ones_in_any_order(books: Books) -> None:
    taken(books)
    books.behave(refund_refuse_per_mille=500)
    keys = [f"a:refund:{n}" for n in range(40)]
    refused = {key for key in keys if books.apply(refund(1, key)).status == pb.STATUS_DECLINED}
    assert 5 < len(refused) < 35
    rules = books.account_book.consequences.rules
    hold = books.account_book.load(HOLD)
    assert {key for key in reversed(keys) if rules.refuses_refund(hold, key)} == refused


@pytest.mark.parametrize(
    ("method", "status"),
    [("card_fail_refund", pb.STATUS_REFUND_FAILED), ("card_reverse_refund", pb.STATUS_REFUND_REVERSED)],
)
def test_a_refund_is_undone_after_its_delay_and_can_be_repeated(
    books: Books, method: str, status: pb.Status.ValueType
) -> None:
    books.listen()
    books.behave(refund_undo_ms=500, keep_balance=True)
    taken(books, method)
    assert books.apply(refund(40)).status == pb.STATUS_REFUNDED
    books.clock.now_ms += 499
    assert not books.life.due(books.clock.now_ms)
    books.clock.now_ms += 1
    assert books.life.due(books.clock.now_ms)
    assert books.life.advance() == 1
    entry = books.entry(HOLD)
    assert (entry.refunded_minor, entry.refunds_undone_minor) == (0, 40)
    assert adds_up(entry)
    assert books.apply(pb.LookUpRequest(key="a:refund:1")).status == status
    assert books.apply(refund(40)).status == pb.STATUS_REFUNDED, "the key keeps its first answer"
    assert books.entry(HOLD).refunded_minor == 0
    books.apply(refund(100, "a:refund:2"))
    assert books.entry(HOLD).refunded_minor == 100
    assert books.balance() == [("CHARGE", 100, 0), ("REFUND", -40, 0), ("REFUND_UNDONE", 40, 0), ("REFUND", -100, 0)]
    assert books.announced()[-2] == pb.Status.Name(status).removeprefix("STATUS_")


def test_a_refund_is_undone_once_and_only_a_refund(books: Books) -> None:
    taken(books)
    books.apply(refund(40))
    books.life.undo_refund(pb.UndoRefundRequest(key="a:refund:1"))
    for key in ("a:refund:1", "a:capture:1"):
        with pytest.raises(NotPossible):
            books.life.undo_refund(pb.UndoRefundRequest(key=key))
    with pytest.raises(NotFound):
        books.life.undo_refund(pb.UndoRefundRequest(key="unknown"))


def test_a_dispute_takes_money_and_a_fee_and_blocks_refunds(books: Books) -> None:
    books.listen()
    books.behave(dispute_fee_minor=15)
    taken(books)
    name = disputed(books)
    entry = books.entry(HOLD)
    assert (entry.disputed_minor, entry.fees_minor) == (100, 15)
    assert [(one.dispute, one.state) for one in entry.disputes] == [(name, pb.DISPUTE_STATE_NEEDS_RESPONSE)]
    assert entry.disputes[0].evidence_due_ms == books.clock.now_ms + EVIDENCE_MS
    assert books.apply(refund(40)).reason == "disputed"
    with pytest.raises(NotPossible, match="disputed"):
        by_hand(books, HAND.EXTERNAL_KIND_REFUND, 10)
    assert books.balance() == [("CHARGE", 100, 0), ("DISPUTE", -100, 15)]
    assert books.announced() == ["AUTHORISED", "CAPTURED", "DISPUTE_OPENED", "DECLINED"]


def test_a_won_dispute_returns_the_amount_and_allows_refunds(books: Books) -> None:
    books.listen()
    books.behave(keep_balance=True)
    taken(books)
    name = disputed(books, 60)
    for state in (pb.DISPUTE_STATE_UNDER_REVIEW, pb.DISPUTE_STATE_WON):
        books.life.update_dispute(name, state)
    assert books.entry(HOLD).disputed_minor == 0
    assert books.apply(refund(100)).status == pb.STATUS_REFUNDED
    assert books.balance()[1:3] == [("DISPUTE", -60, 0), ("DISPUTE_REVERSAL", 60, 0)]
    assert books.announced()[2:5] == ["DISPUTE_OPENED", "DISPUTE_UNDER_REVIEW", "DISPUTE_WON"]
    with pytest.raises(NotPossible, match="closed"):
        books.life.update_dispute(name, pb.DISPUTE_STATE_LOST)


def test_a_lost_dispute_keeps_the_money(books: Books) -> None:
    taken(books)
    books.life.update_dispute(disputed(books), pb.DISPUTE_STATE_LOST)
    assert books.entry(HOLD).disputed_minor == 100
    assert books.apply(refund(1)).reason == "disputed"
    with pytest.raises(NotPossible):
        disputed(books)


def test_a_dispute_without_evidence_is_lost_when_the_time_is_over(books: Books) -> None:
    taken(books)
    disputed(books)
    books.clock.now_ms += EVIDENCE_MS
    books.life.advance()
    assert books.entry(HOLD).disputes[0].state == pb.DISPUTE_STATE_LOST


@pytest.mark.parametrize(("wins", "state"), [(1000, pb.DISPUTE_STATE_WON), (0, pb.DISPUTE_STATE_LOST)])
def test_payments_are_disputed_by_suffix_and_disputes_close_by_the_rules(
    books: Books, wins: int, state: pb.DisputeState.ValueType
) -> None:
    books.behave(dispute_ms=10, dispute_close_ms=20, dispute_win_per_mille=wins)
    taken(books, "card_dispute")
    for pause_ms in (10, 20):
        books.clock.now_ms += pause_ms
        assert books.life.advance() == 1
    assert [one.state for one in books.entry(HOLD).disputes] == [state]


def test_a_planned_dispute_of_a_payment_that_was_refunded_does_not_happen(books: Books) -> None:
    books.behave(dispute_ms=10)
    taken(books, "card_dispute")
    books.apply(refund(100))
    books.clock.now_ms += 10
    assert books.life.advance() == 1
    assert books.entry(HOLD).disputes == []


def test_plans_survive_a_restart(books: Books) -> None:
    books.behave(dispute_ms=10)
    taken(books, "card_dispute")
    books.reopen()
    assert not books.life.due(books.clock.now_ms)
    books.clock.now_ms += 10
    assert books.life.due(books.clock.now_ms)
    books.life.advance()
    assert len(books.entry(HOLD).disputes) == 1


def test_a_fraud_warning_moves_no_money_and_comes_once(books: Books) -> None:
    books.listen()
    taken(books, "card_fraud")
    books.life.advance()
    assert books.announced()[-1] == "FRAUD_WARNING"
    assert adds_up(books.entry(HOLD))
    with pytest.raises(NotPossible):
        books.life.warn_of_fraud(pb.WarnOfFraudRequest(hold=HOLD))


def test_operations_by_hand_are_in_the_statement_without_a_key_of_the_merchant(books: Books) -> None:
    books.listen()
    books.behave(keep_balance=True)
    books.apply(authorise())
    by_hand(books, HAND.EXTERNAL_KIND_CAPTURE, 80)
    by_hand(books, HAND.EXTERNAL_KIND_REFUND, 30)
    by_hand(books, HAND.EXTERNAL_KIND_REFUND)
    entry = books.entry(HOLD)
    assert (entry.captured_minor, entry.refunded_minor, entry.open_minor) == (80, 80, 0)
    found = [(one.kind, one.amount_minor) for one in entry.external_operations]
    assert sorted(found) == [(1, 30), (1, 50), (2, 80)]
    assert all(change.result.key.startswith("dashboard_") for change in books.changes[1:])
    assert books.apply(capture(80)).reason == "already captured"
    assert [row[:2] for row in books.balance()] == [("CHARGE", 80), ("REFUND", -30), ("REFUND", -50)]


def test_a_hold_is_cancelled_by_hand(books: Books) -> None:
    books.apply(authorise())
    assert by_hand(books, HAND.EXTERNAL_KIND_CANCEL).status == pb.STATUS_VOIDED
    assert books.entry(HOLD).released_minor == 100
    with pytest.raises(NotPossible):
        by_hand(books, HAND.EXTERNAL_KIND_CAPTURE)
    with pytest.raises(NotPossible):
        by_hand(books, HAND.EXTERNAL_KIND_REFUND)


def test_a_refund_by_hand_can_be_undone(books: Books) -> None:
    taken(books)
    made = by_hand(books, HAND.EXTERNAL_KIND_REFUND, 30)
    books.life.undo_refund(pb.UndoRefundRequest(key=made.key, reversed=True))
    assert books.entry(HOLD).refunds_undone_minor == 30


def test_fees_and_payouts_leave_nothing_over(books: Books) -> None:
    books.behave(fee_per_mille=29, fee_fixed_minor=3)
    taken(books)
    assert books.entry(HOLD).fees_minor == 6
    (paid,) = books.life.pay_out()
    assert (paid.amount_minor, paid.wire, paid.currency) == (-94, "simulated", "CNY")
    assert books.life.pay_out() == []
    assert books.account_book.balance.available("simulated") == {}
    assert all(one.payout == paid.source for one, _ in books.account_book.balance_statement())


def test_a_negative_balance_is_not_paid_out(books: Books) -> None:
    books.behave(fee_per_mille=100)
    taken(books)
    books.apply(refund(100))
    assert books.life.pay_out() == []
    assert books.account_book.balance.available("simulated") == {"CNY": -10}


def test_the_balance_is_paid_out_at_each_interval(books: Books) -> None:
    books.behave(payout_every_ms=1_000, keep_balance=True)
    taken(books)
    books.life.advance()
    assert books.balance() == [("CHARGE", 100, 0)], "the first interval has begun"
    assert not books.life.due(books.clock.now_ms + 999)
    books.clock.now_ms += 1_000
    books.life.advance()
    assert books.balance()[1:] == [("PAYOUT", -100, 0)]


def test_the_statement_names_the_environment(books: Books) -> None:
    request = authorise()
    request.environment = "green"
    books.apply(request)
    assert books.entry(HOLD).environment == "green"


def test_a_hold_is_found_by_the_reference_of_its_wire(books: Books) -> None:
    books.apply(authorise(method="stripe/pm_ok"))
    books.apply(authorise("number*sale*1", "wechat/g/o/sale/1/payer", sale=True))
    assert books.life.find("pi_" + HOLD.removeprefix("hold_")).hold == HOLD
    assert books.life.find("number*sale*1").key == "number*sale*1"
    with pytest.raises(NotFound):
        books.life.find("pi_unknown")


def test_complaints_at_wechat_take_no_money_and_fees_return_with_a_refund(books: Books) -> None:
    books.behave(fee_per_mille=10, dispute_fee_minor=15)
    books.apply(authorise(method="wechat/g/o/sale/1/payer", sale=True))
    disputed(books)
    books.apply(refund(100))
    assert books.balance() == [("CHARGE", 100, 1), ("REFUND", -100, -1)]
    assert books.entry("a:authorise:1").disputed_minor == 0
