"""NotifyPayment: a notification is appended before it is acknowledged, has one effect, and is not dropped.

Method: signatures of the simulated provider, a fake parser where only the claim matters, and the real decider.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import grpc
import pytest
from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1 import inbox_pb2 as inbox_pb
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_NOTIFICATION, ProviderOutcome
from groupbuy.payments.v1.payments_pb2 import NotificationHeader, NotifyPaymentRequest, NotifyPaymentResponse

from chassis.rpc.errors import ApiError
from eventlog.core.errors import BrokerUnavailable
from services.payments.api.ports import Notifications
from services.payments.api.webhook_ingest import BODY_HEADER, WebhookIngest
from services.payments.providers.notifications import NotUnderstood
from services.payments.providers.port import Unaddressed
from services.payments.providers.registry import notifications_of
from tests.scenarios.api_call import call
from tests.scenarios.facts import GROUP
from tests.unit.payments_api.service import ORDER, Decider, Inbox, servicer

SECRET = "shared"
NOW_S = 1_700_000_000


class Reads:
    """Parses every notification as one claim, or raises an error."""

    def __init__(self, claim: tuple[str, ProviderOutcome] | None = None, error: Exception | None = None) -> None:
        self._claim = claim
        self._error = error

    def verify_and_parse(
        self, provider: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> tuple[str, ProviderOutcome] | None:
        if self._error is not None:
            raise self._error
        return self._claim

    async def address(self, provider: str, notification: Unaddressed, timeout_s: float) -> None:
        raise AssertionError("an unaddressed notification")


def signed(body: bytes, secret: str = SECRET, at_s: int = NOW_S) -> list[NotificationHeader]:
    digest = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return [NotificationHeader(name="Simprovider-Signature", value=f"t={at_s},v1={digest}")]


def notification(**fields: Any) -> bytes:
    fields_sent = {
        "key": f"{ORDER}:capture:1",
        "group": GROUP,
        "status": "STATUS_CAPTURED",
        "hold": f"hold-{ORDER}",
        "amount_minor": 100,
        "currency": "CNY",
        "capturable_until_ms": 0,
        "reason": "",
        "action_url": "",
    }
    return json.dumps(fields_sent | fields).encode()


async def notify(
    decider: Decider,
    inbox: Inbox,
    body: bytes = b"{}",
    headers: list[NotificationHeader] | None = None,
    reader: Notifications | None = None,
    provider: str = "simulated",
) -> NotifyPaymentResponse:
    reads = reader or notifications_of(simulated_secret=SECRET, now_s=lambda: NOW_S)
    request = NotifyPaymentRequest(provider=provider, body=body, headers=headers or [])
    return await servicer(decider, inbox, reads).NotifyPayment(request, call())


def events_of(decider: Decider) -> list[str]:
    """Names of the events of the last decision."""
    return [str(event.WhichOneof("body")) for event in PaymentDecision.FromString(decider.log[-1]).events]


async def test_a_notification_is_in_the_log_before_it_is_acknowledged(decider: Decider, inbox: Inbox) -> None:
    answer = await notify(decider, inbox, notification(), signed(notification()))
    assert (answer.payment, answer.partition, answer.offset) == (f"groups/{GROUP}/orders/{ORDER}/payment", 3, 0)
    ((key, record, headers),) = inbox.records
    assert key == GROUP
    assert (record.outcome.origin, record.outcome.captured.amount_minor) == (OUTCOME_ORIGIN_NOTIFICATION, 100)
    assert headers["ce_subject"] == answer.payment
    inbox.unavailable = True
    with pytest.raises(BrokerUnavailable):
        await notify(decider, inbox, notification(), signed(notification()))


async def test_duplicates_are_appended_once_while_they_are_remembered(decider: Decider, inbox: Inbox) -> None:
    reads = notifications_of(simulated_secret=SECRET, now_s=lambda: NOW_S)
    serving = servicer(decider, inbox, reads)
    requests = [
        NotifyPaymentRequest(
            provider="simulated", body=notification(), headers=signed(notification(), at_s=NOW_S + late)
        )
        for late in (0, 0, 1, 2)
    ]
    at_once = await asyncio.gather(*(serving.NotifyPayment(one, call()) for one in requests))
    later = [await serving.NotifyPayment(one, call()) for one in requests]
    assert len(inbox.records) == 1
    assert {str(one) for one in (*at_once, *later)} == {str(at_once[0])}
    # A duplicate is verified like the first one.
    forged = NotifyPaymentRequest(
        provider="simulated", body=notification(), headers=signed(notification(), secret="other")
    )
    with pytest.raises(ApiError):
        await serving.NotifyPayment(forged, call())


async def test_a_duplicate_of_a_failed_append_is_appended(decider: Decider, inbox: Inbox) -> None:
    serving = servicer(decider, inbox, notifications_of(simulated_secret=SECRET, now_s=lambda: NOW_S))
    request = NotifyPaymentRequest(provider="simulated", body=notification(), headers=signed(notification()))
    inbox.unavailable = True
    with pytest.raises(BrokerUnavailable):
        await serving.NotifyPayment(request, call())
    inbox.unavailable = False
    await serving.NotifyPayment(request, call())
    assert len(inbox.records) == 1


async def test_a_duplicate_changes_nothing(decider: Decider, inbox: Inbox) -> None:
    before = len(decider.log)
    for _ in range(3):
        await notify(decider, inbox, notification(), signed(notification()))
    assert len(decider.log) == before


@pytest.mark.parametrize(
    "headers",
    [
        [],
        signed(notification(), secret="other"),
        signed(notification(amount_minor=99)),
        signed(notification(), at_s=NOW_S - 301),
        signed(notification(), at_s=NOW_S + 301),
        [NotificationHeader(name="simprovider-signature", value="t=ä,v1=ö")],
        signed(notification()) * 2,
    ],
    ids=["none", "another secret", "another body", "too old", "from the future", "nonsense", "twice"],
)
async def test_a_bad_signature_is_refused_and_not_appended(
    decider: Decider, inbox: Inbox, headers: list[NotificationHeader]
) -> None:
    with pytest.raises(ApiError) as caught:
        await notify(decider, inbox, notification(), headers)
    assert (caught.value.code, caught.value.reason_name) == (grpc.StatusCode.PERMISSION_DENIED, "BAD_SIGNATURE")
    assert inbox.records == []


async def test_an_unknown_provider_is_refused(decider: Decider, inbox: Inbox) -> None:
    with pytest.raises(ApiError) as caught:
        await notify(decider, inbox, provider="nobody")
    assert caught.value.reason_name == "INVALID_FIELDS"


async def test_a_notification_about_no_payment_is_acknowledged_and_not_appended(decider: Decider, inbox: Inbox) -> None:
    assert await notify(decider, inbox, reader=Reads(None)) == NotifyPaymentResponse()
    assert inbox.records == []


async def test_money_of_an_unknown_order_is_recorded_and_returned_by_its_provider(
    decider: Decider, inbox: Inbox
) -> None:
    body = inbox_pb.OutcomeCaptured(hold="pi_1", amount_minor=500, currency="USD")
    claim = ProviderOutcome(
        order="", operation=d.OPERATION_CAPTURE, attempt=1, origin=OUTCOME_ORIGIN_NOTIFICATION, captured=body
    )
    answers = [await notify(decider, inbox, reader=Reads(("", claim)), provider="stripe") for _ in range(2)]
    assert answers[0].payment == answers[1].payment
    assert events_of(decider) == ["rules_selected", "suspense_recorded"]
    recorded = PaymentDecision.FromString(decider.log[-1]).events[1].suspense_recorded
    assert (recorded.amount_minor, recorded.currency, recorded.taken) == (500, "USD", True)
    assert recorded.payment_method.startswith("stripe_")
    assert recorded.return_at_ms
    # A duplicate has no effect, and other money gets another order id.
    assert [key for key, _, _ in inbox.records] == [answers[0].payment.split("/")[1]] * 2
    claim.captured.hold = "pi_2"
    other = await notify(decider, inbox, reader=Reads(("", claim)), provider="stripe")
    assert other.payment != answers[0].payment


async def test_a_notification_about_an_unknown_order_alarms_once(decider: Decider, inbox: Inbox) -> None:
    body = notification(key=f"{ORDER[::-1].replace('-', 'a')}:refund:1", status="STATUS_REFUNDED", amount_minor=5)
    for _ in range(2):
        await notify(decider, inbox, body, signed(body))
    assert events_of(decider) == ["suspense_recorded"]
    recorded = PaymentDecision.FromString(decider.log[-1]).events[0].suspense_recorded
    assert recorded.amount_minor == 0
    assert "refunded" in recorded.reason


async def test_a_genuine_notification_that_can_not_be_parsed_is_kept_whole_with_an_alarm(
    decider: Decider, inbox: Inbox
) -> None:
    reader = Reads(error=NotUnderstood("new"))
    answer = await notify(decider, inbox, b'{"new": 1}', reader=reader)
    assert answer.payment
    ((_, _, headers),) = inbox.records
    assert headers[BODY_HEADER] == '{"new": 1}'
    assert events_of(decider) == ["rules_selected", "suspense_recorded"]
    assert "not understood" in PaymentDecision.FromString(decider.log[-1]).events[1].suspense_recorded.reason


async def test_each_notification_is_counted_by_what_became_of_it(decider: Decider, inbox: Inbox) -> None:
    counted: list[tuple[str, str]] = []

    async def ingest(
        reader: Notifications, body: bytes = b"{}", headers: list[NotificationHeader] | None = None
    ) -> None:
        receiving = WebhookIngest(reader, inbox, lambda: 0, lambda provider, result: counted.append((provider, result)))
        received = [(one.name, one.value) for one in headers or ()]
        with suppress(ApiError, BrokerUnavailable):
            await receiving.ingest("simulated", received, body, 1.0)

    reads = notifications_of(simulated_secret=SECRET, now_s=lambda: NOW_S)
    await ingest(reads, notification(), signed(notification()))
    await ingest(reads, notification(), signed(notification(), secret="another"))
    await ingest(Reads(None))
    inbox.unavailable = True
    await ingest(reads, notification(), signed(notification()))
    results = ("appended", "refused", "ignored", "failed")
    assert counted == [("simulated", result) for result in results]
