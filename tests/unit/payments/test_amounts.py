"""Amounts are integers of minor units of one currency from the seat to the ledger: yen have no decimals, yuan two and
dinars three. An invalid amount is refused with the reason and moves nothing.
"""

from __future__ import annotations

import pytest
from groupbuy.payments.v1.inbox_pb2 import PaymentInput, RefundCommand

from services.payments.domain.errors import AmountOutOfRange
from services.payments.domain.output.events import MAX_MINOR, minor
from tests.scenarios.payments import (
    SALE,
    authorised,
    captured,
    given,
    refund,
    refunded,
    release,
    reserved,
    settle,
    sold,
    voided,
)
from tests.unit.payments.booking import booked

#: Currency, held, charged, refunded later.
AMOUNTS = [("JPY", 1_500, 1_201, 1), ("KWD", 12_345, 9_999, 1), ("CNY", 8_900, 6_901, 33), ("CNY", MAX_MINOR, 1, 1)]


@pytest.mark.parametrize(("currency", "held", "charged", "back"), AMOUNTS)
def test_an_amount_is_the_same_number_from_the_seat_to_the_ledger(
    currency: str, held: int, charged: int, back: int
) -> None:
    scenario = given(reserved(amount=held, currency=currency))
    assert scenario.events[0].hold_requested.call.amount_minor == held
    scenario.when(authorised(amount=held, currency=currency)).then(f"HoldAuthorised h1 {held}")
    scenario.when(settle(charged, currency=currency)).then(f"CaptureRequested capture:1 h1 {charged}")
    scenario.when(captured(amount=charged)).then(f"Captured h1 {charged} released {held - charged}")
    scenario.when(refund("r1", back)).when(refunded(back)).then(f"Refunded h1 {back} r1")
    books = booked(scenario)
    left = {"customer": back - charged, "merchant": charged - back}
    assert books.balances(currency) == {name: amount for name, amount in left.items() if amount}
    assert {one for one, _ in books.journal.balances} == {currency}


@pytest.mark.parametrize(("currency", "held", "charged", "back"), AMOUNTS)
def test_a_sale_returns_exactly_the_difference(currency: str, held: int, charged: int, back: int) -> None:
    scenario = given(reserved(amount=held, method="wallet_ok", currency=currency))
    scenario.when(authorised(amount=held, operation=SALE, currency=currency))
    scenario.when(settle(charged, currency=currency)).then(f"RefundRequested refund:1 h1 {held - charged}")
    scenario.when(refunded(held - charged))
    assert booked(scenario).balances(currency) == {"customer": -charged, "merchant": charged}


@pytest.mark.parametrize(("currency", "held", "charged", "back"), AMOUNTS)
def test_a_release_returns_the_whole_hold(currency: str, held: int, charged: int, back: int) -> None:
    scenario = given(reserved(amount=held, currency=currency), authorised(amount=held, currency=currency), release())
    scenario.when(voided())
    assert booked(scenario).balances(currency) == {}


@pytest.mark.parametrize("amount", [-1, MAX_MINOR + 1, -(1 << 63)])
def test_an_amount_beyond_64_bits_is_refused(amount: int) -> None:
    with pytest.raises(AmountOutOfRange, match=f"{amount} is not an amount of minor units"):
        minor(amount)


@pytest.mark.parametrize("amount", [-5, 0])
def test_a_seat_without_a_positive_amount_faults_and_moves_nothing(amount: int) -> None:
    scenario = given(reserved(amount=amount)).then("Faulted Impossible")
    assert scenario.calls == []
    assert booked(scenario).balances() == {}


def test_a_refund_in_another_currency_is_declined_with_the_reason() -> None:
    scenario = given(reserved(), authorised(), settle(100), captured(amount=100))
    command = RefundCommand(order="o1", refund="r1", amount_minor=50, currency="JPY", request_sha256=b"d")
    scenario.when(PaymentInput(refund=command)).then("RefundDeclined r1 50")
    assert scenario.events[0].refund_declined.reason == "the payment is in CNY, not in JPY"
    assert scenario.calls == []


def test_a_charge_in_another_currency_than_the_hold_takes_nothing() -> None:
    scenario = given(reserved(currency="KWD"), authorised(currency="KWD")).when(settle(60, currency="CNY"))
    assert scenario.calls == []
    assert "CaptureRequested" not in str(scenario.events)


def test_money_in_another_currency_than_requested_is_returned_in_that_currency() -> None:
    scenario = given(reserved(method="wallet_ok"), sold(), settle(60))
    assert {currency for currency, _ in booked(scenario).journal.balances} == {"CNY"}
    other = given(reserved()).when(authorised(currency="KWD"))
    assert booked(other).balances("KWD") == {"customer": -100, "suspense": 100}
    assert booked(other).balances("CNY") == {}
