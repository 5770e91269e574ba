"""The retry policy of the contract: how a gRPC client repeats a call that ended with UNAVAILABLE.

A killed service is back within 4 s, and answers UNAVAILABLE until it has recovered. While nobody listens, a call waits
for the connection (`waitForReady`) and uses up no attempt. Answers of UNAVAILABLE use up attempts: gRPC allows five at
most, so their pauses have to add up to more than these 4 s, even if the jitter shortens each of them.
"""

from __future__ import annotations

from typing import Any, Final

#: Seconds within which a killed service answers again.
RESTART_S: Final = 4.0
#: gRPC treats a greater number as 5.
MAX_ATTEMPTS: Final = 5
#: Seconds before the second attempt, the factor of each further pause, and the longest pause in seconds.
INITIAL_S: Final = 0.25
MULTIPLIER: Final = 2.5
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
