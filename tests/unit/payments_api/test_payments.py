"""GetPayment shows the decisions of the real rules. Method: each input is decided through the kernel's `decide`."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import grpc
import pytest
from groupbuy.payments.v1.decisions_pb2 import OPERATION_AUTHORISE, OPERATION_CAPTURE
from groupbuy.payments.v1.payments_pb2 import (
    PAYMENT_STATE_ACTION_REQUIRED,
    PAYMENT_STATE_AUTHORISED,
    PAYMENT_STATE_CAPTURED,
    PAYMENT_STATE_DECLINED,
    PAYMENT_STATE_REQUESTED,
    GetPaymentRequest,
    Payment,
    PaymentState,
)

from chassis.rpc.errors import ApiError
from services.payments.api.mapping import payment_message, payment_of
from services.payments.api.payments import Context
from shared_kernel.consistency_tokens import Token, decode
from tests.scenarios.facts import GROUP
from tests.scenarios.group_events import release_requested, settlement_requested
from tests.scenarios.inputs import action_required, authorised, captured, declined
from tests.unit.payments_api.service import TIME_MS, Decider, servicer

NAME = f"groups/{GROUP}/orders/a/payment"
STATES = [name for name, number in PaymentState.items() if number]
HELD = authorised("h", 17800, TIME_MS * 2)


@pytest.fixture
def decider() -> Decider:
    made = Decider()
    made.reserve("a", 17800)
    return made


async def read(decider: Decider, name: str = NAME) -> Payment:
    return await servicer(decider).GetPayment(GetPaymentRequest(name=name), cast(Context, None))


async def test_a_payment_is_requested_then_held_then_captured(decider: Decider) -> None:
    requested = await read(decider)
    assert (requested.name, requested.state, requested.currency, requested.amount_minor) == (
        NAME,
        PAYMENT_STATE_REQUESTED,
        "CNY",
        17800,
    )
    assert requested.version == 1
    assert decode(requested.consistency_token) == Token(group=GROUP, payments_version=1)
    assert requested.update_time.ToMilliseconds() == TIME_MS + 1
    decider.provider(OPERATION_AUTHORISE, **HELD)
    held = await read(decider)
    assert (held.state, held.held_minor, held.hold) == (PAYMENT_STATE_AUTHORISED, 17800, "h")
    decider.group(settlement_requested("a", 15800, "h"))
    decider.provider(OPERATION_CAPTURE, **captured("h", 15800))
    taken = await read(decider)
    assert (taken.state, taken.held_minor, taken.captured_minor) == (PAYMENT_STATE_CAPTURED, 0, 15800)


async def test_a_payment_shows_where_the_shopper_confirms(decider: Decider) -> None:
    decider.provider(OPERATION_AUTHORISE, **action_required("h", "https://pay.example"))
    payment = await read(decider)
    assert (payment.state, payment.action_url) == (PAYMENT_STATE_ACTION_REQUIRED, "https://pay.example")


async def test_a_declined_payment_shows_the_reason(decider: Decider) -> None:
    decider.provider(OPERATION_AUTHORISE, **declined("insufficient_funds"))
    payment = await read(decider)
    assert (payment.state, payment.reason) == (PAYMENT_STATE_DECLINED, "insufficient_funds")


async def test_the_payment_method_is_not_shown(decider: Decider) -> None:
    assert "card_secret" not in str(await read(decider))


async def test_an_order_without_requested_money_has_no_payment(decider: Decider) -> None:
    decider.group(release_requested("never-reserved"))
    for name in (f"groups/{GROUP}/orders/b/payment", "groups/none/orders/a/payment"):
        with pytest.raises(ApiError) as caught:
            await read(decider, name)
        assert (caught.value.code, caught.value.reason_name) == (grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND")


async def test_a_malformed_payment_name_is_refused(decider: Decider) -> None:
    with pytest.raises(ApiError) as caught:
        await read(decider, f"groups/{GROUP}/orders/a")
    assert (caught.value.code, caught.value.reason_name) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")


@pytest.mark.parametrize("state", STATES)
def test_every_api_state_has_a_message(decider: Decider, state: str) -> None:
    aggregate = decider.get(GROUP)
    assert aggregate is not None
    view = payment_of(aggregate.state, "a")
    assert view is not None
    shown = payment_message(NAME, replace(view, state=PaymentState.Value(state)), 1, TIME_MS)
    assert PaymentState.Name(shown.state) == state
