"""RefundPayment refunds at most what was captured, once per request, also under concurrent requests.

Method: the real rules behind an inbox that decides at once, is paused, or is unavailable.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from groupbuy.payments.v1.decisions_pb2 import OPERATION_REFUND
from groupbuy.payments.v1.payments_pb2 import (
    PAYMENT_STATE_PARTLY_REFUNDED,
    PAYMENT_STATE_REFUNDED,
    REFUND_STATE_DECLINED,
    REFUND_STATE_PENDING,
    REFUND_STATE_SUCCEEDED,
    Refund,
    RefundPaymentRequest,
)

from chassis.rpc.errors import ApiError
from chassis.rpc.validation import validate
from eventlog.core.errors import BrokerUnavailable
from tests.scenarios import inputs
from tests.scenarios.api_call import call
from tests.scenarios.facts import GROUP
from tests.scenarios.group_events import hold_of
from tests.unit.chassis.support import eventually
from tests.unit.payments_api.service import ORDER, Decider, Inbox, servicer

NAME = f"groups/{GROUP}/orders/{ORDER}/payment"
FIRST = "1b9f2d8e-7a43-4a53-9d0e-0c4a3b6f8e21"
SECOND = "1b9f2d8e-7a43-4a53-9d0e-0c4a3b6f8e22"


async def refund(inbox: Inbox, decider: Decider, seconds: float = 5.0, **fields: Any) -> Refund:
    values: dict[str, Any] = {"name": NAME, "request_id": FIRST, "currency": "CNY"}
    request = RefundPaymentRequest(**values | fields)
    return await servicer(decider, inbox).RefundPayment(request, call(seconds))


async def refused(inbox: Inbox, decider: Decider, seconds: float = 5.0, **fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await refund(inbox, decider, seconds, **fields)
    return caught.value


async def test_a_part_is_refunded_then_the_rest(decider: Decider, inbox: Inbox) -> None:
    part = await refund(inbox, decider, amount_minor=60)
    assert (part.state, part.amount_minor, part.currency) == (REFUND_STATE_PENDING, 60, "CNY")
    assert part.name.startswith(f"{NAME}/refunds/")
    decider.provider(OPERATION_REFUND, ORDER, **inputs.refunded(hold_of(ORDER), 60))
    done = await refund(inbox, decider, amount_minor=60)
    assert (done.name, done.state) == (part.name, REFUND_STATE_SUCCEEDED)
    assert (done.payment.state, done.payment.refunded_minor) == (PAYMENT_STATE_PARTLY_REFUNDED, 60)
    rest = await refund(inbox, decider, request_id=SECOND)
    assert rest.amount_minor == 40
    decider.provider(OPERATION_REFUND, ORDER, 2, **inputs.refunded(hold_of(ORDER), 40))
    assert (await refund(inbox, decider, request_id=SECOND)).payment.state == PAYMENT_STATE_REFUNDED


async def test_a_retried_request_is_appended_once_with_the_same_response(decider: Decider, inbox: Inbox) -> None:
    first = await refund(inbox, decider, amount_minor=60)
    assert await refund(inbox, decider, amount_minor=60) == first
    assert len(inbox.records) == 1


@pytest.mark.parametrize("other", [{"amount_minor": 61}, {"reason": "torn"}, {"amount_minor": 0}])
async def test_another_payload_under_the_same_id_is_refused(
    decider: Decider, inbox: Inbox, other: dict[str, Any]
) -> None:
    await refund(inbox, decider, amount_minor=60)
    error = await refused(inbox, decider, **{"amount_minor": 60} | other)
    assert (error.code, error.reason_name) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert len(inbox.records) == 1


async def test_of_two_payloads_under_one_id_at_once_one_is_refused(decider: Decider, inbox: Inbox) -> None:
    answers = await asyncio.gather(
        refund(inbox, decider, amount_minor=10), refund(inbox, decider, amount_minor=20), return_exceptions=True
    )
    amounts = [one.amount_minor for one in answers if isinstance(one, Refund)]
    assert amounts == [10]
    assert [one.reason_name for one in answers if isinstance(one, ApiError)] == ["REQUEST_ID_REUSED"]


async def test_two_concurrent_refunds_of_60_from_100_refund_60(decider: Decider, inbox: Inbox) -> None:
    answers = await asyncio.gather(
        refund(inbox, decider, amount_minor=60),
        refund(inbox, decider, amount_minor=60, request_id=SECOND),
        return_exceptions=True,
    )
    assert sum(one.amount_minor for one in answers if isinstance(one, Refund)) == 60
    (error,) = [one for one in answers if isinstance(one, ApiError)]
    assert (error.code, error.reason_name) == (grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_STATE")
    assert "40" in error.message


async def test_more_than_was_captured_is_refused_each_time(decider: Decider, inbox: Inbox) -> None:
    for amount in (101, 2**63 - 1):
        request_id = FIRST if amount == 101 else SECOND
        for _ in range(2):
            error = await refused(inbox, decider, amount_minor=amount, request_id=request_id)
            assert (error.code, error.reason_name) == (grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_STATE")
    assert len(inbox.records) == 2


async def test_a_refund_declined_by_the_provider_shows_the_reason(decider: Decider, inbox: Inbox) -> None:
    await refund(inbox, decider, amount_minor=60)
    decider.provider(OPERATION_REFUND, ORDER, **inputs.declined("account closed"))
    declined = await refund(inbox, decider, amount_minor=60)
    assert (declined.state, declined.reason) == (REFUND_STATE_DECLINED, "account closed")


async def test_another_currency_is_refused_before_anything_is_appended(decider: Decider, inbox: Inbox) -> None:
    error = await refused(inbox, decider, amount_minor=1, currency="JPY")
    assert (error.code, error.reason_name) == (grpc.StatusCode.INVALID_ARGUMENT, "CURRENCY_MISMATCH")
    assert inbox.records == []


async def test_without_a_payment_there_is_nothing_to_refund(decider: Decider, inbox: Inbox) -> None:
    unknown = NAME.replace("6e2d0f6a", "00000000")
    for name in (unknown, unknown.replace("0b6a0c2e", "00000000")):
        error = await refused(inbox, decider, name=name)
        assert (error.code, error.reason_name) == (grpc.StatusCode.NOT_FOUND, "PAYMENT_NOT_FOUND")
    assert inbox.records == []


async def test_it_waits_for_the_decision_until_the_deadline(decider: Decider, inbox: Inbox) -> None:
    inbox.paused = True
    error = await refused(inbox, decider, seconds=0.1, amount_minor=60)
    assert (error.code, error.reason_name) == (grpc.StatusCode.DEADLINE_EXCEEDED, "ANSWER_PENDING")
    waiting = asyncio.create_task(refund(inbox, decider, amount_minor=60))
    await eventually(lambda: len(inbox.records) == 2)
    assert not waiting.done()
    for key, record, _ in inbox.records:
        decider.receive(record, key)
    assert (await waiting).amount_minor == 60


async def test_an_unavailable_broker_is_reported(decider: Decider, inbox: Inbox) -> None:
    inbox.unavailable = True
    with pytest.raises(BrokerUnavailable):
        await refund(inbox, decider, amount_minor=60)


@pytest.mark.parametrize(
    "wrong",
    [
        {"request_id": "1"},
        {"amount_minor": -1},
        {"amount_minor": 1, "currency": ""},
        {"currency": "cny"},
        {"name": f"groups/{GROUP}/orders/{ORDER}"},
        {"reason": "x" * 201},
    ],
)
def test_invalid_requests_are_refused_before_the_service(wrong: dict[str, Any]) -> None:
    values: dict[str, Any] = {"name": NAME, "request_id": FIRST, "currency": "CNY"}
    with pytest.raises(ApiError) as caught:
        validate(RefundPaymentRequest(**values | wrong))
    assert caught.value.reason_name == "INVALID_FIELDS"
