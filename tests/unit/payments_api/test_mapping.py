"""Mapping of payments to the API's states and amounts."""

from __future__ import annotations

import pytest
from groupbuy.payments.v1.inbox_pb2 import PaymentInput
from groupbuy.payments.v1.payments_pb2 import PaymentState

from services.payments.api.mapping import PaymentView, payment_of, refund_of
from tests.scenarios.payments import (
    AUTHORISE,
    CAPTURE,
    REFUND,
    action_required,
    authorised,
    captured,
    declined,
    given,
    hold_gone,
    refund,
    refunded,
    release,
    reserved,
    settle,
    sold,
    voided,
)

HELD = [reserved(), authorised()]
CHARGED = [*HELD, settle(), captured()]
TAKEN = [reserved(method="wallet_ok"), sold()]


def view(*inputs: PaymentInput) -> PaymentView:
    found = payment_of(given(*inputs).state, "o1")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("inputs", "state", "held", "taken", "refunds"),
    [
        ([reserved()], "REQUESTED", 0, 0, 0),
        ([reserved(), action_required()], "ACTION_REQUIRED", 0, 0, 0),
        ([reserved(), declined()], "DECLINED", 0, 0, 0),
        (HELD, "AUTHORISED", 100, 0, 0),
        ([*HELD, hold_gone(AUTHORISE)], "LAPSED", 0, 0, 0),
        ([*HELD, release()], "AUTHORISED", 100, 0, 0),
        ([*HELD, release(), voided()], "VOIDED", 0, 0, 0),
        ([release()], "VOIDED", 0, 0, 0),
        ([*HELD, settle()], "AUTHORISED", 100, 0, 0),
        ([*HELD, settle(), hold_gone()], "REQUESTED", 0, 0, 0),
        ([*HELD, settle(), declined(CAPTURE)], "DECLINED", 100, 0, 0),
        (CHARGED, "CAPTURED", 0, 60, 0),
        ([*CHARGED, refund("r1", 20)], "CAPTURED", 0, 60, 0),
        ([*CHARGED, refund("r1", 20), refunded(20)], "PARTLY_REFUNDED", 0, 60, 20),
        ([*CHARGED, refund("r1", 20), refunded(20), release()], "PARTLY_REFUNDED", 0, 60, 20),
        ([*CHARGED, release(), refunded(60)], "REFUNDED", 0, 60, 60),
        ([*CHARGED, release(), declined(REFUND)], "CAPTURED", 0, 60, 0),
        (TAKEN, "AUTHORISED", 100, 0, 0),
        ([*TAKEN, settle(), refunded(40)], "CAPTURED", 0, 60, 0),
        ([*TAKEN, release(), refunded(100)], "VOIDED", 0, 0, 0),
    ],
)
def test_a_payment_shows_its_state_and_its_amounts(
    inputs: list[PaymentInput], state: str, held: int, taken: int, refunds: int
) -> None:
    seen = view(*inputs)
    assert (seen.state, seen.held, seen.captured, seen.refunded) == (
        PaymentState.Value(f"PAYMENT_STATE_{state}"),
        held,
        taken,
        refunds,
    )


def test_a_payment_shows_its_hold_its_currency_and_the_requested_amount() -> None:
    seen = view(reserved(currency="KWD", amount=12_345), authorised(currency="KWD", amount=12_345))
    assert (seen.hold, seen.currency, seen.amount) == ("h1", "KWD", 12_345)


def test_a_payment_shows_the_confirmation_address_until_it_is_confirmed() -> None:
    assert view(reserved(), action_required()).action_url == "https://confirm"
    assert view(reserved(), action_required(), authorised()).action_url == ""


def test_a_declined_payment_shows_the_reason() -> None:
    assert view(reserved(), declined(reason="stolen")).reason == "stolen"


def test_an_order_that_the_group_never_named_has_no_payment() -> None:
    assert payment_of(given().state, "o1") is None
    assert payment_of(given(authorised("h9")).state, "o1") is None


def test_an_undecided_refund_is_not_found() -> None:
    payments = given(*CHARGED).state
    assert refund_of(payments, "o1", "r1") is None
    assert refund_of(payments, "o9", "r1") is None
