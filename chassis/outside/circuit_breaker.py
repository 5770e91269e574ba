"""Circuit breaker for one outside API: a state machine without I/O. Time is a parameter.

| state | calls allowed | next state |
|-|-|-|
| CLOSED | all | OPEN, after a run of failures that is long in number and in time |
| OPEN | none | HALF_OPEN, once its pause is over |
| HALF_OPEN | one at a time | CLOSED if that call succeeds; OPEN, for twice as long, if it fails |

The breaker counts consecutive failures, and any success ends the run. A failure rate would also open it for a healthy
API with some slow calls, whose results are looked up anyway.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass


class BreakerState(enum.Enum):
    """State of a circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, and for how long. Each pause is drawn between `1 - jitter` and 1 of its length."""

    #: Opens after this many consecutive failures …
    failures: int = 10
    #: … if they span this many seconds: calls that run into one time-out together are no outage.
    min_failing_s: float = 2.0
    first_pause_s: float = 1.0
    max_pause_s: float = 15.0
    jitter: float = 0.5
    #: Seconds after which the trial call of HALF_OPEN counts as lost and another one is allowed.
    trial_timeout_s: float = 30.0


class CircuitBreaker:
    """Breaker of one API. Times are seconds of any monotonic clock."""

    def __init__(
        self, name: str = "", policy: BreakerPolicy | None = None, chance: Callable[[], float] = random.random
    ) -> None:
        """`name` is the API's, for logs; `chance` draws from [0, 1)."""
        self.name = name
        self._policy = policy or BreakerPolicy()
        self._chance = chance
        self.state = BreakerState.CLOSED
        self._failures = 0
        self._failing_since_s = 0.0
        #: Consecutive openings without a success.
        self._openings = 0
        self._until_s = 0.0

    def allows(self, now_s: float) -> bool:
        """Whether a call may be made now. An allowed call reports `record_success` or `record_failure`."""
        if self.state is BreakerState.CLOSED:
            return True
        if now_s < self._until_s:
            return False
        # The pause is over, or the trial call is lost.
        self.state = BreakerState.HALF_OPEN
        self._until_s = now_s + self._policy.trial_timeout_s
        return True

    def wait_s(self, now_s: float) -> float:
        """Seconds that a rejected call should wait. Jitter spreads the retries of calls that wait together."""
        left_s = max(self._until_s - now_s, 0.0) if self.state is BreakerState.OPEN else self._policy.first_pause_s
        return left_s + self._policy.first_pause_s * self._chance()

    def record_success(self) -> bool:
        """Records an answered call. Returns True if it closed the breaker.

        While the breaker is OPEN, answers belong to calls from before it opened and are ignored.
        """
        if self.state is BreakerState.OPEN:
            return False
        closes = self.state is BreakerState.HALF_OPEN
        self.state = BreakerState.CLOSED
        self._failures = self._openings = 0
        return closes

    def record_failure(self, now_s: float) -> bool:
        """Records a call without an answer, or with one that reports an outage. Returns True if it opened the breaker.

        A failed trial call opens it again and returns False, so that an outage is logged once.
        """
        if self.state is BreakerState.OPEN:
            return False
        if self.state is BreakerState.HALF_OPEN:
            self._open(now_s)
            return False
        if not self._failures:
            self._failing_since_s = now_s
        self._failures += 1
        long_enough = now_s - self._failing_since_s >= self._policy.min_failing_s
        if self._failures < self._policy.failures or not long_enough:
            return False
        self._open(now_s)
        return True

    def _open(self, now_s: float) -> None:
        policy = self._policy
        # Thirty doublings exceed every pause, and keep the power small.
        pause_s = min(policy.first_pause_s * 2 ** min(self._openings, 30), policy.max_pause_s)
        self._openings += 1
        self.state = BreakerState.OPEN
        self._until_s = now_s + pause_s * (1 - policy.jitter * self._chance())
