"""Faults injected into calls: latency, failures, hanging calls, rate limits. Sans I/O, without a clock.

The draw for a call depends only on the seed, the call's key and how often that key was sent, so calls that race each
other meet the same faults in any order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import blake2b
from statistics import NormalDist

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

_UNIT = 1 << 64
_NORMAL = NormalDist()
#: Keys whose sends are counted. Above it, counting restarts, which bounds memory.
MAX_KEYS = 100_000


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """Faults of one call: at most one before its effect and one after it, besides latency."""

    before_ms: float = 0.0
    after_ms: float = 0.0
    limited: bool = False
    hang_before: bool = False
    fail_before: bool = False
    hang_after: bool = False
    fail_after: bool = False


NO_FAULT = InjectedFault()


class FaultInjector:
    """Draws faults as a Behaviour configures them."""

    def __init__(self, behaviour: pb.Behaviour, fallback_seed: int) -> None:
        """`fallback_seed` is used if the behaviour has no seed."""
        self._fallback_seed = fallback_seed
        self._sends: dict[str, int] = {}
        self._second = self._in_second = 0
        self.configure(behaviour)

    def configure(self, behaviour: pb.Behaviour) -> None:
        """Replaces the behaviour and restarts the draws of its seed."""
        self.behaviour = behaviour
        self._seed = str(behaviour.seed or self._fallback_seed)
        self._sends.clear()
        rates = (
            behaviour.fail_before_per_mille,
            behaviour.fail_after_per_mille,
            behaviour.timeout_before_per_mille,
            behaviour.timeout_after_per_mille,
            behaviour.limited_per_mille,
            behaviour.latency_max_ms,
        )
        self._harmless = not any(rates)

    def draw(self, key: str, at_ms: int, *, effect: bool = True) -> InjectedFault:
        """The fault of this send of `key`. A call without effect has no fault after it."""
        if self._rate_limited(at_ms):
            return InjectedFault(limited=True)
        if self._harmless:
            return NO_FAULT
        b = self.behaviour
        rolls = self._rolls(key)
        latency_ms = self._latency_ms(rolls[0])
        # Latency is split around the effect, so that a caller's deadline may expire before or after it.
        before_ms = latency_ms * rolls[1]
        before, after = rolls[2] * 1000, rolls[3] * 1000
        limited = rolls[4] * 1000 < b.limited_per_mille
        hangs_before = b.timeout_before_per_mille
        hangs_after = b.timeout_after_per_mille if effect else 0
        fails_after = b.fail_after_per_mille if effect else 0
        return InjectedFault(
            before_ms=before_ms,
            after_ms=latency_ms - before_ms,
            limited=limited,
            hang_before=before < hangs_before,
            fail_before=hangs_before <= before < hangs_before + b.fail_before_per_mille,
            hang_after=after < hangs_after,
            fail_after=hangs_after <= after < hangs_after + fails_after,
        )

    @property
    def seed(self) -> str:
        """The seed of the draws."""
        return self._seed

    def notice_delays_ms(self, name: str, at_ms: int = 0) -> list[int]:
        """Delays in milliseconds of the one or two copies of a notification of a change at a time."""
        b = self.behaviour
        late, twice, first, second, *_ = spread(f"{self._seed}/notice/{name}")
        base_ms = b.notify_late_ms if late * 1000 < b.notify_late_per_mille else 0
        if b.notify_reverse_ms:
            # The last change of a window is sent first, at the window's end.
            base_ms += 2 * (b.notify_reverse_ms - at_ms % b.notify_reverse_ms)
        delays = [base_ms + int(first * b.notify_shuffle_ms)]
        if twice * 1000 < b.notify_twice_per_mille:
            delays.append(base_ms + b.notify_twice_ms + int(second * b.notify_shuffle_ms))
        return delays

    def _rate_limited(self, at_ms: int) -> bool:
        second = at_ms // 1000
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += 1
        return 0 < self.behaviour.most_calls_per_s < self._in_second

    def _rolls(self, key: str) -> list[float]:
        if len(self._sends) >= MAX_KEYS:
            self._sends.clear()
        sends = self._sends[key] = self._sends.get(key, 0) + 1
        return spread(f"{self._seed}/{key}/{sends}")

    def _latency_ms(self, roll: float) -> float:
        b = self.behaviour
        if b.latency != pb.LATENCY_LOGNORMAL:
            return b.latency_min_ms + roll * (b.latency_max_ms - b.latency_min_ms)
        if not b.latency_median_ms:
            return b.latency_min_ms
        normal = _NORMAL.inv_cdf(min(max(roll, 1e-9), 1 - 1e-9))
        drawn_ms = b.latency_median_ms * math.exp(normal * b.latency_sigma_per_mille / 1000)
        return min(max(drawn_ms, b.latency_min_ms), b.latency_max_ms)


def spread(text: str) -> list[float]:
    """Eight numbers in [0, 1) derived from a text."""
    digest = blake2b(text.encode()).digest()
    return [int.from_bytes(digest[at : at + 8], "big") / _UNIT for at in range(0, 64, 8)]
