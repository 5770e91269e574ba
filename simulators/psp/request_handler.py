"""Where the merchant's calls arrive, whatever wire they came by: plays the faults, then leaves money to the ledger.

It decides nothing about money. An answer goes out only after the ledger has committed it. Faults and latency befall the
merchant's calls alone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts import Account, Declines, Ledger, Request
from simulators.psp.faults import Faults, InjectedFault
from simulators.psp.settings import Settings
from simulators.psp.writer import Writer

#: A call that is never answered is given up after this, so that nothing stays for ever; callers give up long before.
HANG_S = 60.0


class Unavailable(Exception):
    """The provider failed, before or after the effect: the caller can't know which."""


class TooMany(Exception):
    """One call too many; it had no effect."""


class Desk:
    """Takes calls for a ledger."""

    def __init__(self, ledger: Ledger, writer: Writer, clock_ms: Callable[[], int], behaviour: pb.Behaviour) -> None:
        self.ledger = ledger
        self._writer = writer
        self._clock_ms = clock_ms
        self.faults = Faults(behaviour, random.getrandbits(63))
        self.behave(behaviour)

    @property
    def now_ms(self) -> int:
        """The provider's time, in milliseconds since the epoch."""
        return self._clock_ms()

    def behave(self, behaviour: pb.Behaviour) -> None:
        """Behaves so from now on."""
        self.faults.behave(behaviour)
        self.ledger.hold_life_ms = behaviour.hold_life_ms
        self.ledger.declines = Declines(
            frozenset(behaviour.decline_methods),
            frozenset(behaviour.decline_amounts_minor),
            behaviour.decline_above_minor,
        )

    async def call(self, request: Request, *, effect: bool = True) -> pb.CallResult:
        """One of the merchant's calls. Raises Refusal, Unavailable, TooMany."""
        fate = await self.inject(request.key, effect=effect)
        result = await self.submit(request)
        await self.befall_after(fate)
        return result

    async def inject(self, key: str, *, effect: bool = True) -> InjectedFault:
        """What befalls a call before its effect."""
        fate = self.faults.draw(key, self._clock_ms(), effect=effect)
        if fate.limited:
            raise TooMany("too many calls")
        await _take(fate.before_ms)
        if fate.hang_before:
            await asyncio.sleep(HANG_S)
        if fate.hang_before or fate.fail_before:
            raise Unavailable("failed before the effect")
        return fate

    async def befall_after(self, fate: InjectedFault) -> None:
        """What befalls it afterwards."""
        await _take(fate.after_ms)
        if fate.hang_after:
            await asyncio.sleep(HANG_S)
        if fate.hang_after or fate.fail_after:
            raise Unavailable("failed after the effect")

    async def submit(self, request: Request) -> pb.CallResult:
        """Makes a call, unharmed. Raises Refusal."""
        return await self._writer.submit(request)

    async def account(self, hold: str) -> Account:
        """What the books say of a hold and the calls about it. Raises NotFound."""
        return await self._writer.ask(lambda: self.ledger.account(hold))


async def _take(latency_ms: float) -> None:
    if latency_ms > 0:
        await asyncio.sleep(latency_ms / 1000)


def behaviour_of(settings: Settings) -> pb.Behaviour:
    """How the settings say that it behaves."""
    return pb.Behaviour(
        latency_min_ms=settings.latency_min_ms,
        latency_max_ms=settings.latency_max_ms,
        latency=pb.LATENCY_LOGNORMAL if settings.latency == "lognormal" else pb.LATENCY_UNIFORM,
        latency_median_ms=settings.latency_median_ms,
        latency_sigma_per_mille=settings.latency_sigma_per_mille,
        hold_life_ms=settings.hold_life_ms,
        fail_before_per_mille=settings.fail_before_per_mille,
        fail_after_per_mille=settings.fail_after_per_mille,
        timeout_before_per_mille=settings.timeout_before_per_mille,
        timeout_after_per_mille=settings.timeout_after_per_mille,
        limited_per_mille=settings.limited_per_mille,
        most_calls_per_s=settings.most_calls_per_s,
        notify_twice_per_mille=settings.notify_twice_per_mille,
        notify_late_per_mille=settings.notify_late_per_mille,
        notify_late_ms=settings.notify_late_ms,
        notify_shuffle_ms=settings.notify_shuffle_ms,
        decline_methods=settings.decline_methods,
        decline_amounts_minor=settings.decline_amounts_minor,
        decline_above_minor=settings.decline_above_minor,
        seed=settings.seed,
        notify_own=settings.notify_own,
    )
