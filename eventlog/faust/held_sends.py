"""Holds a producer's next request while the batches of a fetch are handled, so that their outputs share one request.

aiokafka sends a batch as soon as it has one, and one request at a time to each broker. So the first partition of a
fetch had a request of its own, and the outputs of the others waited for its response. A request costs a service a
quarter of a millisecond, and the broker as much, however few records it has.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

#: Seconds from the fetch until a request is held no longer: about the time of a request.
MAX_S = 0.003


class HeldSends:
    """The requests of one processor's producer. Used on the event loop's thread only."""

    def __init__(self) -> None:
        #: Parts of the fetch that are not handled yet: its delivery, and its batches. A batch of the fetch before may
        #: count as one of these; then a request is sent earlier.
        self._left = 0
        self._until = 0.0
        self._held: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        #: The accumulator's own signal of a new batch, and the one that the sender waits for.
        self._arrival: asyncio.Future[None] | None = None
        self._signal: asyncio.Future[None] | None = None

    def begin_fetch(self) -> None:
        """Begins the delivery of a fetch. Ends with a call of `end`."""
        self._left = 1
        self._until = time.monotonic() + MAX_S

    def begin_batch(self) -> None:
        """Adds a delivered batch. Ends with a call of `end`."""
        self._left += 1

    def end(self) -> None:
        """Ends the delivery, or a batch that is handled or dropped."""
        if self._left:
            self._left -= 1
            if not self._left:
                self._release()

    def attach(self, accumulator: Any) -> None:
        """Makes the sender of an aiokafka accumulator wait for `end`."""
        accumulator.waiter = partial(self._waiter, accumulator.waiter)

    def _waiter(self, original: Any) -> asyncio.Future[None]:
        """Replaces MessageAccumulator.waiter: completes when there is a batch that is not held."""
        arrival: asyncio.Future[None] = original()
        if arrival is not self._arrival or self._signal is None:
            signal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._arrival, self._signal = arrival, signal
            arrival.add_done_callback(partial(self._arrived, signal))
        return self._signal

    def _arrived(self, signal: asyncio.Future[None], _: object) -> None:
        left_s = self._until - time.monotonic() if self._left else 0.0
        if left_s <= 0:
            _resolve(signal)
            return
        self._held.append(signal)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(left_s, self._release)

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        held, self._held = self._held, []
        for signal in held:
            _resolve(signal)


def _resolve(signal: asyncio.Future[None]) -> None:
    if not signal.done():
        signal.set_result(None)
