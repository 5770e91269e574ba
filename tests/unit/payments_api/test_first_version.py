"""With RULES_VERSION 1 a process appends only what a build before the versions can read, and stamps it with 1."""

from __future__ import annotations

from collections.abc import Iterable

import grpc
import pytest
from groupbuy.payments.v1 import operator_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import OPERATION_CAPTURE, OPERATION_REFUND, ProviderCall
from groupbuy.payments.v1.inbox_pb2 import PaymentInput, ProviderOutcome
from groupbuy.payments.v1.payments_pb2 import RefundPaymentRequest

from chassis.rpc.errors import ApiError
from services.payments.api.operators.operator import OperatorServicer
from services.payments.api.payments import PaymentServicer
from services.payments.api.webhook_ingest import WebhookIngest
from services.payments.domain.inputs.provider_news import NEWS
from services.payments.domain.rules_version import CURRENT, FIRST
from services.payments.processors.effects import PaymentEffectHandler
from services.payments.providers.port import Unaddressed
from services.payments.settings import PaymentsSettings
from tests.scenarios.api_call import call
from tests.scenarios.facts import GROUP
from tests.scenarios.group_events import hold_of
from tests.unit.payments_api.operators import NAME, OperatorView, fields
from tests.unit.payments_api.service import ORDER, TIME_MS, Decider, Inbox


class Reads:
    """Parses every notification as one outcome of the charged order."""

    def __init__(self, kind: str) -> None:
        self.outcome = ProviderOutcome(order=ORDER, operation=OPERATION_CAPTURE, attempt=1)
        getattr(self.outcome, kind).SetInParent()
        if kind in NEWS:
            getattr(self.outcome, kind).hold = hold_of(ORDER)

    def verify_and_parse(
        self, provider: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> tuple[str, ProviderOutcome]:
        return GROUP, self.outcome

    async def address(self, provider: str, notification: Unaddressed, timeout_s: float) -> None:
        raise AssertionError("an unaddressed notification")


class Provider:
    """Answers every call with one outcome."""

    def __init__(self, outcome: ProviderOutcome) -> None:
        self._outcome = outcome

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        return self._outcome


def ingest(inbox: Inbox, kind: str, version: int, counted: list[str]) -> WebhookIngest:
    return WebhookIngest(Reads(kind), inbox, lambda: TIME_MS, lambda _, result: counted.append(result), version)


@pytest.mark.parametrize("kind", sorted(NEWS))
async def test_news_are_left_for_the_provider_to_send_again(decider: Decider, inbox: Inbox, kind: str) -> None:
    counted: list[str] = []
    with pytest.raises(ApiError) as caught:
        await ingest(inbox, kind, FIRST, counted).ingest("simulated", [], b"{}", 1.0)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert (inbox.records, counted) == ([], ["failed"])
    await ingest(inbox, kind, CURRENT, counted).ingest("simulated", [], b"{}", 1.0)
    assert len(inbox.records) == 1
    assert counted == ["failed", "appended"]


async def test_other_notifications_and_refunds_are_stamped(decider: Decider, inbox: Inbox) -> None:
    receiving = ingest(inbox, "captured", FIRST, [])
    await receiving.ingest("simulated", [], b"{}", 1.0)
    payments = PaymentServicer(decider, inbox, receiving, None, lambda: TIME_MS, rules_version=FIRST)  # type: ignore[arg-type]
    request = RefundPaymentRequest(name=NAME, amount_minor=10, currency="CNY", request_id="a" * 36, reason="gift")
    inbox.paused = True
    with pytest.raises(ApiError):
        await payments.RefundPayment(request, call(0.05))
    assert [record.rules_version for _, record, _ in inbox.records] == [FIRST, FIRST]


async def test_repairs_are_refused(inbox: Inbox) -> None:
    view = OperatorView()
    view.owe()
    servicer = OperatorServicer(view, inbox, rules_version=FIRST)
    outcome = ProviderOutcome(operation=OPERATION_CAPTURE, attempt=1)
    outcome.fee.reference = "fee"
    for refused in (
        servicer.RetryCall(pb.RetryCallRequest(**fields(operation=OPERATION_REFUND)), call()),
        servicer.FeedOutcome(pb.FeedOutcomeRequest(name=NAME, outcome=outcome, reason="statement"), call()),
    ):
        with pytest.raises(ApiError, match="GROUPBUY_PAYMENTS_RULES_VERSION is 1") as caught:
            await refused
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert not inbox.records


@pytest.mark.parametrize(("version", "kind"), [(FIRST, "retry_later"), (CURRENT, "not_possible")])
async def test_a_call_that_is_not_possible_is_made_again_later(version: int, kind: str) -> None:
    outcome = ProviderOutcome(order=ORDER, operation=OPERATION_CAPTURE, attempt=1)
    outcome.not_possible.error, outcome.not_possible.after_ms = "a wrong key", 60_000
    handler = PaymentEffectHandler(lambda _: Provider(outcome), lambda: TIME_MS, rules_version=version)
    made = await handler.perform(GROUP, ProviderCall(order=ORDER, operation=OPERATION_CAPTURE, attempt=1))
    found = PaymentInput.FromString(made.value).outcome
    assert found.WhichOneof("result") == kind
    body = getattr(found, kind)
    assert (body.error, body.after_ms) == ("a wrong key", 60_000)


@pytest.mark.parametrize("value", ["0", str(CURRENT + 1)])
def test_an_unknown_version_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROUPBUY_PAYMENTS_INSECURE", "true")
    assert PaymentsSettings().rules_version == CURRENT
    monkeypatch.setenv("GROUPBUY_PAYMENTS_RULES_VERSION", value)
    with pytest.raises(ValueError, match="rules_version"):
        PaymentsSettings()
