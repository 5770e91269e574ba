"""When which aggregate wants a nudge. A nudge only asks a decider to look at the log's time; it decides nothing.

A nudge is repeated, with pauses that grow from 1 s to 5 min, until the due time changes: so a lost one costs
time only, and a clock that is wrong costs nudges only. Pure: the time is an argument.
"""

from __future__ import annotations

import heapq
from itertools import islice

FIRST_PAUSE_MS = 1_000
MAX_PAUSE_MS = 300_000
#: Stale entries of the heap, beside as many as there are timers, after which it is made anew.
_STALE = 64
#: Timers that are looked at to find the one in the middle.
_SAMPLE = 101
#: Milliseconds after its last acknowledgement for which the clock is good enough to nudge by.
FRESH_MS = 30_000
#: The same where nothing falls due within NEAR_MS: the broker's clock may have been set ahead meanwhile.
FRESH_ENOUGH_MS = 600_000
NEAR_MS = 120_000


class Timers:
    """Due times of a partition's aggregates, in milliseconds since the epoch."""

    __slots__ = ("_due", "_heap", "loaded_until_ms")

    def __init__(self, loaded_until_ms: int) -> None:
        #: What falls due later than this is not held here; its store knows it.
        self.loaded_until_ms = loaded_until_ms
        #: key -> (due, when to nudge next, nudges so far)
        self._due: dict[str, tuple[int, int, int]] = {}
        #: (when to nudge, key); entries that no longer match _due are dropped when they come up.
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._due)

    def set(self, key: str, due_ms: int | None) -> None:
        """Says when an aggregate is due now. An unchanged due time keeps its pauses."""
        known = self._due.get(key)
        if due_ms is None or due_ms > self.loaded_until_ms:
            if known is not None:
                del self._due[key]
            return
        if known is None or known[0] != due_ms:
            self._due[key] = (due_ms, due_ms, 0)
            heapq.heappush(self._heap, (due_ms, key))
            if len(self._heap) > 2 * len(self._due) + _STALE:
                self._make_heap()

    def _make_heap(self) -> None:
        self._heap = [(when, key) for key, (_, when, _) in self._due.items()]
        heapq.heapify(self._heap)

    def shed(self) -> None:
        """Lets go of the half that falls due last, about; its store knows it."""
        sample = sorted(islice((due for due, _, _ in self._due.values()), 0, None, max(len(self._due) // _SAMPLE, 1)))
        middle = sample[len(sample) // 2]
        if middle < self.loaded_until_ms:
            self.loaded_until_ms = middle
            self._due = {key: timer for key, timer in self._due.items() if timer[0] <= middle}
            self._make_heap()

    def add(self, key: str, due_ms: int) -> None:
        """Says when an aggregate was due when it was kept; what is known already is newer."""
        if key not in self._due:
            self._due[key] = (due_ms, due_ms, 0)
            heapq.heappush(self._heap, (due_ms, key))

    def earliest(self) -> int | None:
        """When the next nudge is to be sent; None: there is nothing to wait for."""
        first = self.first()
        return None if first is None else self._due[first[0]][1]

    def first(self) -> tuple[str, int] | None:
        """The key to be nudged next, and its due time."""
        while self._heap:
            when, key = self._heap[0]
            known = self._due.get(key)
            if known is not None and known[1] == when:
                return key, known[0]
            heapq.heappop(self._heap)
        return None

    def pop_due(self, now_ms: int, limit: int) -> list[tuple[str, int]]:
        """Keys to nudge now, at most `limit`, each with its due time; each is scheduled again after its pause."""
        found: list[tuple[str, int]] = []
        while len(found) < limit:
            when = self.earliest()
            if when is None or when > now_ms:
                break
            _, key = heapq.heappop(self._heap)
            due, _, timers_to_fire = self._due[key]
            again = max(now_ms, due) + min(FIRST_PAUSE_MS << min(timers_to_fire, 20), MAX_PAUSE_MS)
            self._due[key] = (due, again, timers_to_fire + 1)
            heapq.heappush(self._heap, (again, key))
            found.append((key, due))
        return found


class BrokerClock:
    """An estimate of the broker's clock from the times it stamps on records. For nudges only."""

    __slots__ = ("_fresh_at", "_offset")

    def __init__(self) -> None:
        self._offset: int | None = None
        self._fresh_at: int | None = None

    def acknowledged(self, timestamp_ms: int, monotonic_ms: int) -> None:
        """The broker has just stamped a record of ours: the best there is, also when its clock was set back."""
        self._offset = timestamp_ms - monotonic_ms
        self._fresh_at = monotonic_ms

    def seen(self, timestamp_ms: int, monotonic_ms: int) -> None:
        """A record was read that was stamped at some time in the past: a lower bound, used until we know better."""
        if self._fresh_at is None:
            offset = timestamp_ms - monotonic_ms
            self._offset = offset if self._offset is None else max(self._offset, offset)

    def now(self, monotonic_ms: int) -> int | None:
        """The broker's time, or None before anything is known."""
        return None if self._offset is None else monotonic_ms + self._offset

    @property
    def heard(self) -> bool:
        """Whether the broker has acknowledged something, so that more than a lower bound is known."""
        return self._fresh_at is not None

    def must_ask(self, due_ms: int, monotonic_ms: int) -> bool:
        """Whether the broker is to be asked for its time, by a tick, before anything is nudged by it.

        `due_ms` is when the next nudge is due. A process that has just begun knows no time, or only a lower bound.
        """
        if self._fresh_at is None or self._offset is None:
            return True
        age_ms = monotonic_ms - self._fresh_at
        if 0 <= age_ms <= FRESH_MS:
            return False
        return not 0 <= age_ms <= FRESH_ENOUGH_MS or due_ms <= monotonic_ms + self._offset + NEAR_MS
