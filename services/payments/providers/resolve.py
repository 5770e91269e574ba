"""How an adapter gets from a call to an outcome when answers go missing: send, look up, send again, give up in time.

The same call is safe to send again while the provider honours its key, so a look-up that finds nothing is no proof of
absence and needs none: the call is sent again. A provider that is down is left alone by its breaker: what is asked of
it meanwhile is for later at once. Must never report ABSENT, and never raises what went wrong outside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import stamina
import structlog
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_CALL, ProviderOutcome

from services.payments.providers.circuit_breaker import Breaker
from services.payments.providers.port import (
    DoneBefore,
    KeyTaken,
    NotPossibleNow,
    NotYet,
    ProviderError,
    ResultUnknown,
    idempotency_key,
    outcome_of,
)

log = structlog.get_logger(__name__)

# A line for each try would drown the log while a provider is down; the breaker says when that is so.
stamina.instrumentation.set_on_retry_hooks([])

T = TypeVar("T")
#: Makes the call; its parameter is the time it may take, in seconds. Raises the errors of base.py.
Send: TypeAlias = Callable[[float], Awaitable[ProviderOutcome]]
#: Looks the call's key up; None when the provider has not seen it.
LookUp: TypeAlias = Callable[[float], Awaitable[ProviderOutcome | None]]

#: A try gets no less than this, also at the end of the budget.
MIN_S = 0.05


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to keep asking. Waits begin at `wait_s` and quadruple, each with jitter of up to `wait_s`."""

    tries: int = 4
    try_s: float = 5.0
    budget_s: float = 10.0
    wait_s: float = 0.1


class CircuitOpen(NotYet):
    """The provider is left alone for now."""


async def resolve(
    call: ProviderCall,
    send: Send,
    look_up: LookUp,
    limits: Limits,
    breaker: Breaker | None = None,
    *,
    look_first: bool = False,
) -> ProviderOutcome:
    """What came of a call: the provider's word, or RETRY_LATER once the limits are reached.

    With `look_first` it is looked up before it is sent, each time: for a call whose key may be forgotten by now.
    """
    clock = asyncio.get_running_loop().time
    ends_s = clock() + limits.budget_s

    async def ask(question: Callable[[float], Awaitable[T]]) -> T:
        timeout_s = max(MIN_S, min(limits.try_s, ends_s - clock()))
        return await _watched(question, timeout_s, breaker, clock)

    async def once() -> ProviderOutcome:
        if look_first:
            found = await ask(look_up)
            if found is not None:
                return found
        try:
            return await ask(send)
        except KeyTaken as error:
            # A defect of ours: the payload of a key must never change. What was done under it stands all the same.
            log.error("idempotency key reused", key=idempotency_key(call), error=str(error))
            return await _found(error)
        except (DoneBefore, ResultUnknown) as error:
            return await _found(error)

    async def _found(why: ProviderError) -> ProviderOutcome:
        found = await ask(look_up)
        if found is None:
            raise ResultUnknown(str(why), after_ms=why.after_ms)
        return found

    try:
        try:
            return await once()
        except ResultUnknown as error:
            left_s = ends_s - clock()
            if left_s <= 0:
                raise
            # Only now: to set the retries up takes longer than most calls.
            return await _again(once, error, limits, left_s)
    except (ResultUnknown, NotPossibleNow) as error:
        outcome = outcome_of(call, OUTCOME_ORIGIN_CALL)
        outcome.retry_later.error = str(error)
        outcome.retry_later.after_ms = error.after_ms
        return outcome


async def _again(
    once: Callable[[], Awaitable[ProviderOutcome]], first: Exception, limits: Limits, left_s: float
) -> ProviderOutcome:
    """Tries again within `left_s` seconds, as if the try that ended with `first` had been the first of these."""
    failed: list[Exception] = [first]

    async def rest() -> ProviderOutcome:
        if failed:
            raise failed.pop()
        return await once()

    retrying = stamina.AsyncRetryingCaller(
        attempts=limits.tries,
        timeout=left_s,
        wait_initial=limits.wait_s,
        wait_max=limits.budget_s,
        wait_jitter=limits.wait_s,
        wait_exp_base=4,
    )
    return await retrying(ResultUnknown, rest)


async def _watched(
    question: Callable[[float], Awaitable[T]],
    timeout_s: float,
    breaker: Breaker | None,
    clock: Callable[[], float],
) -> T:
    """Asks, if the breaker lets it, and tells the breaker how it went."""
    if breaker is None:
        return await _readable(question, timeout_s)
    if not breaker.allows(clock()):
        raise CircuitOpen("too many failures: left alone for a while", after_ms=int(breaker.wait_s(clock()) * 1000))
    try:
        answer = await _readable(question, timeout_s)
    except (ResultUnknown, NotPossibleNow) as error:
        _tell(breaker, None if isinstance(error, NotYet) else error, clock)
        raise
    except (KeyTaken, DoneBefore):
        _tell(breaker, None, clock)
        raise
    _tell(breaker, None, clock)
    return answer


def _tell(breaker: Breaker, error: ProviderError | None, clock: Callable[[], float]) -> None:
    """Tells the breaker how a call went, and the log what follows from it."""
    if error is None:
        if breaker.succeeded():
            log.info("the provider is asked again", provider=breaker.name)
    elif breaker.failed(clock()):
        log.warning("the provider is left alone for a while", provider=breaker.name, error=str(error))


async def _readable(question: Callable[[float], Awaitable[T]], timeout_s: float) -> T:
    """An answer in a form that nobody expected must not end the process: whatever it meant may have been done."""
    try:
        return await question(timeout_s)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        log.exception("an answer that can't be read")
        raise ResultUnknown(f"an answer that can't be read: {error!r}") from error
