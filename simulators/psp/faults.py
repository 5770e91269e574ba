"""What befalls each call: how long it takes, whether it fails, hangs, or is one too many. Sans I/O, without a clock.

The draw for a call follows from the seed, the call's key and how often that key was sent, and from nothing else: calls
that race each other in another order meet the same faults. Must never touch money.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from hashlib import blake2b
from statistics import NormalDist

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

_UNIT = 1 << 64
_NORMAL = NormalDist()
#: Keys whose sends are counted. Beyond that counting begins anew, so that memory stays flat.
MAX_KEYS = 100_000


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """What befalls one call. Of the faults at most one before and one after the effect is true."""

    before_ms: float = 0.0
    after_ms: float = 0.0
    limited: bool = False
    hang_before: bool = False
    fail_before: bool = False
    hang_after: bool = False
    fail_after: bool = False


UNHARMED = InjectedFault()


class Faults:
    """Draws fates by a Behaviour."""

    def __init__(self, behaviour: pb.Behaviour, fallback_seed: int) -> None:
        """`fallback_seed` is used where the behaviour names none."""
        self._fallback_seed = fallback_seed
        self._sends: dict[str, int] = {}
        self._second = self._in_second = 0
        self.behave(behaviour)

    def behave(self, behaviour: pb.Behaviour) -> None:
        """Behaves so from now on. A named seed begins its draws anew."""
        self.behaviour = behaviour
        self._seed = str(behaviour.seed or self._fallback_seed)
        self._sends.clear()
        shares = (
            behaviour.fail_before_per_mille,
            behaviour.fail_after_per_mille,
            behaviour.timeout_before_per_mille,
            behaviour.timeout_after_per_mille,
            behaviour.limited_per_mille,
            behaviour.latency_max_ms,
        )
        self._harmless = not any(shares)

    def draw(self, key: str, at_ms: int, *, effect: bool = True) -> InjectedFault:
        """What befalls this send of `key`. A call without effect can't fail after it."""
        if self._too_many(at_ms):
            return InjectedFault(limited=True)
        if self._harmless:
            return UNHARMED
        b = self.behaviour
        rolls = self._rolls(key)
        latency_ms = self._latency_ms(rolls[0])
        # Spent partly before and partly after the effect, so that a caller's deadline can cut off either.
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

    def notice_delays_ms(self, name: str) -> list[int]:
        """When the copies of a notification are sent, in milliseconds from now: one or two of them."""
        b = self.behaviour
        late, twice, first, second, *_ = _spread(f"{self._seed}/notice/{name}")
        base_ms = b.notify_late_ms if late * 1000 < b.notify_late_per_mille else 0
        delays = [base_ms + int(first * b.notify_shuffle_ms)]
        if twice * 1000 < b.notify_twice_per_mille:
            delays.append(base_ms + int(second * b.notify_shuffle_ms))
        return delays

    def _too_many(self, at_ms: int) -> bool:
        second = at_ms // 1000
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += 1
        return 0 < self.behaviour.most_calls_per_s < self._in_second

    def _rolls(self, key: str) -> list[float]:
        if len(self._sends) >= MAX_KEYS:
            self._sends.clear()
        sends = self._sends[key] = self._sends.get(key, 0) + 1
        return _spread(f"{self._seed}/{key}/{sends}")

    def _latency_ms(self, roll: float) -> float:
        b = self.behaviour
        if b.latency != pb.LATENCY_LOGNORMAL:
            return b.latency_min_ms + roll * (b.latency_max_ms - b.latency_min_ms)
        if not b.latency_median_ms:
            return b.latency_min_ms
        normal = _NORMAL.inv_cdf(min(max(roll, 1e-9), 1 - 1e-9))
        drawn_ms = b.latency_median_ms * math.exp(normal * b.latency_sigma_per_mille / 1000)
        return min(max(drawn_ms, b.latency_min_ms), b.latency_max_ms)


def _spread(text: str) -> list[float]:
    """Eight numbers in [0, 1) that follow from a text."""
    digest = blake2b(text.encode()).digest()
    return [int.from_bytes(digest[at : at + 8], "big") / _UNIT for at in range(0, 64, 8)]
