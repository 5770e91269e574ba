"""Until when a member of a group can know that its partitions are nobody else's: reads are answered only until then.

The group's coordinator gives the partitions of a member to others when it has heard nothing of it for the session
time-out. So what a request of ours has renewed lasts for that long, counted from when we sent it; after that others may
have decided more, whether we were told or not: this process may have been frozen, or cut off. Must never count from an
answer: it may have waited for us to wake.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from aiokafka import errors
from aiokafka.protocol.group import HeartbeatRequest, SyncGroupRequest

#: Answers, by request, with which the coordinator has begun to count anew. A group that rebalances hears its members.
_RENEWED = {
    HeartbeatRequest: {errors.NoError.errno, errors.RebalanceInProgressError.errno},
    SyncGroupRequest: {errors.NoError.errno},
}
#: Answers that say that the group has gone on without us.
_UNKNOWN = {errors.IllegalGenerationError.errno, errors.UnknownMemberIdError.errno}


#: Seconds of a clock that goes on while the process is stopped, and on Linux while the machine sleeps. Every read asks.
awake_or_not_s = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Lease:
    """Renewed on the consumer's thread, asked for on any."""

    def __init__(self, clock: Callable[[], float] = awake_or_not_s) -> None:
        """`clock` in seconds."""
        self._clock = clock
        self._until = -math.inf

    @property
    def holds(self) -> bool:
        """Whether what was assigned to us can be nobody else's yet."""
        return self._clock() < self._until

    def keep(self, coordinator: Any) -> None:
        """Follows what an aiokafka coordinator is told."""
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
