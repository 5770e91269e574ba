"""Wakes thousands who watch one key without holding up everybody else, and lets them share what they are sent.

One change of a key wakes its followers in slices, and the event loop runs in between: a decision or a call never waits
until the last of ten thousand watchers has been written to. Must only be used on the event loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from eventlog.views.change_notifier import ChangeNotifier, Subscription

T = TypeVar("T")

#: Followers woken before the event loop does something else: about 5 ms of writing.
SLICE = 100


class Shared(Generic[T]):
    """An answer that many calls send. It is serialised once, whoever sends it first."""

    __slots__ = ("_data", "message")

    def __init__(self, message: T) -> None:
        self.message = message
        self._data: bytes | None = None

    def data(self, serialise: Callable[[T], bytes]) -> bytes:
        """Its bytes."""
        if self._data is None:
            self._data = serialise(self.message)
        return self._data


def serialising(serialise: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """A method's serialiser that knows shared answers."""

    def data(answer: Any) -> bytes:
        return answer.data(serialise) if type(answer) is Shared else serialise(answer)

    return data


class _Followers:
    """All who follow one key, and the task that wakes them."""

    def __init__(self, watchers: ChangeNotifier, key: str) -> None:
        # A dict keeps their order: who came first is woken first.
        self.all: dict[Subscription, None] = {}
        self._watching = watchers.watch(key)
        # Begun here and not by the task: what changes before the task first runs is not missed.
        self._task = asyncio.create_task(_wake(self._watching.__enter__(), self), name=f"fan-out of {key}")

    def close(self) -> None:
        """Nobody follows any more."""
        self._watching.__exit__(None, None, None)
        self._task.cancel()


class Fanout:
    """Followers by key, fed by `watchers`."""

    def __init__(self, watchers: ChangeNotifier) -> None:
        self._watchers = watchers
        self._by_key: dict[str, _Followers] = {}

    @contextmanager
    def follow(self, key: str) -> Iterator[Subscription]:
        """A watch on one key for as long as the block lasts."""
        followers = self._by_key.get(key)
        if followers is None:
            followers = self._by_key[key] = _Followers(self._watchers, key)
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


async def _wake(watch: Subscription, followers: _Followers) -> None:
    while True:
        await watch.changed()
        for number, one in enumerate(list(followers.all), 1):
            one.set()
            if number % SLICE == 0:
                await asyncio.sleep(0)
