"""Makes the calls that payment decisions ask for at the provider of their payment method.

A decision is the durable intent; its outcome goes to the payment inbox, and means what the decider says. A call that
may have been sent before, long enough ago for a provider to have forgotten its key, is marked as such to its provider.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, runtime_checkable

from groupbuy.payments.v1.decisions_pb2 import PaymentDecision, ProviderCall
from groupbuy.payments.v1.inbox_pb2 import PaymentInput, ProviderOutcome

from eventlog.effects import Call, Outcome
from eventlog.envelope import headers
from services.payments.domain.calls import calls_of, key

#: Providers honour keys for a day at least. A decision read so long after it was made may have been read before.
OLD_MS = 6 * 3_600_000


class Performs(Protocol):
    """A provider's adapter."""

    def perform(self, call: ProviderCall, group: str) -> Awaitable[ProviderOutcome]:
        """Makes a call; never raises for what goes wrong outside."""
        ...


@runtime_checkable
class PerformsAgain(Protocol):
    """An adapter to a provider that forgets keys: providers.base.Forgetful."""

    def perform_again(self, call: ProviderCall, group: str) -> Awaitable[ProviderOutcome]:
        """Looks a call up before it is sent; never raises for what goes wrong outside."""
        ...


class PaymentCalling:
    """Calls of payment decisions, one lane an order."""

    def __init__(self, provider_for: Callable[[str], Performs], now_ms: Callable[[], int]) -> None:
        self._provider_for = provider_for
        self._now_ms = now_ms
        #: Calls about to be made that may have been made long ago, by their keys.
        self._old: Counter[str] = Counter()

    def calls(self, record: Any) -> Iterable[Call[ProviderCall]]:
        """The calls that a decision asks for. Raises DecodeError: our own decisions can be decoded."""
        decision = PaymentDecision.FromString(record.value)
        old = abs(self._now_ms() - decision.time_ms) > OLD_MS
        # Calls that a decision before had asked for: their first sending may be long ago.
        events = decision.events
        retried = [event.call_retried.call for event in events if event.WhichOneof("body") == "call_retried"]
        for call in calls_of(decision):
            if old or call in retried:
                self._old[key(call)] += 1
            yield Call(call.order, call)

    async def perform(self, group: str, call: ProviderCall) -> Outcome:
        """Makes a call and says what came of it."""
        outcome = await self._made(group, call)
        value = PaymentInput(outcome=outcome).SerializeToString()
        name = f"{key(call)}:{outcome.WhichOneof('result')}"
        subject = f"groups/{group}/orders/{call.order}/payment"
        # The time is of the call, outside the log: this record is an input and not derived from one.
        made = headers(name, ProviderOutcome.DESCRIPTOR.full_name, "/payments", self._now_ms(), subject)
        return Outcome(value, made)

    async def _made(self, group: str, call: ProviderCall) -> ProviderOutcome:
        provider = self._provider_for(call.payment_method)
        # Most often there is none, and then no name is made.
        name = key(call) if self._old else ""
        if name not in self._old:
            return await provider.perform(call, group)
        self._old[name] -= 1
        if not self._old[name]:
            del self._old[name]
        if isinstance(provider, PerformsAgain):
            return await provider.perform_again(call, group)
        return await provider.perform(call, group)
