"""Steps from a call to a known result: send, look up, send again, give up in time.

The same call is safe to send again while the other side honours its idempotency key. A look-up that finds nothing does
not prove that the call had no effect, since the call may still be in flight; the call is sent again. While the circuit
breaker is open, calls fail at once with CircuitOpen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import stamina
import structlog

from chassis.outside.call_errors import (
    AlreadyDone,
    CallError,
    KeyReused,
    NotDone,
    NotPossibleNow,
    NotYet,
    ReplayedFailure,
    ResultUnknown,
)
from chassis.outside.circuit_breaker import CircuitBreaker
from chassis.outside.request_count import count_request

log = structlog.get_logger(__name__)

# stamina would log each retry, which floods the log during an outage. The breaker logs the outage once.
stamina.instrumentation.set_on_retry_hooks([])

T = TypeVar("T")
#: One request; its parameter is the time-out in seconds.
Attempt: TypeAlias = Callable[[float], Awaitable[T]]

#: Shortest time-out of one request, also at the end of the budget.
MIN_ATTEMPT_S = 0.05


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Attempts and time-outs of one call. Waits begin at `wait_s` and quadruple, each with jitter up to `wait_s`."""

    attempts: int = 4
    #: Seconds for one request.
    attempt_s: float = 5.0
    #: Seconds for all of them.
    budget_s: float = 10.0
    wait_s: float = 0.1


class CircuitOpen(NotYet):
    """The breaker is open: the call was not made."""


async def resolve(
    key: str,
    send: Attempt[T],
    look_up: Attempt[T | None],
    policy: RetryPolicy,
    breaker: CircuitBreaker | None = None,
    *,
    look_first: bool = False,
) -> T:
    """Makes a call until its result is known. `key` is its idempotency key; `look_up` returns None for an unknown key.

    With `look_first`, each attempt looks the call up before it sends it: for a call whose key may have expired. Raises
    ResultUnknown or NotPossibleNow once the policy is exhausted or a retry within seconds can't help, and NotDone if
    only another key can help.
    """
    clock = asyncio.get_running_loop().time
    ends_s = clock() + policy.budget_s

    def timeout_s() -> float:
        return max(MIN_ATTEMPT_S, min(policy.attempt_s, ends_s - clock()))

    async def once() -> T:
        if look_first:
            found = await _guarded(look_up, timeout_s(), breaker, clock)
            if found is not None:
                return found
        try:
            return await _guarded(send, timeout_s(), breaker, clock)
        except KeyReused as error:
            # A defect on this side: the payload of a key may not change. The first effect of the key counts.
            log.error("idempotency key reused", key=key, error=str(error))
            return await after(error)
        except (AlreadyDone, ResultUnknown) as error:
            return await after(error)

    async def after(error: CallError) -> T:
        found = await _guarded(look_up, timeout_s(), breaker, clock)
        if found is None and isinstance(error, ReplayedFailure):
            raise NotDone(str(error))
        if found is None:
            raise ResultUnknown(str(error), after_ms=error.after_ms)
        return found

    try:
        return await once()
    except ResultUnknown as error:
        left_s = ends_s - clock()
        if left_s <= 0:
            raise
        # Set up only now: building the retrying caller takes longer than most calls.
        return await _retry(once, error, policy, left_s)


async def _retry(once: Callable[[], Awaitable[T]], first: Exception, policy: RetryPolicy, left_s: float) -> T:
    """Retries for `left_s` seconds; the attempt that raised `first` counts as the first one."""
    failed: list[Exception] = [first]

    async def attempt() -> T:
        if failed:
            raise failed.pop()
        return await once()

    retrying = stamina.AsyncRetryingCaller(
        attempts=policy.attempts,
        timeout=left_s,
        wait_initial=policy.wait_s,
        wait_max=policy.budget_s,
        wait_jitter=policy.wait_s,
        wait_exp_base=4,
    )
    return await retrying(ResultUnknown, attempt)


async def _guarded(
    attempt: Attempt[T], timeout_s: float, breaker: CircuitBreaker | None, clock: Callable[[], float]
) -> T:
    """Makes a request if the breaker allows it, and records its result there."""
    if breaker is None:
        return await _parsed(attempt, timeout_s)
    if not breaker.allows(clock()):
        raise CircuitOpen("circuit breaker open after too many failures", after_ms=int(breaker.wait_s(clock()) * 1000))
    try:
        answer = await _parsed(attempt, timeout_s)
    except (ResultUnknown, NotPossibleNow) as error:
        _record(breaker, None if isinstance(error, NotYet) else error, clock)
        raise
    except (KeyReused, AlreadyDone):
        _record(breaker, None, clock)
        raise
    _record(breaker, None, clock)
    return answer


def _record(breaker: CircuitBreaker, error: CallError | None, clock: Callable[[], float]) -> None:
    """Records a result in the breaker and logs when it opens or closes."""
    if error is None:
        if breaker.record_success():
            log.info("circuit breaker closed", provider=breaker.name)
    elif breaker.record_failure(clock()):
        log.warning("circuit breaker opened", provider=breaker.name, error=str(error))


async def _parsed(attempt: Attempt[T], timeout_s: float) -> T:
    """Turns an unexpected form of an answer into ResultUnknown: the call may have taken effect."""
    count_request()
    try:
        return await attempt(timeout_s)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        log.exception("unreadable answer")
        raise ResultUnknown(f"unreadable answer: {error!r}") from error
