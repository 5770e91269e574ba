"""The view of a processor's state that callers read, for a decider as for a projection."""

from __future__ import annotations

from typing import Protocol, TypeVar

from eventlog.views.change_notifier import ChangeNotifier

T_co = TypeVar("T_co", covariant=True)


class View(Protocol[T_co]):
    """State by key. Read-only, and for the event loop's thread only."""

    @property
    def notifier(self) -> ChangeNotifier:
        """Notifies subscribers of a key when its state changes."""
        ...

    def get(self, key: str) -> T_co | None:
        """The state of a key, or None. Raises NotReady during recovery, or if another process owns the partition."""
        ...
