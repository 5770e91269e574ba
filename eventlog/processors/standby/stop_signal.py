"""A stop signal that interrupts work in progress."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiokafka.errors import KafkaError

T = TypeVar("T")


class Stopped(Exception):
    """The signal was set."""


class StopSignal:
    """Set once; interrupts whatever runs under it."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def is_set(self) -> bool:
        """Whether `set` was called."""
        return self._event.is_set()

    def set(self) -> None:
        """Interrupts running work, and all work from now on."""
        self._event.set()

    async def sleep(self, seconds: float) -> None:
        """Sleeps, or returns early when the signal is set."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return

    async def run(self, work: Coroutine[Any, Any, T], seconds: float | None) -> T:
        """Runs work until it ends, the signal is set (raises Stopped), or so many seconds pass (raises TimeoutError).

        A CancelledError that the work raises by itself becomes a KafkaError: a client was closed below it.
        """
        loop = asyncio.get_running_loop()
        task, stopped = loop.create_task(work), loop.create_task(self._event.wait())
        try:
            await asyncio.wait([task, stopped], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done() and task.cancelled():
                raise KafkaError("a call was cancelled from inside")
            if task.done():
                return task.result()
            raise Stopped if self.is_set else TimeoutError
        finally:
            for one in (task, stopped):
                one.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)
