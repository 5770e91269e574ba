"""Fan-out of one key's changes to thousands of watchers, which share each serialised message.

A change wakes the watchers in batches, and the event loop runs in between: no decision or call waits until the last of
ten thousand watchers was written to.

Used on the event loop's thread only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from chassis.rpc.streaming.key_members import KeyMembers
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


class Fanout:
    """The watchers of all keys, woken by one `notifier`."""

    def __init__(self, notifier: ChangeNotifier) -> None:
        self._watchers: KeyMembers[Subscription, None] = KeyMembers(notifier, _wake, WAKE_BATCH)

    @contextmanager
    def follow(self, key: str) -> Iterator[Subscription]:
        """A subscription to one key for the block."""
        mine = Subscription()
        self._watchers.enter(key, mine, None)
        try:
            yield mine
        finally:
            self._watchers.leave(key, mine)

    def __len__(self) -> int:
        return len(self._watchers)


def _wake(subscription: Subscription, _: None) -> None:
    subscription.set()
