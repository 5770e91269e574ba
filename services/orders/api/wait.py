"""Many calls that wait for what becomes of orders of one group, woken only when there is what they wait for.

A change of a group looks at all that wait for it in one go, and wakes those whose wait is over: with a thousand
shoppers after one seat, waking everybody at each change would cost a thousand times a thousand steps of their tasks.
Must only be used on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from eventlog.views.change_notifier import ChangeNotifier

T = TypeVar("T")

#: Looks before the event loop does something else: about 2 ms of them.
SLICE = 500


class _Waiting:
    """All who wait for one key, and the task that looks in their place."""

    def __init__(self, watchers: ChangeNotifier, key: str) -> None:
        self.looks: dict[asyncio.Future[Any], Callable[[], Any]] = {}
        self._watching = watchers.watch(key)
        # Begun here and not by the task: what changes before the task first runs is not missed.
        self._watch = self._watching.__enter__()
        self._task = asyncio.create_task(self._run(), name=f"waiting for {key}")

    def close(self) -> None:
        """Nobody waits any more."""
        self._watching.__exit__(None, None, None)
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            await self._watch.changed()
            for number, (turn, look) in enumerate(list(self.looks.items()), 1):
                if not turn.done():
                    _look(turn, look)
                if number % SLICE == 0:
                    await asyncio.sleep(0)


def _look(turn: asyncio.Future[Any], look: Callable[[], Any]) -> None:
    try:
        found = look()
    except Exception as error:  # noqa: BLE001 - it is the waiting call's, and raised there
        turn.set_exception(error)
    else:
        if found is not None:
            turn.set_result(found)


class Awaiting:
    """Calls that wait, by key."""

    def __init__(self, watchers: ChangeNotifier) -> None:
        self._watchers = watchers
        self._by_key: dict[str, _Waiting] = {}

    async def until(self, key: str, look: Callable[[], T | None], within_s: float) -> T:
        """Looks now and after each change of the key, and returns the first thing found. Raises TimeoutError, and
        whatever `look` raises."""
        found = look()
        if found is not None:
            return found
        waiting = self._by_key.get(key)
        if waiting is None:
            waiting = self._by_key[key] = _Waiting(self._watchers, key)
        turn: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        waiting.looks[turn] = look
        try:
            async with asyncio.timeout(within_s):
                return await turn
        finally:
            del waiting.looks[turn]
            if not waiting.looks:
                del self._by_key[key]
                waiting.close()

    def __len__(self) -> int:
        return sum(len(waiting.looks) for waiting in self._by_key.values())
