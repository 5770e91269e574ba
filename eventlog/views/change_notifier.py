"""Wakes those who wait for a key to change. Notifications coalesce: a slow waiter costs one flag, never a queue.

Must only be used on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Subscription:
    """One waiter's flag."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = asyncio.Event()

    async def changed(self) -> None:
        """Returns once the key was notified since the last call, or since the watch began."""
        await self._event.wait()
        self._event.clear()

    def set(self) -> None:
        """Wakes the waiter."""
        self._event.set()


class ChangeNotifier:
    """All waiters, by key."""

    def __init__(self) -> None:
        self._by_key: dict[str, set[Subscription]] = {}

    @contextmanager
    def watch(self, key: str) -> Iterator[Subscription]:
        """A watch on one key for as long as the block lasts."""
        watch = Subscription()
        self._by_key.setdefault(key, set()).add(watch)
        try:
            yield watch
        finally:
            waiting = self._by_key[key]
            waiting.discard(watch)
            if not waiting:
                del self._by_key[key]

    def notify(self, key: str) -> None:
        """Wakes all who watch the key."""
        waiting = self._by_key.get(key)
        if waiting is not None:
            for watch in waiting:
                watch.set()

    def notify_all(self) -> None:
        """Wakes everybody, for instance when ownership changed."""
        for waiting in self._by_key.values():
            for watch in waiting:
                watch.set()

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._by_key.values())
