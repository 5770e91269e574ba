"""An order shows what was really taken and kept, what is owed and why, and its disputes.

Method: logs of the real payment rules, folded by the projection.
"""

from __future__ import annotations

import pytest
from groupbuy.orders.v1.orders_pb2 import (
    ORDER_DISPUTE_STATE_LOST,
    ORDER_DISPUTE_STATE_OPEN,
    ORDER_DISPUTE_STATE_UNSPECIFIED,
    ORDER_DISPUTE_STATE_WON,
    Order,
)
from groupbuy.payments.v1 import inbox_pb2 as i
from groupbuy.payments.v1.decisions_pb2 import MarkReturnedOutside, PaymentDecision

from services.orders.api.mapping import order_message
from services.orders.domain.fold import OrdersFold
from services.orders.domain.ids import OrderName
from services.payments.api.mapping import payment_of
from services.payments.domain.owed import PAUSES_MS
from services.payments.domain.unexpected_funds import SUSPENSE_MS
from tests.scenarios import payments as s
from tests.scenarios.facts import GROUP
from tests.scenarios.payments import REFUND

CHARGED = (s.reserved(), s.authorised(), s.settle(60), s.captured())
SALE = (s.reserved(method="wallet_ok"), s.sold())
REFUNDED = (*CHARGED, s.refund("r1", 20), s.refunded(20))


def shown(scenario: s.PaymentsScenario) -> Order:
    """The order of a scenario as the API shows it."""
    fold = OrdersFold()
    state = fold.initial(GROUP)
    for value in scenario.log:
        fold.fold_payment(state, PaymentDecision.FromString(value), value)
    order = order_message(OrderName(GROUP, "o1"), state, state.orders["o1"])
    payment = payment_of(scenario.state, "o1")
    assert payment is not None
    assert (order.refunded_minor, order.owed_minor) == (payment.refunded, payment.owed)
    assert {one.reason for one in order.owed} == {one.reason for one in payment.life.owed}
    return order


def money(scenario: s.PaymentsScenario) -> tuple[int, int, int]:
    """Taken, kept and owed."""
    order = shown(scenario)
    return order.taken_minor, order.kept_minor, order.owed_minor


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        ((s.reserved(), s.authorised()), (0, 0, 0)),
        (CHARGED, (60, 60, 0)),
        (REFUNDED, (60, 40, 0)),
        (SALE, (100, 100, 0)),
        ((*SALE, s.settle(60), s.refunded(40)), (100, 60, 0)),
        # The difference to the price is due to the customer, and with the merchant.
        ((*SALE, s.settle(60), s.declined(REFUND)), (100, 100, 40)),
        ((*SALE, s.release(), s.refunded(100)), (100, 0, 0)),
        ((*SALE, s.release(), s.declined(REFUND)), (100, 100, 100)),
        # A refund that came back.
        ((*REFUNDED, s.reversed_refund(20)), (60, 60, 20)),
        # A person refunded at the provider.
        ((*CHARGED, s.external(REFUND, 25)), (60, 35, 0)),
        ((*CHARGED, s.external(REFUND, 25), s.reversed_refund(25, 0, reference="by hand")), (60, 60, 0)),
        # More was taken than asked for; it waits in suspense, and goes back.
        ((*CHARGED[:3], s.captured(amount=70)), (70, 70, 0)),
    ],
)
def test_an_order_shows_what_was_taken_and_kept(
    received: tuple[i.PaymentInput, ...], expected: tuple[int, int, int]
) -> None:
    assert money(s.current(*received)) == expected


def test_unexpected_funds_count_until_they_are_returned() -> None:
    scenario = s.current(*CHARGED[:3], s.captured(amount=70)).when(s.tick(), after_ms=SUSPENSE_MS)
    scenario.then("RefundRequested refund:1 h1 10").when(s.refunded(10))
    assert money(scenario) == (70, 60, 0)


def test_held_unexpected_funds_are_not_taken() -> None:
    second = s.authorised("h2", attempt=2)
    scenario = s.current(*CHARGED, second).when(s.tick(), after_ms=SUSPENSE_MS).when(s.voided("h2"))
    assert money(scenario) == (60, 60, 0)


def test_what_is_owed_is_shown_with_its_reason_until_it_is_returned() -> None:
    scenario = s.current(*SALE, s.release(), s.declined(REFUND, reason="card expired"))
    (owed,) = shown(scenario).owed
    assert (owed.amount_minor, owed.reason, owed.alarm) == (100, "card expired", False)
    outside = MarkReturnedOutside(amount_minor=100, reference="transfer")
    scenario.when(s.operator("c1", mark_returned_outside=outside))
    assert money(scenario) == (100, 0, 0)


def test_money_that_went_back_twice_is_not_kept_and_no_refund_of_the_charge() -> None:
    transfer = MarkReturnedOutside(amount_minor=40, reference="transfer")
    scenario = s.current(*SALE, s.settle(60), s.declined(REFUND), s.operator("c1", mark_returned_outside=transfer))
    assert money(scenario) == (100, 60, 0)
    scenario.when(s.refunded(40))
    assert (money(scenario), shown(scenario).refunded_minor) == ((100, 20, 0), 0)
    scenario.when(s.reversed_refund(40))
    assert (money(scenario), shown(scenario).refunded_minor) == ((100, 60, 0), 0)
    transfer.refund, transfer.amount_minor = "r1", 20
    refund = s.current(*REFUNDED, s.reversed_refund(20)).when(s.tick(), after_ms=PAUSES_MS[0])
    refund.when(s.declined(REFUND, 2), s.operator("c1", mark_returned_outside=transfer), s.refunded(20, 2))
    assert (money(refund), shown(refund).refunded_minor) == ((60, 20, 0), 20)


@pytest.mark.parametrize(
    ("ends", "state", "disputed", "kept"),
    [
        ((), ORDER_DISPUTE_STATE_OPEN, 60, 0),
        ((s.dispute(i.DISPUTE_STATE_WON),), ORDER_DISPUTE_STATE_WON, 0, 60),
        ((s.dispute(i.DISPUTE_STATE_LOST),), ORDER_DISPUTE_STATE_LOST, 60, 0),
    ],
)
def test_an_order_shows_its_dispute(ends: tuple[i.PaymentInput, ...], state: int, disputed: int, kept: int) -> None:
    order = shown(s.current(*CHARGED, s.dispute(), *ends))
    assert (order.dispute_state, order.disputed_minor, order.kept_minor) == (state, disputed, kept)


def test_an_inquiry_withdraws_nothing() -> None:
    order = shown(s.current(*CHARGED, s.dispute(withdrawn=0)))
    assert (order.dispute_state, order.disputed_minor, order.kept_minor) == (ORDER_DISPUTE_STATE_OPEN, 0, 60)


def test_a_charge_without_a_dispute_shows_none() -> None:
    assert shown(s.current(*CHARGED)).dispute_state == ORDER_DISPUTE_STATE_UNSPECIFIED


def test_funds_that_the_first_rules_return_at_once_are_not_kept() -> None:
    scenario = s.given(*CHARGED[:3], s.captured(amount=70)).when(s.refunded(10))
    assert money(scenario) == (60, 60, 0)
