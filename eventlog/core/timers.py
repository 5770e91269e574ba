"""The timers of a partition, and an estimate of the broker's clock.

When a timer fires, the caller appends a tick to the inbox. A tick decides nothing: it makes the decider act on what is
due by the log's time. A timer fires again, after pauses that grow from 1 s to 5 min, until its due time changes. So a
lost tick costs only time, and a wrong clock costs only useless ticks. Pure: the time is an argument.
"""

from __future__ import annotations

import heapq
from itertools import islice

FIRST_PAUSE_MS = 1_000
MAX_PAUSE_MS = 300_000
#: The heap is rebuilt when it has more entries than twice the timers and this number.
_STALE = 64
#: Timers that are sampled to estimate the median due time.
_SAMPLE = 101
#: How long the clock is exact enough after an acknowledgement.
FRESH_MS = 30_000
#: The same if no timer is due within NEAR_MS. Beyond it, the broker's clock may have been set ahead meanwhile.
FRESH_IF_IDLE_MS = 600_000
NEAR_MS = 120_000


class Timers:
    """Due times of a partition's aggregates, in milliseconds since the epoch."""

    __slots__ = ("_due", "_heap", "_latest_ms", "loaded_until_ms")

    def __init__(self, loaded_until_ms: int) -> None:
        #: Timers due later than this are not held here, but in the index of the store.
        self.loaded_until_ms = loaded_until_ms
        #: key -> (due time, time of the next tick, ticks so far)
        self._due: dict[str, tuple[int, int, int]] = {}
        #: (time of the next tick, key). Entries that differ from `_due` are stale and dropped when they come first.
        self._heap: list[tuple[int, str]] = []
        #: Latest time that was passed to `set_now`.
        self._latest_ms = 0

    def __len__(self) -> int:
        return len(self._due)

    def schedule(self, key: str, due_ms: int | None) -> None:
        """Sets the due time of an aggregate, or removes it. The pauses of an unchanged due time continue."""
        known = self._due.get(key)
        if due_ms is None or due_ms > self.loaded_until_ms:
            if known is not None:
                del self._due[key]
            return
        if known is None or known[0] != due_ms:
            self._due[key] = (due_ms, due_ms, 0)
            heapq.heappush(self._heap, (due_ms, key))
            if len(self._heap) > 2 * len(self._due) + _STALE:
                self._rebuild_heap()

    def _rebuild_heap(self) -> None:
        self._heap = [(when, key) for key, (_, when, _) in self._due.items()]
        heapq.heapify(self._heap)

    def evict_later_half(self) -> None:
        """Evicts about half of the timers, those due last. The store's index has them."""
        sample = sorted(islice((due for due, _, _ in self._due.values()), 0, None, max(len(self._due) // _SAMPLE, 1)))
        median = sample[len(sample) // 2]
        if median < self.loaded_until_ms:
            self.loaded_until_ms = median
            self._due = {key: timer for key, timer in self._due.items() if timer[0] <= median}
            self._rebuild_heap()

    def load(self, key: str, due_ms: int) -> None:
        """Adds a timer from the store's index. A due time that is already known is newer and stays."""
        if key not in self._due:
            self._due[key] = (due_ms, due_ms, 0)
            heapq.heappush(self._heap, (due_ms, key))

    def set_now(self, now_ms: int) -> None:
        """Takes the broker's time. If it was set back, pauses that began before it end within MAX_PAUSE_MS again."""
        if self._latest_ms - now_ms <= MAX_PAUSE_MS:
            self._latest_ms = max(self._latest_ms, now_ms)
            return
        self._latest_ms = now_ms
        last_ms = now_ms + MAX_PAUSE_MS
        for key, (due, when, fired) in self._due.items():
            if fired and when > last_ms:
                self._due[key] = (due, max(due, now_ms + FIRST_PAUSE_MS), fired)
        self._rebuild_heap()

    def next_fire_ms(self) -> int | None:
        """When the next timer fires, or None if there is no timer."""
        first = self.first()
        return None if first is None else self._due[first[0]][1]

    def first(self) -> tuple[str, int] | None:
        """The key of the timer that fires next, and its due time."""
        while self._heap:
            when, key = self._heap[0]
            known = self._due.get(key)
            if known is not None and known[1] == when:
                return key, known[0]
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now_ms: int, limit: int) -> list[tuple[str, int]]:
        """At most `limit` keys whose timer fires now, each with its due time. Each timer fires again after a pause."""
        found: list[tuple[str, int]] = []
        while len(found) < limit:
            when = self.next_fire_ms()
            if when is None or when > now_ms:
                break
            _, key = heapq.heappop(self._heap)
            due, _, fired = self._due[key]
            again = max(now_ms, due) + min(FIRST_PAUSE_MS << min(fired, 20), MAX_PAUSE_MS)
            self._due[key] = (due, again, fired + 1)
            heapq.heappush(self._heap, (again, key))
            found.append((key, due))
        return found


class BrokerClock:
    """An estimate of the broker's clock from the timestamps of records. Used only to fire timers."""

    __slots__ = ("_acknowledged_at", "_offset")

    def __init__(self) -> None:
        #: The broker's time minus the monotonic time.
        self._offset: int | None = None
        #: Monotonic time of the last acknowledgement.
        self._acknowledged_at: int | None = None

    def on_acknowledged(self, timestamp_ms: int, monotonic_ms: int) -> None:
        """Sets the clock from a record that the broker has just acknowledged, backwards too."""
        self._offset = timestamp_ms - monotonic_ms
        self._acknowledged_at = monotonic_ms

    def on_read(self, timestamp_ms: int, monotonic_ms: int) -> None:
        """Takes the timestamp of a record from the log as a lower bound, until the first acknowledgement."""
        if self._acknowledged_at is None:
            offset = timestamp_ms - monotonic_ms
            self._offset = offset if self._offset is None else max(self._offset, offset)

    def now(self, monotonic_ms: int) -> int | None:
        """The broker's time, or a lower bound; None before the first record."""
        return None if self._offset is None else monotonic_ms + self._offset

    @property
    def was_acknowledged(self) -> bool:
        """Whether the clock was set from an acknowledgement, and so is more than a lower bound."""
        return self._acknowledged_at is not None

    def is_stale(self, due_ms: int, monotonic_ms: int) -> bool:
        """Whether a tick must be sent first, for its timestamp, before a timer can fire by this clock.

        `due_ms` is when the next timer fires.
        """
        if self._acknowledged_at is None or self._offset is None:
            return True
        age_ms = monotonic_ms - self._acknowledged_at
        if 0 <= age_ms <= FRESH_MS:
            return False
        return not 0 <= age_ms <= FRESH_IF_IDLE_MS or due_ms <= monotonic_ms + self._offset + NEAR_MS
