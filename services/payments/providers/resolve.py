"""How an adapter gets from a call to an outcome when answers go missing: send, look up, send again, give up in time.

For providers that honour the idempotency key for longer than any call may be asked again. There the same call is safe
to send however often, so a look-up that finds nothing is no proof of absence and needs none: the call is sent again.
Must never report ABSENT, and never raises what went wrong outside.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import stamina
import structlog
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_CALL, ProviderOutcome

from services.payments.providers.base import KeyTaken, NotPossibleNow, ResultUnknown, idempotency_key, outcome_of

log = structlog.get_logger(__name__)

#: Makes the call; its parameter is the time it may take, in seconds. Raises the errors of base.py.
Send: TypeAlias = Callable[[float], Awaitable[ProviderOutcome]]
#: Looks the call's key up; None when the provider has not seen it.
LookUp: TypeAlias = Callable[[float], Awaitable[ProviderOutcome | None]]

#: A try gets no less than this, also at the end of the budget.
LEAST_S = 0.05


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to keep asking. Waits begin at `wait_s` and quadruple, each with jitter of up to `wait_s`."""

    tries: int = 4
    try_s: float = 5.0
    budget_s: float = 10.0
    wait_s: float = 0.1


async def resolve(call: ProviderCall, send: Send, look_up: LookUp, limits: Limits) -> ProviderOutcome:
    """What came of a call: the provider's word, or RETRY_LATER once the limits are reached."""
    clock = asyncio.get_running_loop().time
    ends_s = clock() + limits.budget_s

    def left_s() -> float:
        return max(LEAST_S, min(limits.try_s, ends_s - clock()))

    async def once() -> ProviderOutcome:
        try:
            return await send(left_s())
        except KeyTaken as error:
            # A defect of ours: the payload of a key must never change. What was done under it stands all the same.
            log.error("idempotency key reused", key=idempotency_key(call), error=str(error))
            return await _found(str(error))
        except ResultUnknown as error:
            return await _found(str(error))

    async def _found(why: str) -> ProviderOutcome:
        found = await look_up(left_s())
        if found is None:
            raise ResultUnknown(why)
        return found

    retrying = stamina.AsyncRetryingCaller(
        attempts=limits.tries,
        timeout=limits.budget_s,
        wait_initial=limits.wait_s,
        wait_max=limits.budget_s,
        wait_jitter=limits.wait_s,
        wait_exp_base=4,
    )
    try:
        return await retrying(ResultUnknown, once)
    except (ResultUnknown, NotPossibleNow) as error:
        outcome = outcome_of(call, OUTCOME_ORIGIN_CALL)
        outcome.retry_later.error = str(error)
        return outcome
