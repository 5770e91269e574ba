"""Calls that wait for a change of one group. A call is woken only when its own condition holds.

One task for each key evaluates the conditions of all waiting calls after a change. With 1,000 shoppers waiting for one
group, waking every call at each change would take 1,000 x 1,000 steps of tasks. Use it on the event loop's thread only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from chassis.rpc.streaming.key_members import KeyMembers
from eventlog.views.change_notifier import ChangeNotifier

T = TypeVar("T")

#: Conditions evaluated before a yield to the event loop: about 2 ms.
CHECKS_BATCH = 500


def _evaluate(future: asyncio.Future[Any], check: Callable[[], Any]) -> None:
    if future.done():
        return
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
        self._checks: KeyMembers[asyncio.Future[Any], Callable[[], Any]] = KeyMembers(notifier, _evaluate, CHECKS_BATCH)

    async def until(self, key: str, check: Callable[[], T | None], within_s: float) -> T:
        """Calls `check` now and after each change of the key until it returns a value. Raises TimeoutError, and the
        errors of `check`."""
        value = check()
        if value is not None:
            return value
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._checks.enter(key, future, check)
        try:
            async with asyncio.timeout(within_s):
                return await future
        finally:
            self._checks.leave(key, future)

    def __len__(self) -> int:
        return len(self._checks)
