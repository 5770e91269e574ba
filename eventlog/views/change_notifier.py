"""Notification of changes by key. Notifications coalesce: a slow subscriber costs one flag instead of a queue.

Not thread-safe: use it on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Subscription:
    """One subscriber's flag for one key."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = asyncio.Event()

    async def changed(self) -> None:
        """Returns when the key has changed since the last call, or since the subscription began."""
        await self._event.wait()
        self._event.clear()

    def set(self) -> None:
        """Notifies the subscriber."""
        self._event.set()


class ChangeNotifier:
    """The subscriptions of all keys."""

    def __init__(self) -> None:
        self._by_key: dict[str, set[Subscription]] = {}

    @contextmanager
    def subscribe(self, key: str) -> Iterator[Subscription]:
        """A subscription to one key for the duration of a `with` block."""
        subscription = Subscription()
        self._by_key.setdefault(key, set()).add(subscription)
        try:
            yield subscription
        finally:
            subscriptions = self._by_key[key]
            subscriptions.discard(subscription)
            if not subscriptions:
                del self._by_key[key]

    def notify(self, key: str) -> None:
        """Notifies the subscribers of a key."""
        subscriptions = self._by_key.get(key)
        if subscriptions is not None:
            for subscription in subscriptions:
                subscription.set()

    def notify_all(self) -> None:
        """Notifies all subscribers, for instance when partitions have moved."""
        for subscriptions in self._by_key.values():
            for subscription in subscriptions:
                subscription.set()

    def __len__(self) -> int:
        return sum(len(subscriptions) for subscriptions in self._by_key.values())
