"""Partitions side by side: each has a lane, so that one whose output is stuck holds up no other.

A lane handles the batches of its partition one after the other and acknowledges them in that order. The next lane
begins when a lane is done, so the lanes of healthy partitions take turns as one queue would; a lane that takes longer
than PATIENCE_S goes on beside the others. The consumer bounds how many batches of a partition are in lanes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple

#: Seconds that other partitions wait for one that is being handled.
PATIENCE_S = 0.5


class Handled(NamedTuple):
    """A batch whose outputs are on their way, and the call that acknowledges it."""

    ack: Callable[[], Any]
    outputs: Sequence[Awaitable[Any]]


Work = Callable[[Any], Coroutine[Any, Any, Handled | None]]
Acknowledge = Callable[["asyncio.Queue[Handled]"], Coroutine[Any, Any, None]]


class Lane:
    """The queue of one partition."""

    def __init__(self, name: str, work: Work, acknowledge: Acknowledge) -> None:
        """`work` handles one event and `acknowledge` empties a queue for ever; both end the process at any error."""
        self._work = work
        self._events: asyncio.Queue[tuple[Any, asyncio.Future[None]]] = asyncio.Queue()
        self._handled: asyncio.Queue[Handled] = asyncio.Queue()
        self._left = 0
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._run(), name=f"{name}.handle"),
            loop.create_task(acknowledge(self._handled), name=f"{name}.acknowledge"),
        ]

    async def add(self, event: Any) -> None:
        """Queues an event, and waits until it is handled, but no longer than PATIENCE_S and not behind others."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        busy, self._left = self._left, self._left + 1
        self._events.put_nowait((event, done))
        if busy:
            return
        patience = loop.call_later(PATIENCE_S, _done, done)
        try:
            await done
        finally:
            patience.cancel()

    def close(self) -> None:
        """Ends the lane, whatever is in it."""
        for task in self._tasks:
            task.cancel()

    async def _run(self) -> None:
        while True:
            event, done = await self._events.get()
            handled = await self._work(event)
            if handled is not None:
                self._handled.put_nowait(handled)
            self._left -= 1
            _done(done)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
