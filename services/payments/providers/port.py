"""The protocol of a payment provider's adapter, and the steps that all adapters share.

An adapter reports results; the payment decider decides on them. It reports money as taken, held or absent only if the
provider has reported that.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_CALL, OutcomeOrigin, ProviderOutcome

from chassis.outside.call_errors import NotDone, NotPossibleNow, NotYet, ReplayedFailure, ResultUnknown
from chassis.outside.circuit_breaker import BreakerState, CircuitBreaker
from chassis.outside.resolve import Attempt, RetryPolicy, resolve
from services.payments.domain.output import provider_calls
from services.payments.providers.call_limiter import CallLimiter


class Provider(Protocol):
    """Adapter to one payment provider. Used on one event loop."""

    @property
    def name(self) -> str:
        """Short name, for logs and health."""
        ...

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        """Makes a call, or finds its result if it was made before; returns within seconds.

        Network and provider errors become RETRY_LATER; a wrong key, account or mode becomes NOT_POSSIBLE, never
        DECLINED. An unknown result is looked up by the call's idempotency key, and where the provider honours keys, the
        same call is sent again. ABSENT is reported only if the provider proves that it has not seen the call and that
        the call can't arrive any more, or that it failed on the call without an effect and repeats that answer. A
        look-up that finds nothing proves neither, as the call may still be in flight. Raises ValueError for a malformed
        call, a defect of the decider.
        """
        ...

    @property
    def available(self) -> bool:
        """Whether calls are made at present; False while the circuit breaker is not closed."""
        ...

    async def close(self) -> None:
        """Closes the connections. Calls in flight are cut off."""
        ...


@runtime_checkable
class ExpiringIdempotency(Protocol):
    """A provider whose idempotency keys expire, so that an old call is looked up before it is sent again."""

    async def perform_again(self, call: ProviderCall, group: str) -> ProviderOutcome:
        """Same as Provider.perform, for a call that may have been sent long ago: looks it up before sending it."""
        ...


#: Group id and outcome of a notification.
Claim: TypeAlias = tuple[str, ProviderOutcome]


class Unaddressed(NamedTuple):
    """A verified notification that names the hold and not the order."""

    #: The provider's reference of the hold; empty if the notification names only `subject`.
    hold: str
    #: The news, with order and environment unset.
    outcome: ProviderOutcome
    #: The provider's id of what has the hold: a complaint.
    subject: str = ""


@runtime_checkable
class Locates(Protocol):
    """A provider that can be asked which order a hold is of."""

    async def locate(self, notification: Unaddressed, timeout_s: float) -> Claim | None:
        """The claim of a notification, with its environment; None if it concerns no order of ours. Raises CallError."""
        ...


def idempotency_key(call: ProviderCall) -> str:
    """Idempotency key of a call: `{order}:{operation}:{attempt}`. Raises ValueError without a known operation."""
    if call.operation not in provider_calls.OPERATIONS:
        raise ValueError(f"order {call.order}: a call without a known operation")
    return provider_calls.idempotency_key(call)


def outcome_of(call: ProviderCall, origin: OutcomeOrigin.ValueType) -> ProviderOutcome:
    """Outcome of a call, with its result still unset."""
    return ProviderOutcome(order=call.order, operation=call.operation, attempt=call.attempt, origin=origin)


async def resolve_outcome(
    call: ProviderCall,
    send: Attempt[ProviderOutcome],
    look_up: Attempt[ProviderOutcome | None],
    policy: RetryPolicy,
    breaker: CircuitBreaker | None = None,
    *,
    look_first: bool = False,
) -> ProviderOutcome:
    """Outcome of a call; RETRY_LATER once the policy is exhausted. See chassis.outside.resolve."""
    outcome = outcome_of(call, OUTCOME_ORIGIN_CALL)
    try:
        return await resolve(idempotency_key(call), send, look_up, policy, breaker, look_first=look_first)
    except NotDone as error:
        outcome.absent.error = str(error)
    except (ResultUnknown, NotYet) as error:
        outcome.retry_later.error = str(error)
        outcome.retry_later.after_ms = error.after_ms
        outcome.retry_later.replayed = isinstance(error, ReplayedFailure)
    except NotPossibleNow as error:
        outcome.not_possible.error = str(error)
        outcome.not_possible.after_ms = error.after_ms
    return outcome


class ResolvingProvider:
    """Base of the adapters: resolves calls under one retry policy, behind one circuit breaker and one rate limit."""

    #: See Provider.
    name: str

    def __init__(
        self, policy: RetryPolicy | None, breaker: CircuitBreaker | None, limiter: CallLimiter | None = None
    ) -> None:
        self.policy = policy or RetryPolicy()
        self._limiter = limiter or CallLimiter()
        self._breaker = breaker or CircuitBreaker(self.name)

    @property
    def available(self) -> bool:
        """Whether calls are made at present."""
        return self._breaker.state is BreakerState.CLOSED

    def resolve(
        self,
        call: ProviderCall,
        send: Attempt[ProviderOutcome],
        look_up: Attempt[ProviderOutcome | None],
        *,
        look_first: bool = False,
    ) -> Coroutine[Any, Any, ProviderOutcome]:
        """Outcome of a call. See resolve_outcome."""
        return resolve_outcome(
            call,
            self._limiter.limited(send),
            self._limiter.limited(look_up),
            self.policy,
            self._breaker,
            look_first=look_first,
        )
