"""Refunds and notifications carry the caller's trace; a refund without one may begin a trace with its order."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest
from groupbuy.payments.v1.payments_pb2 import RefundPaymentRequest

from chassis.rpc.trace_context import TRACE, TraceStarter
from eventlog.records.traceparent import TraceContext, parse, span_id
from services.payments.api.payments import PaymentServicer
from services.payments.api.webhook_ingest import WebhookIngest
from tests.scenarios.api_call import call
from tests.scenarios.facts import GROUP
from tests.unit.payments_api.service import ORDER, TIME_MS, Decider, Inbox, NoNotifications
from tests.unit.payments_api.test_notify_payment import notification, notify, signed

REQUEST = RefundPaymentRequest(
    name=f"groups/{GROUP}/orders/{ORDER}/payment", request_id="1b9f2d8e-7a43-4a53-9d0e-0c4a3b6f8e21", currency="CNY"
)
CALLER = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True)


@pytest.fixture
def caller() -> Iterator[TraceContext]:
    token = TRACE.set(CALLER)
    yield CALLER
    TRACE.reset(token)


async def refund(decider: Decider, inbox: Inbox, share: float) -> dict[str, str]:
    """The headers of a refund's record."""
    ingest = WebhookIngest(NoNotifications(), inbox, lambda: TIME_MS)
    serving = PaymentServicer(
        decider,
        inbox,
        ingest,
        None,  # type: ignore[arg-type] # a refund reads no ledger
        lambda: TIME_MS,
        trace_starter=TraceStarter(share),
    )
    await serving.RefundPayment(REQUEST, call())
    return inbox.records[-1][2]


async def test_a_refund_begins_a_trace_with_its_order(decider: Decider, inbox: Inbox) -> None:
    headers = await refund(decider, inbox, 1.0)
    root = span_id("/groupbuy/payments", headers["ce_id"])
    assert parse(headers["traceparent"]) == TraceContext(UUID(ORDER).hex, root, True)


async def test_a_refund_without_a_sampled_trace_has_no_header(decider: Decider, inbox: Inbox) -> None:
    assert "traceparent" not in await refund(decider, inbox, 0.0)


async def test_refunds_and_notifications_continue_the_callers_trace(
    decider: Decider, inbox: Inbox, caller: TraceContext
) -> None:
    assert (await refund(decider, inbox, 0.0))["traceparent"] == str(caller)
    await notify(decider, inbox, notification(), signed(notification()))
    assert inbox.records[-1][2]["traceparent"] == str(caller)


async def test_a_notification_without_a_trace_has_no_header(decider: Decider, inbox: Inbox) -> None:
    """Its span is found by the call that it is about."""
    await notify(decider, inbox, notification(), signed(notification()))
    assert "traceparent" not in inbox.records[-1][2]
