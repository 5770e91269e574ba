"""What callers see of a processor's state, whatever keeps it: a decider's table or a projection."""

from __future__ import annotations

from typing import Protocol, TypeVar

from eventlog.views.change_notifier import ChangeNotifier

T_co = TypeVar("T_co", covariant=True)


class View(Protocol[T_co]):
    """State by key, on the event loop's thread. What it gives is read-only."""

    @property
    def watchers(self) -> ChangeNotifier:
        """Wakes who waits for a key."""
        ...

    def get(self, key: str) -> T_co | None:
        """State of a key, None if there is none. Raises NotReady while recovering, or when another process owns it."""
        ...
