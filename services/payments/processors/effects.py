"""Makes the calls that payment decisions ask for at the provider of their payment method.

A decision is the durable intent; its outcome goes to the payment inbox, and means what the decider says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

from groupbuy.payments.v1.decisions_pb2 import PaymentDecision, ProviderCall
from groupbuy.payments.v1.inbox_pb2 import PaymentInput, ProviderOutcome

from eventlog.effects import Call, Outcome
from eventlog.envelope import headers
from services.payments.domain.calls import calls_of, key


class Performs(Protocol):
    """A provider's adapter."""

    def perform(self, call: ProviderCall, group: str) -> Awaitable[ProviderOutcome]:
        """Makes a call; never raises for what goes wrong outside."""
        ...


class PaymentCalling:
    """Calls of payment decisions, one lane an order."""

    def __init__(self, provider_for: Callable[[str], Performs], now_ms: Callable[[], int]) -> None:
        self._provider_for = provider_for
        self._now_ms = now_ms

    def calls(self, record: Any) -> Iterable[Call[ProviderCall]]:
        """The calls that a decision asks for. Raises DecodeError: our own decisions can be decoded."""
        for call in calls_of(PaymentDecision.FromString(record.value)):
            yield Call(call.order, call)

    async def perform(self, group: str, call: ProviderCall) -> Outcome:
        """Makes a call and says what came of it."""
        outcome = await self._provider_for(call.payment_method).perform(call, group)
        value = PaymentInput(outcome=outcome).SerializeToString()
        name = f"{key(call)}:{outcome.WhichOneof('result')}"
        subject = f"groups/{group}/orders/{call.order}/payment"
        # The time is of the call, outside the log: this record is an input and not derived from one.
        made = headers(name, ProviderOutcome.DESCRIPTOR.full_name, "/payments", self._now_ms(), subject)
        return Outcome(value, made)
