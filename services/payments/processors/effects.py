"""Makes the calls that payment decisions ask for at the provider of their payment method.

A decision is the durable intent; its outcome goes to the payment inbox, and means what the decider says. A call that
may have been sent before, long enough ago for a provider to have forgotten its key, is marked as such to its provider.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeAlias, runtime_checkable

from google.protobuf.message import DecodeError
from groupbuy.payments.v1.decisions_pb2 import Operation, PaymentDecision, ProviderCall
from groupbuy.payments.v1.inbox_pb2 import (
    OUTCOME_ORIGIN_CALL,
    OUTCOME_ORIGIN_LOOKUP,
    PaymentInput,
    ProviderOutcome,
)

from eventlog.consuming.resume import RequestedCall
from eventlog.core.aggregate import LATEST_MS, Aggregate, apply
from eventlog.core.errors import Poisoned
from eventlog.processors.effects import Effect, EffectResult
from eventlog.records.envelope import headers
from services.payments.domain.calls import OPERATIONS, calls_of, key
from services.payments.domain.domain import PurseDomain
from services.payments.domain.model import GroupPayments

#: Order, operation and attempt of a call.
_Name: TypeAlias = "tuple[str, Operation.ValueType, int]"

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


class UnsettledCalls:
    """Calls of one partition that the purses wait for: asked for, and neither answered, given up nor put off.

    A call that was put off is asked for again by a later decision.
    """

    def __init__(self) -> None:
        self._domain = PurseDomain()
        self._purses: dict[str, Aggregate[GroupPayments]] = {}
        #: Offset of the last decision that asks for a call, by purse and call.
        self._asked: dict[str, dict[_Name, int]] = {}
        #: Offset of the first record that is no decision of these purses; what is after it is not looked at.
        self._poisoned: int | None = None

    def take(self, record: Any) -> None:
        """Folds a decision. At one that does not fit the effects begin at the latest: they stop there."""
        try:
            if self._poisoned is None:
                self._fold(record)
        except (Poisoned, ValueError, AttributeError, DecodeError):
            self._poisoned = record.offset

    def _fold(self, record: Any) -> None:
        group = record.key.decode()
        purse = self._purses.get(group)
        if purse is None:
            purse = self._purses[group] = Aggregate(group, self._domain.initial(group))
        if not apply(self._domain, purse, record.value, record.offset):
            return
        asked = self._asked.pop(group, {})
        for call in calls_of(PaymentDecision.FromString(record.value)):
            asked[call.order, call.operation, call.attempt] = record.offset
        if left := {name: offset for name, offset in asked.items() if _in_flight(purse.state, name)}:
            self._asked[group] = left

    def earliest(self) -> int | None:
        """See PendingCalls."""
        asked = [offset for asked in self._asked.values() for offset in asked.values()]
        return min(asked if self._poisoned is None else [*asked, self._poisoned], default=None)


def _in_flight(purse: GroupPayments, name: _Name) -> bool:
    """Whether a purse waits for the answer to a call, and not for the time to ask again."""
    payment = purse.payment(name[0])
    call = None if payment is None else payment.calls.get(name[1:])
    return call is not None and not call.retry_at_ms


def _check(decision: PaymentDecision, group: bytes, calls: Iterable[ProviderCall]) -> None:
    """Raises ValueError for a decision that must not move money: not of its group, or with anything unknown in it."""
    if decision.group.encode() != group or decision.version < 1 or not 0 <= decision.time_ms <= LATEST_MS:
        raise ValueError(f"no decision of the purse {group!r}")
    if any(event.WhichOneof("body") is None for event in decision.events[:]):
        raise ValueError(f"version {decision.version} of purse {decision.group} holds an unknown event")
    for call in calls:
        if call.operation not in OPERATIONS or call.amount_minor < 0 or call.attempt < 1:
            raise ValueError(f"version {decision.version} of purse {decision.group} asks for an impossible call")


class PaymentEffectHandler:
    """Calls of payment decisions, one lane an order."""

    #: Effects check with it that decisions follow each other.
    decode = staticmethod(PaymentDecision.FromString)

    def __init__(self, provider_for: Callable[[str], Performs], now_ms: Callable[[], int]) -> None:
        self._provider_for = provider_for
        self._now_ms = now_ms
        #: Calls about to be made that may have been made long ago, by their keys.
        self._old: Counter[str] = Counter()

    def effects_of(self, record: Any) -> Iterable[Effect[ProviderCall]]:
        """The calls that a decision asks for. Raises DecodeError and ValueError for what no decider of ours wrote."""
        decision = PaymentDecision.FromString(record.value)
        made = calls_of(decision)
        _check(decision, record.key, made)
        old = abs(self._now_ms() - decision.time_ms) > OLD_MS
        # Calls that a decision before had asked for: their first sending may be long ago.
        events = decision.events
        retried = [event.call_retried.call for event in events if event.WhichOneof("body") == "call_retried"]
        for call in made:
            if old or call in retried:
                self._old[key(call)] += 1
        return [Effect(call.order, call) for call in made]

    def pending_calls(self) -> UnsettledCalls:
        """See TracesCalls."""
        return UnsettledCalls()

    def requested_calls(self, value: bytes) -> list[RequestedCall]:
        """See TracesCallsByRecord."""
        try:
            decision = PaymentDecision.FromString(value)
            return [RequestedCall(key(call), decision.cause) for call in calls_of(decision)]
        except (DecodeError, KeyError):
            return []

    def answered_call(self, value: bytes) -> str | None:
        """See TracesCallsByRecord. A webhook is no sign that the call was made."""
        try:
            outcome = PaymentInput.FromString(value).outcome
        except DecodeError:
            return None
        if outcome.origin not in (OUTCOME_ORIGIN_CALL, OUTCOME_ORIGIN_LOOKUP) or outcome.operation not in OPERATIONS:
            return None
        return key(ProviderCall(order=outcome.order, operation=outcome.operation, attempt=outcome.attempt))

    async def perform(self, group: str, call: ProviderCall) -> EffectResult:
        """Makes a call and says what came of it."""
        outcome = await self._made(group, call)
        value = PaymentInput(outcome=outcome).SerializeToString()
        name = f"{key(call)}:{outcome.WhichOneof('result')}"
        subject = f"groups/{group}/orders/{call.order}/payment"
        # The time is of the call, outside the log: this record is an input and not derived from one.
        made = headers(name, ProviderOutcome.DESCRIPTOR.full_name, "/payments", self._now_ms(), subject)
        return EffectResult(value, made)

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
