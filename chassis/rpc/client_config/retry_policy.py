"""The retry policy of the contract: how a gRPC client repeats a call that ended with UNAVAILABLE.

A killed service is back within 4 s. Until then nobody listens, or it answers UNAVAILABLE: both end an attempt. gRPC
allows five attempts at most. Their pauses add up to 6 s even if the jitter shortens each of them: a channel with
gRPC's own back-off connects about 1, 2.6 and 5.2 s after the first refusal. Calls do not wait for the connection
(`waitForReady`): a wrong address or certificate would only be known at the deadline, and without its reason.
"""

from __future__ import annotations

from typing import Any, Final

#: Seconds within which a killed service answers again.
RESTART_S: Final = 4.0
#: gRPC treats a greater number as 5.
MAX_ATTEMPTS: Final = 5
#: Seconds before the second attempt, the factor of each further pause, and the longest pause in seconds.
INITIAL_S: Final = 0.5
MULTIPLIER: Final = 2.0
MAX_S: Final = 4.0
#: gRPC draws each pause from this part below it to this part above it.
JITTER: Final = 0.2


def pause_s(attempt: int) -> float:
    """Seconds after an attempt that failed, the first being 1, without jitter."""
    return min(INITIAL_S * MULTIPLIER ** (attempt - 1), MAX_S)


def longest_pause_s(attempt: int) -> float:
    """As `pause_s`, with the jitter that makes it longest."""
    return pause_s(attempt) * (1 + JITTER)


def bridged_s() -> float:
    """The shortest time from the first attempt to the last one, in seconds."""
    return sum(pause_s(attempt) for attempt in range(1, MAX_ATTEMPTS)) * (1 - JITTER)


def retry_policy() -> dict[str, Any]:
    """The `retryPolicy` of a service config."""
    return {
        "maxAttempts": MAX_ATTEMPTS,
        "initialBackoff": f"{INITIAL_S:g}s",
        "maxBackoff": f"{MAX_S:g}s",
        "backoffMultiplier": MULTIPLIER,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
