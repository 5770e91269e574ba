"""The time until which no other member of the group can own this member's partitions. Reads are answered until then.

The group coordinator reassigns a member's partitions when it receives nothing from it for the session time-out. So a
renewal lasts that long from the moment the request was *sent*: the response may have waited while this process was
frozen. After that, another owner may have decided more without our knowledge.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from aiokafka import errors
from aiokafka.protocol.group import HeartbeatRequest, SyncGroupRequest

#: Error codes by request with which the coordinator has restarted the session time-out, also during a rebalance.
_RENEWED = {
    HeartbeatRequest: {errors.NoError.errno, errors.RebalanceInProgressError.errno},
    SyncGroupRequest: {errors.NoError.errno},
}
#: Error codes that mean that the group no longer has this member.
_UNKNOWN = {errors.IllegalGenerationError.errno, errors.UnknownMemberIdError.errno}


#: Seconds of a clock that runs while the process is stopped and, on Linux, while the machine sleeps.
boot_time_s = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Lease:
    """Renewed on the consumer's thread, read on any thread."""

    def __init__(self, clock: Callable[[], float] = boot_time_s) -> None:
        """`clock` in seconds."""
        self._clock = clock
        self._until = -math.inf

    @property
    def holds(self) -> bool:
        """Whether no other member can own our partitions yet."""
        return self._clock() < self._until

    @property
    def remaining_s(self) -> float:
        """Seconds for which it holds; 0 if it does not."""
        return max(self._until - self._clock(), 0.0)

    def observe(self, coordinator: Any) -> None:
        """Renews the lease from the responses to an aiokafka coordinator."""
        send = coordinator._send_req
        session_s = coordinator._session_timeout_ms / 1000

        async def send_req(request: Any) -> Any:
            sent = self._clock()
            answer = await send(request)
            if (renewed := _RENEWED.get(type(request))) is not None:
                if answer.error_code in renewed:
                    self._until = sent + session_s
                elif answer.error_code in _UNKNOWN:
                    self._until = -math.inf
            return answer

        coordinator._send_req = send_req
