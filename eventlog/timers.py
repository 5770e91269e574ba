"""When which aggregate wants a nudge. A nudge only asks a decider to look at the log's time; it decides nothing.

A nudge is repeated, with pauses that grow from 1 s to 5 min, until the due time changes: so a lost one costs
time only, and a clock that is wrong costs nudges only. Pure: the time is an argument.
"""

from __future__ import annotations

import heapq

FIRST_PAUSE_MS = 1_000
LONGEST_PAUSE_MS = 300_000


class Timers:
    """Due times of a partition's aggregates, in milliseconds since the epoch."""

    __slots__ = ("_due", "_heap", "horizon_ms")

    def __init__(self, horizon_ms: int) -> None:
        #: What falls due later than this is not held here; its keeper knows it.
        self.horizon_ms = horizon_ms
        #: key -> (due, when to nudge next, nudges so far)
        self._due: dict[str, tuple[int, int, int]] = {}
        #: (when to nudge, key); entries that no longer match _due are dropped when they come up.
        self._heap: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._due)

    def set(self, key: str, due_ms: int | None) -> None:
        """Says when an aggregate is due now. An unchanged due time keeps its pauses."""
        known = self._due.get(key)
        if due_ms is None or due_ms > self.horizon_ms:
            if known is not None:
                del self._due[key]
            return
        if known is None or known[0] != due_ms:
            self._due[key] = (due_ms, due_ms, 0)
            heapq.heappush(self._heap, (due_ms, key))

    def add(self, key: str, due_ms: int) -> None:
        """Says when an aggregate was due when it was kept; what is known already is newer."""
        if key not in self._due:
            self._due[key] = (due_ms, due_ms, 0)
            heapq.heappush(self._heap, (due_ms, key))

    def earliest(self) -> int | None:
        """When the next nudge is to be sent; None: there is nothing to wait for."""
        while self._heap:
            when, key = self._heap[0]
            known = self._due.get(key)
            if known is not None and known[1] == when:
                return when
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
            due, _, nudges = self._due[key]
            again = max(now_ms, due) + min(FIRST_PAUSE_MS << min(nudges, 20), LONGEST_PAUSE_MS)
            self._due[key] = (due, again, nudges + 1)
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

    def age(self, monotonic_ms: int) -> int | None:
        """Milliseconds since the last acknowledgement; None: there was none."""
        return None if self._fresh_at is None else monotonic_ms - self._fresh_at
