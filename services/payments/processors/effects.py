"""Makes the provider calls that payment decisions request.

A decision is the durable intent. The result of its call goes to the payment inbox, where the decider decides on it. A
call whose first sending may be older than the provider keeps idempotency keys is looked up before it is sent again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol, TypeAlias

from google.protobuf.message import DecodeError
from groupbuy.payments.v1.decisions_pb2 import Operation, PaymentDecision, ProviderCall
from groupbuy.payments.v1.inbox_pb2 import (
    OUTCOME_ORIGIN_CALL,
    OUTCOME_ORIGIN_LOOKUP,
    PaymentInput,
    ProviderOutcome,
)

from chassis.outside.request_count import begin_count
from eventlog.consuming.resume import RequestedCall
from eventlog.core.aggregate import LATEST_MS, Aggregate, apply
from eventlog.core.effect_handler import Effect, EffectResult
from eventlog.core.errors import Poisoned
from eventlog.records.envelope import headers
from services.payments.domain.domain import GroupPaymentsDomain
from services.payments.domain.first_version import readable
from services.payments.domain.output.provider_calls import OPERATIONS, calls_of, idempotency_key
from services.payments.domain.rules_version import CURRENT, FIRST
from services.payments.domain.state.model import GroupPayments
from services.payments.processors.return_limit import ReturnLimit
from services.payments.providers.port import ExpiringIdempotency
from shared_kernel.call_header import HEADER as CALL_HEADER
from shared_kernel.call_header import CallTiming

#: Order, operation and attempt of a call.
_CallName: TypeAlias = "tuple[str, Operation.ValueType, int]"

#: Age from which a decision may have been read before its calls' keys expired. Providers keep keys for a day at least.
OLD_MS = 6 * 3_600_000


class PerformsCalls(Protocol):
    """The part of a provider's adapter that effects use."""

    def perform(self, call: ProviderCall, group: str) -> Awaitable[ProviderOutcome]:
        """Makes a call. Errors of the network and of the provider become outcomes."""
        ...


#: Waits for the outcome of a call, and measures the call.
Measure: TypeAlias = Callable[[ProviderCall, Awaitable[ProviderOutcome]], Awaitable[ProviderOutcome]]


async def _unmeasured(_call: ProviderCall, outcome: Awaitable[ProviderOutcome]) -> ProviderOutcome:
    return await outcome


class PendingPaymentCalls:
    """The calls of one partition that are in flight: requested, without a result, and not deferred.

    A deferred call is left out, as a later decision requests it again.
    """

    def __init__(self) -> None:
        self._domain = GroupPaymentsDomain()
        self._groups: dict[str, Aggregate[GroupPayments]] = {}
        #: Offset of the last decision that requests a call, by group and call.
        self._requested: dict[str, dict[_CallName, int]] = {}
        #: Offset of the first record that is not a valid decision; records after it are ignored.
        self._poisoned: int | None = None

    def take(self, record: Any) -> None:
        """Folds a decision. An invalid one bounds where effects resume: they stop there."""
        try:
            if self._poisoned is None:
                self._fold(record)
        except (Poisoned, ValueError, AttributeError, DecodeError):
            self._poisoned = record.offset

    def _fold(self, record: Any) -> None:
        group = record.key.decode()
        payments = self._groups.get(group)
        if payments is None:
            payments = self._groups[group] = Aggregate(group, self._domain.initial(group))
        if not apply(self._domain, payments, record.value, record.offset):
            return
        requested = self._requested.pop(group, {})
        for call in calls_of(PaymentDecision.FromString(record.value)):
            requested[call.order, call.operation, call.attempt] = record.offset
        if left := {name: offset for name, offset in requested.items() if _in_flight(payments.state, name)}:
            self._requested[group] = left

    def earliest(self) -> int | None:
        """See PendingCalls."""
        offsets = [offset for requested in self._requested.values() for offset in requested.values()]
        return min(offsets if self._poisoned is None else [*offsets, self._poisoned], default=None)


def _in_flight(payments: GroupPayments, name: _CallName) -> bool:
    payment = payments.payment(name[0])
    call = None if payment is None else payment.calls.get(name[1:])
    return call is not None and not call.retry_at_ms


def _check(decision: PaymentDecision, group: bytes, calls: Iterable[ProviderCall]) -> None:
    """Raises ValueError for a decision that may not move money: of another group, or with unknown content."""
    if decision.group.encode() != group or decision.version < 1 or not 0 <= decision.time_ms <= LATEST_MS:
        raise ValueError(f"not a payment decision of group {group!r}")
    name = f"version {decision.version} of the payments of group {decision.group}"
    if any(event.WhichOneof("body") is None for event in decision.events[:]):
        raise ValueError(f"{name} holds an unknown event")
    for call in calls:
        if call.operation not in OPERATIONS or call.amount_minor < 0 or call.attempt < 1:
            raise ValueError(f"{name} requests an impossible call")


class PaymentEffectHandler:
    """The calls of payment decisions. Calls of one order are made one after another."""

    #: The kernel checks with it that decisions follow each other.
    decode = staticmethod(PaymentDecision.FromString)

    def __init__(
        self,
        provider_for: Callable[[str], PerformsCalls],
        now_ms: Callable[[], int],
        measure: Measure | None = None,
        returns: ReturnLimit | None = None,
        rules_version: int = CURRENT,
    ) -> None:
        """`provider_for` finds the adapter of a payment method; `measure` waits for the outcome of each call; `returns`
        limits the returns of unexpected funds; `rules_version` is that of new groups."""
        self._rules_version = rules_version
        self._returns = returns
        self._provider_for = provider_for
        self._measure = measure or _unmeasured
        self._now_ms = now_ms
        #: Idempotency keys of calls that may have been sent long ago, until they are made.
        self._old: Counter[str] = Counter()

    def effects_of(self, record: Any) -> Iterable[Effect[ProviderCall]]:
        """The calls that a decision requests. Raises DecodeError and ValueError for a record no decider wrote."""
        decision = PaymentDecision.FromString(record.value)
        made = calls_of(decision)
        _check(decision, record.key, made)
        old = abs(self._now_ms() - decision.time_ms) > OLD_MS
        # An earlier decision requested these calls first, perhaps long ago.
        events = decision.events
        retried = [event.call_retried.call for event in events if event.WhichOneof("body") == "call_retried"]
        for call in made:
            if old or call in retried:
                self._old[idempotency_key(call)] += 1
        return [Effect(call.order, call) for call in made]

    def pending_calls(self) -> PendingPaymentCalls:
        """See TracesCalls."""
        return PendingPaymentCalls()

    def requested_calls(self, value: bytes) -> list[RequestedCall]:
        """See TracesCallsByRecord."""
        try:
            decision = PaymentDecision.FromString(value)
            return [RequestedCall(idempotency_key(call), decision.cause) for call in calls_of(decision)]
        except (DecodeError, KeyError):
            return []

    def answered_call(self, value: bytes) -> str | None:
        """See TracesCallsByRecord. A webhook does not prove that the call was made."""
        try:
            outcome = PaymentInput.FromString(value).outcome
        except DecodeError:
            return None
        if outcome.origin not in (OUTCOME_ORIGIN_CALL, OUTCOME_ORIGIN_LOOKUP) or outcome.operation not in OPERATIONS:
            return None
        return idempotency_key(ProviderCall(order=outcome.order, operation=outcome.operation, attempt=outcome.attempt))

    async def perform(self, group: str, call: ProviderCall) -> EffectResult:
        """Makes a call. Returns the inbox record of its outcome."""
        start_ms = self._now_ms()
        counted = begin_count()
        outcome = await self._measure(call, self._outcome(group, call))
        if self._rules_version == FIRST:
            outcome = readable(outcome)
        value = PaymentInput(outcome=outcome).SerializeToString()
        name = f"{idempotency_key(call)}:{outcome.WhichOneof('result')}"
        subject = f"groups/{group}/orders/{call.order}/payment"
        # This record is an input, derived from no other record, so its time is the wall clock's.
        end_ms = self._now_ms()
        timing = CallTiming(start_ms, max(end_ms - start_ms, 0), counted.requests)
        kind = ProviderOutcome.DESCRIPTOR.full_name
        made = headers(name, kind, "/payments", end_ms, subject, {CALL_HEADER: str(timing)})
        return EffectResult(value, made)

    async def _outcome(self, group: str, call: ProviderCall) -> ProviderOutcome:
        if call.returns_suspense and self._returns is not None:
            refused = self._returns.refuse(call, self._now_ms())
            if refused is not None:
                return refused
        provider = self._provider_for(call.payment_method)
        # Without old calls, which is the usual case, the key need not be built.
        key = idempotency_key(call) if self._old else ""
        if key not in self._old:
            return await provider.perform(call, group)
        self._old[key] -= 1
        if not self._old[key]:
            del self._old[key]
        if isinstance(provider, ExpiringIdempotency):
            return await provider.perform_again(call, group)
        return await provider.perform(call, group)
