"""Members of keys, each served after every change of its key: watchers that are woken, conditions that are evaluated.

One task for each key serves its members in batches, and the event loop runs in between. Used on the event loop's thread
only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from eventlog.views.change_notifier import ChangeNotifier, Subscription

M = TypeVar("M")
V = TypeVar("V")


class KeyMembers(Generic[M, V]):
    """The members of all keys, each with a value."""

    def __init__(self, notifier: ChangeNotifier, serve: Callable[[M, V], None], batch: int) -> None:
        """`serve` is called after a change, and the event loop runs after every `batch` members."""
        self._notifier = notifier
        self._serve = serve
        self._batch = batch
        self._by_key: dict[str, _OneKey[M, V]] = {}

    def enter(self, key: str, member: M, value: V) -> None:
        """Adds a member."""
        one = self._by_key.get(key)
        if one is None:
            one = self._by_key[key] = _OneKey(self._notifier, key, self._serve, self._batch)
        one.members[member] = value

    def leave(self, key: str, member: M) -> None:
        """Removes a member; the last one ends the task of the key."""
        one = self._by_key[key]
        del one.members[member]
        if not one.members:
            del self._by_key[key]
            one.close()

    def __len__(self) -> int:
        return sum(len(one.members) for one in self._by_key.values())


class _OneKey(Generic[M, V]):
    def __init__(self, notifier: ChangeNotifier, key: str, serve: Callable[[M, V], None], batch: int) -> None:
        # A dict keeps the order: the first to come is served first.
        self.members: dict[M, V] = {}
        self._subscribed = notifier.subscribe(key)
        # Subscribed here and not by the task, so that a change before the task first runs is not missed.
        subscription = self._subscribed.__enter__()
        self._task = asyncio.create_task(_serve_all(subscription, self.members, serve, batch), name=f"changes of {key}")

    def close(self) -> None:
        """Ends the subscription and the task."""
        self._subscribed.__exit__(None, None, None)
        self._task.cancel()


async def _serve_all(
    subscription: Subscription, members: dict[M, V], serve: Callable[[M, V], None], batch: int
) -> None:
    while True:
        await subscription.changed()
        for number, (member, value) in enumerate(list(members.items()), 1):
            serve(member, value)
            if number % batch == 0:
                await asyncio.sleep(0)
