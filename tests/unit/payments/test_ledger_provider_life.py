"""The ledger of what a provider does by itself: the merchant's balance is what the bank will see.

Method: the log of a scenario is booked. Above 0 is a debit of an account, so that the money in it is positive.
"""

from __future__ import annotations

import pytest
from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.inbox_pb2 import DISPUTE_STATE_LOST, DISPUTE_STATE_WON, OutcomeFee, OutcomePaidOut

from services.payments.domain.owed import PAUSES_MS
from tests.scenarios import payments as s
from tests.scenarios.payments import CAPTURE, REFUND
from tests.unit.payments.booking import booked

SALE = [s.reserved(method="wallet_ok"), s.sold()]
CHARGED = [s.reserved(), s.authorised(), s.settle(), s.captured()]
OWED = [*SALE, s.release(), s.declined(REFUND)]
STRAY = [s.captured("h9", 500)]

CASES = {
    "a refused release is owed": (OWED, {"customer": -100, "owed": 100}),
    "a part of it returned by hand": ([*OWED, s.external(REFUND, 30)], {"customer": -70, "owed": 70}),
    "the difference to the tier price is owed": (
        [*SALE, s.settle(60), s.declined(REFUND)],
        {"customer": -100, "clearing": 60, "owed": 40},
    ),
    "a reversed refund is owed again": (
        [*CHARGED, s.refund("r1", 20), s.refunded(20), s.reversed_refund(20)],
        {"customer": -60, "merchant": 40, "owed": 20},
    ),
    "a refund by hand": ([*CHARGED, s.external(REFUND, 20)], {"customer": -40, "merchant": 40}),
    "a dispute that is open": (
        [*CHARGED, s.dispute(fee_minor=15)],
        {"customer": -60, "merchant": -15, "disputes": 60, "fees": 15},
    ),
    "a dispute that is won": (
        [*CHARGED, s.dispute(fee_minor=15), s.dispute(DISPUTE_STATE_WON)],
        {"customer": -60, "merchant": 45, "fees": 15},
    ),
    "a dispute that is lost": (
        [*CHARGED, s.dispute(fee_minor=15), s.dispute(DISPUTE_STATE_LOST)],
        {"merchant": -15, "fees": 15},
    ),
    "a fee and a payout": (
        [
            *CHARGED,
            s.news(fee=OutcomeFee(hold="h1", reference="t", amount_minor=3)),
            s.news(paid_out=OutcomePaidOut(hold="h1", reference="t", amount_minor=57)),
        ],
        {"customer": -60, "fees": 3, "payouts": 57},
    ),
    "a capture by hand waits in suspense": (
        [s.reserved(), s.authorised(), s.external(CAPTURE, 100)],
        {"customer": -100, "suspense": 100},
    ),
    "funds that an operator keeps": (
        [s.reserved(), s.authorised(), s.external(CAPTURE, 100), s.operator("c", keep_suspense={"hold": "h1"})],
        {"customer": -100, "merchant": 100},
    ),
    "a transfer by other means": (
        [*OWED, s.operator("c", mark_returned_outside={"amount_minor": 100, "reference": "t"})],
        {"merchant": 100, "outside": -100},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_balances_show_where_the_money_is(case: str) -> None:
    given, balances = CASES[case]
    assert booked(s.current(*given)).balances() == balances


def test_an_owed_sum_that_is_returned_at_last_leaves_nothing() -> None:
    scenario = s.current(*OWED).when(s.tick(), after_ms=PAUSES_MS[0]).when(s.refunded(100, 2))
    assert booked(scenario).balances() == {}


def test_an_adjustment_moves_the_amount_between_the_named_accounts() -> None:
    wanted = pb.AdjustLedger(from_account=4, to_account=11, amount_minor=7, currency="CNY")
    scenario = s.current(*CHARGED).when(s.operator("p", adjust_ledger=wanted))
    scenario.when(s.operator("a", "bob", approve_adjustment=pb.ApproveAdjustment(proposal="p")))
    assert booked(scenario).balances() == {"customer": -60, "merchant": 53, "adjustments": 7}
