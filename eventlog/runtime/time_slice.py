"""Cooperative scheduling of long work on the event loop."""

from __future__ import annotations

import asyncio
import time

#: Seconds of work before the loop gets a turn.
SLICE_S = 0.001
#: Longest time that the loop gets, in seconds, while other tasks are busy. The turn that crosses it is completed.
OTHERS_S = 0.005
#: A turn shorter than this, in seconds, ran no other task.
IDLE_S = 0.000_05


class TimeSlice:
    """The time that a piece of work may run before it yields to the event loop.

    A gRPC call takes about twelve turns of the loop. With one turn between long slices, it would wait for twelve
    slices, so `yield_to_loop` gives as many turns as other tasks use.
    """

    __slots__ = ("_until", "yielded_s")

    def __init__(self) -> None:
        #: Seconds that the event loop got from this work so far.
        self.yielded_s = 0.0
        self._until = time.perf_counter() + SLICE_S

    def expired(self) -> bool:
        """Whether the work should call `yield_to_loop`."""
        return time.perf_counter() >= self._until

    async def yield_to_loop(self) -> None:
        """Yields to the loop until a turn is idle, OTHERS_S at most, and starts the next slice."""
        began = now = time.perf_counter()
        turn_s = OTHERS_S
        while turn_s > IDLE_S and now - began < OTHERS_S:
            await asyncio.sleep(0)
            turn_s, now = time.perf_counter() - now, time.perf_counter()
        self.yielded_s += now - began
        self._until = now + SLICE_S
