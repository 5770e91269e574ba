"""A call that may be older than the provider's idempotency keys is looked up before it is sent.
Method: decisions as in the log, and providers of a few lines."""

from __future__ import annotations

import pytest
from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision, PaymentEvent, ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_CALL, PaymentInput, ProviderOutcome

from services.payments.processors.effects import OLD_MS, PaymentEffectHandler
from services.payments.providers.port import outcome_of
from services.payments.providers.unconfigured import Unconfigured

NOW_MS = 1_700_000_000_000
CALL = ProviderCall(order="o", operation=d.OPERATION_REFUND, attempt=1, amount_minor=10, hold="h")
REQUESTED = PaymentEvent(refund_requested=d.RefundRequested(call=CALL))
RETRIED = PaymentEvent(call_retried=d.CallRetried(call=CALL))


class Record:
    key = b"g"

    def __init__(self, event: PaymentEvent, time_ms: int = NOW_MS) -> None:
        self.value = PaymentDecision(group="g", version=1, time_ms=time_ms, events=[event]).SerializeToString()


class KeepsKeys:
    """A provider that honours keys for ever."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        return self._refunded("sent", call)

    def _refunded(self, how: str, call: ProviderCall) -> ProviderOutcome:
        self.steps.append(how)
        outcome = outcome_of(call, OUTCOME_ORIGIN_CALL)
        outcome.refunded.hold = call.hold
        return outcome


class ExpiresKeys(KeepsKeys):
    """A provider whose keys expire."""

    async def perform_again(self, call: ProviderCall, group: str) -> ProviderOutcome:
        return self._refunded("looked up first", call)


@pytest.mark.parametrize(
    ("records", "steps"),
    [
        ([Record(REQUESTED)], ["sent"]),
        ([Record(RETRIED)], ["looked up first"]),
        # Read again after an outage of the service, or by a process whose clock is wrong.
        ([Record(REQUESTED, NOW_MS - OLD_MS - 1)], ["looked up first"]),
        ([Record(REQUESTED, NOW_MS + OLD_MS + 1)], ["looked up first"]),
        ([Record(REQUESTED, NOW_MS - OLD_MS)], ["sent"]),
        ([Record(RETRIED), Record(RETRIED), Record(REQUESTED)], ["looked up first", "looked up first", "sent"]),
    ],
)
async def test_a_call_that_may_be_old_is_looked_up_first(records: list[Record], steps: list[str]) -> None:
    for provider, expected in ((ExpiresKeys(), steps), (KeepsKeys(), ["sent"] * len(steps))):
        calling = PaymentEffectHandler(lambda method, one=provider: one, lambda: NOW_MS)  # type: ignore[misc]
        for call in [call for record in records for call in calling.effects_of(record)]:
            outcome = await calling.perform("g", call.call)
            assert PaymentInput.FromString(outcome.value).outcome.refunded.hold == "h"
        assert provider.steps == expected
        assert not calling._old, "completed calls are forgotten"


async def test_without_an_account_new_payments_are_declined_and_calls_on_existing_ones_are_not_possible() -> None:
    provider = Unconfigured.without_setting("stripe", "GROUPBUY_PAYMENTS_STRIPE_KEY")
    for operation in (d.OPERATION_AUTHORISE, d.OPERATION_SALE):
        outcome = await provider.perform(ProviderCall(order="o", operation=operation, attempt=1), "g")
        assert "GROUPBUY_PAYMENTS_STRIPE_KEY is not set" in outcome.declined.reason
    for operation in (d.OPERATION_CAPTURE, d.OPERATION_VOID, d.OPERATION_REFUND):
        outcome = await provider.perform(ProviderCall(order="o", operation=operation, attempt=1, hold="h"), "g")
        assert outcome.not_possible.error
        assert outcome.not_possible.after_ms
    with pytest.raises(ValueError, match="operation"):
        await provider.perform(ProviderCall(order="o"), "g")
    await provider.close()
