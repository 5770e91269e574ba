"""Leaves a provider alone that is down: the state machine that says whether it may be asked. Pure: time is a parameter.

| state | is asked | goes to |
|-|-|-|
| CLOSED | always | OPEN, after a run of failures that is long in number and in time |
| OPEN | never | HALF_OPEN, once its pause is over |
| HALF_OPEN | by one call at a time | CLOSED when that succeeds; OPEN, for twice as long, when it fails |

A share of failing calls must never open it, however large, as long as others succeed: what is unknown is looked up, and
no healthy provider may be given up. Hence a run, which any success ends, and not a rate.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass


class State(enum.Enum):
    """Whether the provider is asked."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Rules:
    """When to stop asking, and for how long. A pause is drawn between `1 - jitter` and 1 of its length."""

    #: A run of so many failures …
    failures: int = 10
    #: … over so many seconds without any success opens it: calls that ran into one time-out together are no outage.
    patience_s: float = 2.0
    first_pause_s: float = 1.0
    longest_pause_s: float = 15.0
    jitter: float = 0.5
    #: The one call of HALF_OPEN that reports nothing for so long was lost: another one may try.
    probe_s: float = 30.0


class Breaker:
    """One provider's. Times are seconds of any steady clock."""

    def __init__(self, name: str = "", rules: Rules | None = None, chance: Callable[[], float] = random.random) -> None:
        """`name` is the provider's, for logs; `chance` draws from [0, 1)."""
        self.name = name
        self._rules = rules or Rules()
        self._chance = chance
        self.state = State.CLOSED
        self._failures = 0
        self._failing_since_s = 0.0
        #: How often it opened without a success in between.
        self._openings = 0
        self._until_s = 0.0

    def allows(self, now_s: float) -> bool:
        """Whether a call may be made now. One that is allowed must report `succeeded` or `failed`."""
        if self.state is State.CLOSED:
            return True
        if now_s < self._until_s:
            return False
        # The pause is over, or the call that was to try is lost.
        self.state = State.HALF_OPEN
        self._until_s = now_s + self._rules.probe_s
        return True

    def wait_s(self, now_s: float) -> float:
        """How long a call that was not allowed should wait; what waits together doesn't come back together."""
        left_s = max(self._until_s - now_s, 0.0) if self.state is State.OPEN else self._rules.first_pause_s
        return left_s + self._rules.first_pause_s * self._chance()

    def succeeded(self) -> bool:
        """The provider answered a call. True: so it is asked again.

        Late answers to calls from before it opened prove nothing.
        """
        if self.state is State.OPEN:
            return False
        closes = self.state is State.HALF_OPEN
        self.state = State.CLOSED
        self._failures = self._openings = 0
        return closes

    def failed(self, now_s: float) -> bool:
        """A call got no answer, or one that says that the provider is not well. True: so it is left alone now."""
        if self.state is State.OPEN:
            return False
        if self.state is State.HALF_OPEN:
            self._open(now_s)
            return False
        if not self._failures:
            self._failing_since_s = now_s
        self._failures += 1
        long_enough = now_s - self._failing_since_s >= self._rules.patience_s
        if self._failures < self._rules.failures or not long_enough:
            return False
        self._open(now_s)
        return True

    def _open(self, now_s: float) -> None:
        rules = self._rules
        # Beyond thirty doublings nothing grows any more.
        pause_s = min(rules.first_pause_s * 2 ** min(self._openings, 30), rules.longest_pause_s)
        self._openings += 1
        self.state = State.OPEN
        self._until_s = now_s + pause_s * (1 - rules.jitter * self._chance())
