"""The inputs that cause decisions: key and time of every record of the two inboxes.

The logs are read in parallel, so a decision can be read before its input. It then waits until the inbox has been read
up to its cause.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator

#: Folds a decision whose cause has been read.
Fold = Callable[[], None]


class InboxPartition:
    """The inputs of one partition of an inbox, by offset from the first one."""

    __slots__ = ("_keys", "_times", "_waiting", "begin")

    def __init__(self) -> None:
        #: The first offset. Greater than 0 if the inbox was trimmed.
        self.begin = 0
        self._keys: list[str] = []
        #: Milliseconds since the epoch; -1 for an offset without a record, such as a skipped one.
        self._times = array("q")
        self._waiting: deque[tuple[int, Fold]] = deque()

    @property
    def next(self) -> int:
        """The offset after the last input that was read."""
        return self.begin + len(self._times)

    def take(self, offset: int, key: str, at_ms: int) -> None:
        """Takes the next input. Offsets that are left out count as unknown."""
        if offset < self.next:
            return
        if gap := offset - self.next:
            self._times.extend([-1] * gap)
            self._keys.extend([""] * gap)
        self._times.append(at_ms)
        self._keys.append(key)

    def at_ms(self, cause: int, key: str) -> int | None:
        """The time of an input of a group; -1 if it is unknown, None if the input is of another group."""
        index = cause - self.begin
        if not 0 <= index < len(self._times) or self._times[index] < 0:
            return -1
        return self._times[index] if self._keys[index] == key else None

    def fold_after(self, cause: int, fold: Fold) -> None:
        """Calls `fold` now, or as soon as the cause and everything that already waits is folded."""
        if cause < self.next and not self._waiting:
            fold()
        else:
            self._waiting.append((cause, fold))

    def fold_ready(self) -> None:
        """Folds the decisions whose causes have been read, in the order of their log."""
        while self._waiting and self._waiting[0][0] < self.next:
            self._waiting.popleft()[1]()

    def waiting(self) -> Iterator[int]:
        """The causes of the decisions that wait."""
        return (cause for cause, _ in self._waiting)


class Causes:
    """The inboxes of an audit, by topic and partition."""

    def __init__(self) -> None:
        self.partitions: dict[tuple[str, int], InboxPartition] = {}

    def of(self, inbox: str, partition: int) -> InboxPartition:
        """One partition of an inbox."""
        found = self.partitions.get((inbox, partition))
        if found is None:
            found = self.partitions[inbox, partition] = InboxPartition()
        return found
