"""Fan-out of one key's changes to thousands of watchers, which share each serialised message.

A change wakes the watchers in batches, and the event loop runs in between: no decision or call waits until the last of
ten thousand watchers was written to.

Used on the event loop's thread only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from eventlog.views.change_notifier import ChangeNotifier, Subscription

T = TypeVar("T")

#: Watchers woken in one turn of the event loop: about 5 ms of writing.
WAKE_BATCH = 100


class SharedMessage(Generic[T]):
    """A response that many calls send. The first one to send it serialises it."""

    __slots__ = ("_data", "message")

    def __init__(self, message: T) -> None:
        self.message = message
        self._data: bytes | None = None

    def data(self, serialise: Callable[[T], bytes]) -> bytes:
        """Returns the serialised message."""
        if self._data is None:
            self._data = serialise(self.message)
        return self._data


def shared_serialiser(serialise: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """A method's serialiser that also accepts SharedMessage."""

    def data(answer: Any) -> bytes:
        return answer.data(serialise) if type(answer) is SharedMessage else serialise(answer)

    return data


class _Followers:
    """The watchers of one key, and the task that wakes them."""

    def __init__(self, notifier: ChangeNotifier, key: str) -> None:
        # A dict keeps the order: the first to come is woken first.
        self.all: dict[Subscription, None] = {}
        self._watching = notifier.subscribe(key)
        # Subscribed here and not by the task, so that a change before the task first runs is not missed.
        self._task = asyncio.create_task(_wake(self._watching.__enter__(), self), name=f"fan-out of {key}")

    def close(self) -> None:
        """Ends the subscription and the task."""
        self._watching.__exit__(None, None, None)
        self._task.cancel()


class Fanout:
    """The watchers of all keys, woken by one `notifier`."""

    def __init__(self, notifier: ChangeNotifier) -> None:
        self._notifier = notifier
        self._by_key: dict[str, _Followers] = {}

    @contextmanager
    def follow(self, key: str) -> Iterator[Subscription]:
        """A subscription to one key for the block."""
        followers = self._by_key.get(key)
        if followers is None:
            followers = self._by_key[key] = _Followers(self._notifier, key)
        mine = Subscription()
        followers.all[mine] = None
        try:
            yield mine
        finally:
            del followers.all[mine]
            if not followers.all:
                del self._by_key[key]
                followers.close()

    def __len__(self) -> int:
        return sum(len(followers.all) for followers in self._by_key.values())


async def _wake(subscription: Subscription, followers: _Followers) -> None:
    while True:
        await subscription.changed()
        for number, one in enumerate(list(followers.all), 1):
            one.set()
            if number % WAKE_BATCH == 0:
                await asyncio.sleep(0)
