"""Handles the merchant's calls of all wires: injects faults and latency, and applies the call to the account book.

A result is returned only after the account book has committed it. The test's own calls (confirm, statement, configure)
bypass fault injection.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TypeVar

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.account_book import Account, AccountBook, Request
from simulators.psp.accounts.group_commit import GroupCommit
from simulators.psp.accounts.holds import Declines
from simulators.psp.accounts.life_rules import LifeRules
from simulators.psp.accounts.provider_life import ProviderLife
from simulators.psp.fault_injection import FaultInjector, InjectedFault
from simulators.psp.settings import Settings

T = TypeVar("T")

#: Seconds after which a hanging call fails, so that it does not stay for ever. Callers give up long before.
HANG_S = 60.0
#: Seconds between looks at the incidents that are due.
POLL_INTERVAL_S = 0.05


class Unavailable(Exception):
    """The call failed before or after its effect; the caller can't tell which."""


class RateLimited(Exception):
    """The call was rejected by a rate limit and had no effect. `retry_after_s` 0: none was configured."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("too many calls")
        self.retry_after_s = retry_after_s


class RequestHandler:
    """Handles calls to one account book."""

    def __init__(
        self, book: AccountBook, group_commit: GroupCommit, clock_ms: Callable[[], int], behaviour: pb.Behaviour
    ) -> None:
        self.book = book
        self._group_commit = group_commit
        self._clock_ms = clock_ms
        #: For the thread that writes the book: see `run`.
        self.life = ProviderLife(book)
        self.faults = FaultInjector(behaviour, random.getrandbits(63))
        self.configure(behaviour)

    @property
    def now_ms(self) -> int:
        """The provider's time, in milliseconds since the epoch."""
        return self._clock_ms()

    def configure(self, behaviour: pb.Behaviour) -> None:
        """Replaces the configured behaviour."""
        self.faults.configure(behaviour)
        self.book.hold_life_ms = behaviour.hold_life_ms
        self.book.consequences.rules = LifeRules(behaviour, self.faults.seed)
        self.book.declines = Declines(
            frozenset(behaviour.decline_methods),
            frozenset(behaviour.decline_amounts_minor),
            behaviour.decline_above_minor,
        )

    async def call(self, request: Request, *, effect: bool = True) -> pb.CallResult:
        """Makes one of the merchant's calls with injected faults. Raises Refusal, Unavailable, RateLimited."""
        fault = await self.inject_before(request.key, effect=effect)
        result = await self.submit(request)
        await self.inject_after(fault)
        return result

    async def inject_before(self, key: str, *, effect: bool = True) -> InjectedFault:
        """Draws the fault of a call and injects its part before the effect. Raises Unavailable, RateLimited."""
        fault = self.faults.draw(key, self._clock_ms(), effect=effect)
        if fault.limited:
            raise RateLimited(self.faults.behaviour.retry_after_s)
        await _delay(fault.before_ms)
        if fault.hang_before:
            await asyncio.sleep(HANG_S)
        if fault.hang_before or fault.fail_before:
            raise Unavailable("failed before the effect")
        return fault

    async def inject_after(self, fault: InjectedFault) -> None:
        """Injects the part of a fault after the effect. Raises Unavailable."""
        await _delay(fault.after_ms)
        if fault.hang_after:
            await asyncio.sleep(HANG_S)
        if fault.hang_after or fault.fail_after:
            raise Unavailable("failed after the effect")

    async def submit(self, request: Request) -> pb.CallResult:
        """Makes a call without faults. Raises Refusal."""
        return await self._group_commit.submit(request)

    async def run(self, work: Callable[[], T]) -> T:
        """Runs work on the account book between two transactions, in the writing thread."""
        return await self._group_commit.run(work)

    async def live(self) -> None:
        """Carries out the provider's incidents as they become due, until cancelled."""
        while True:
            while self.life.due(self._clock_ms()):
                await self.run(self.life.advance)
            await asyncio.sleep(POLL_INTERVAL_S)

    async def account(self, hold: str) -> Account:
        """A hold and its calls. Raises NotFound."""
        return await self._group_commit.run(lambda: self.book.account(hold))


async def _delay(latency_ms: float) -> None:
    if latency_ms > 0:
        await asyncio.sleep(latency_ms / 1000)


def behaviour_of(settings: Settings) -> pb.Behaviour:
    """The behaviour that the settings configure."""
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
        refund_refuse_per_mille=settings.refund_refuse_per_mille,
        refund_fail_per_mille=settings.refund_fail_per_mille,
        refund_reverse_per_mille=settings.refund_reverse_per_mille,
        refund_undo_ms=settings.refund_undo_ms,
        dispute_per_mille=settings.dispute_per_mille,
        dispute_win_per_mille=settings.dispute_win_per_mille,
        dispute_ms=settings.dispute_ms,
        dispute_close_ms=settings.dispute_close_ms,
        fraud_warning_per_mille=settings.fraud_warning_per_mille,
        key_life_ms=settings.key_life_ms,
        search_lag_ms=settings.search_lag_ms,
        minimum_amounts=settings.minimum_amounts,
        single_use_methods=settings.single_use_methods,
        notify_twice_ms=settings.notify_twice_ms,
        notify_reverse_ms=settings.notify_reverse_ms,
        retry_after_s=settings.retry_after_s,
        fee_per_mille=settings.fee_per_mille,
        fee_fixed_minor=settings.fee_fixed_minor,
        dispute_fee_minor=settings.dispute_fee_minor,
        payout_every_ms=settings.payout_every_ms,
        keep_balance=settings.keep_balance,
        bills_of_today=settings.bills_of_today,
    )
