"""Lanes: each partition has its own queue, so a partition whose output is stuck does not delay the others.

A lane handles the batches of its partition one after the other and acknowledges them in that order. Lanes take turns:
the next one starts when a lane is done, or after PATIENCE_S, from when both run concurrently. The consumer limits the
batches of each partition that are in lanes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple

#: Seconds that other partitions wait for the one that is being handled.
PATIENCE_S = 0.5


class Handled(NamedTuple):
    """A batch whose outputs are in flight, and the function that acknowledges it."""

    ack: Callable[[], Any]
    outputs: Sequence[Awaitable[Any]]


Work = Callable[[Any], Coroutine[Any, Any, Handled | None]]
Acknowledge = Callable[["asyncio.Queue[Handled]"], Coroutine[Any, Any, None]]


class Lane:
    """The queue of one partition, and the tasks that handle and acknowledge its batches."""

    def __init__(self, name: str, work: Work, acknowledge: Acknowledge) -> None:
        """`work` handles one event; `acknowledge` consumes a queue until cancelled. Neither raises an error."""
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
        """Queues an event. If the lane was empty, waits until the event is handled, PATIENCE_S at most."""
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
        """Cancels the lane."""
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
