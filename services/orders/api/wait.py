"""Calls that wait for a change of one group. A call is woken only when its own condition holds.

One task for each key evaluates the conditions of all waiting calls after a change. With 1,000 shoppers waiting for one
group, waking every call at each change would take 1,000 x 1,000 steps of tasks. Use it on the event loop's thread only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from eventlog.views.change_notifier import ChangeNotifier

T = TypeVar("T")

#: Conditions evaluated before a yield to the event loop: about 2 ms.
CHECKS_BATCH = 500


class _KeyWaiters:
    """The waiting calls of one key and the task that evaluates their conditions."""

    def __init__(self, notifier: ChangeNotifier, key: str) -> None:
        self.checks: dict[asyncio.Future[Any], Callable[[], Any]] = {}
        self._context = notifier.subscribe(key)
        # Subscribed here, not in the task: a change before the first step of the task is not missed.
        self._subscription = self._context.__enter__()
        self._task = asyncio.create_task(self._run(), name=f"waiting for {key}")

    def close(self) -> None:
        """Ends the subscription and the task."""
        self._context.__exit__(None, None, None)
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            await self._subscription.changed()
            for number, (future, check) in enumerate(list(self.checks.items()), 1):
                if not future.done():
                    _evaluate(future, check)
                if number % CHECKS_BATCH == 0:
                    await asyncio.sleep(0)


def _evaluate(future: asyncio.Future[Any], check: Callable[[], Any]) -> None:
    try:
        value = check()
    except Exception as error:  # noqa: BLE001 - raised in the waiting call
        future.set_exception(error)
    else:
        if value is not None:
            future.set_result(value)


class ViewWaiter:
    """Waiting calls, by key."""

    def __init__(self, notifier: ChangeNotifier) -> None:
        self._notifier = notifier
        self._by_key: dict[str, _KeyWaiters] = {}

    async def until(self, key: str, check: Callable[[], T | None], within_s: float) -> T:
        """Calls `check` now and after each change of the key until it returns a value. Raises TimeoutError, and the
        errors of `check`."""
        value = check()
        if value is not None:
            return value
        waiters = self._by_key.get(key)
        if waiters is None:
            waiters = self._by_key[key] = _KeyWaiters(self._notifier, key)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        waiters.checks[future] = check
        try:
            async with asyncio.timeout(within_s):
                return await future
        finally:
            del waiters.checks[future]
            if not waiters.checks:
                del self._by_key[key]
                waiters.close()

    def __len__(self) -> int:
        return sum(len(waiters.checks) for waiters in self._by_key.values())
