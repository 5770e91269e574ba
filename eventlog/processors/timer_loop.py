"""The timer loop of a decider: appends ticks to its inbox for the timers that fire."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from eventlog.core.aggregate import Domain
from eventlog.core.partition_state import PartitionState
from eventlog.core.timers import BrokerClock
from eventlog.faust.group.lease import boot_time_s
from eventlog.producing.batch_output import Output
from eventlog.records.envelope import headers
from eventlog.records.topic_spec import TopicSpec
from eventlog.runtime import failpoints
from eventlog.runtime.time_slice import TimeSlice

S = TypeVar("S")

#: Longest sleep of the loop, in seconds.
POLL_INTERVAL_S = 0.5
#: Shortest sleep of the loop, in seconds.
MIN_SLEEP_S = 0.005
#: Ticks appended to one partition at a time.
TICK_BATCH = 500


class TimerLoop(Generic[S]):
    """Fires the timers of one decider's partitions by the broker's clock."""

    def __init__(
        self,
        domain: Domain[S],
        inbox: TopicSpec,
        source: str,
        owned: Callable[[], Iterable[PartitionState[S]]],
        decides: Callable[[PartitionState[S]], bool],
        producer: Callable[[], Any],
    ) -> None:
        """`owned` returns the states of all partitions, `decides` whether inputs of a state are decided now.

        `source` is the CloudEvents source of the ticks.
        """
        self._domain = domain
        self._inbox = inbox
        self._source = source
        self._owned = owned
        self._decides = decides
        self._producer = producer
        self._clock = BrokerClock()
        self._wake = asyncio.Event()
        #: When the next tick of each partition is due, in milliseconds of the monotonic clock; None: no timer.
        self._due_at_ms: dict[int, int | None] = {}
        #: When the loop checks all timers again, in milliseconds of the monotonic clock; infinite while it checks them.
        self._sleeps_until_ms = math.inf

    def wake(self) -> None:
        """Makes the loop check the timers now: they may have changed."""
        self._wake.set()

    def decided(self, state: PartitionState[S]) -> None:
        """Makes the loop check the timers now if the next one of this state fires before the loop's next check.

        Call it after each batch that was decided on the state. A check of all partitions for each batch would take a
        twentieth of a decider's time at half load.
        """
        now_ms = _monotonic_ms()
        due_in_ms = state.next_fire_in_ms(self._clock, now_ms)
        if due_in_ms is None:
            return
        due_at_ms, known_ms = now_ms + due_in_ms, self._due_at_ms.get(state.partition)
        if known_ms is None or due_at_ms < known_ms:
            self._due_at_ms[state.partition] = due_at_ms
        if due_at_ms < self._sleeps_until_ms:
            self._wake.set()

    def on_read(self, timestamp_ms: int) -> None:
        """Advances the clock to the timestamp of a record that was read."""
        self._clock.on_read(timestamp_ms, _monotonic_ms())

    def on_acknowledged(self, timestamp_ms: int) -> None:
        """Sets the clock to the timestamp of a record that was just acknowledged; the broker has none if it is <= 0."""
        if timestamp_ms > 0:
            self._clock.on_acknowledged(timestamp_ms, _monotonic_ms())

    def late_s(self, partitions: Iterable[int]) -> float:
        """Seconds that the next tick of these partitions is overdue; 0: none is. May be called on any thread."""
        due_at_ms = [self._due_at_ms.get(partition) for partition in partitions]
        first = min((due for due in due_at_ms if due is not None), default=None)
        return 0.0 if first is None else max(_monotonic_ms() - first, 0) / 1000

    async def run(self) -> None:
        """Fires timers until cancelled."""
        while True:
            self._wake.clear()
            self._sleeps_until_ms = math.inf
            wait_s = POLL_INTERVAL_S
            for state in self._owned():
                wait_s = min(wait_s, await self.fire_timers(state))
            wait_s = max(wait_s, MIN_SLEEP_S)
            self._sleeps_until_ms = _monotonic_ms() + wait_s * 1000
            try:
                await asyncio.wait_for(self._wake.wait(), wait_s)
            except TimeoutError:
                continue

    async def fire_timers(self, state: PartitionState[S]) -> float:
        """Appends ticks for the timers that fire now. Returns the seconds until the partition's next timer."""
        slices = TimeSlice()
        for _ in state.load_timers():
            if slices.expired():
                await slices.yield_to_loop()
        if not self._decides(state):
            return POLL_INTERVAL_S
        keys = state.timers_to_fire(self._clock, _monotonic_ms(), TICK_BATCH)
        if keys:
            output = Output(self._producer(), self._inbox.name, state.partition, self._ticked)
            for key, due_ms in keys:
                output.append(
                    key.encode(),
                    self._domain.tick(due_ms),
                    headers(f"{key}:tick:{due_ms}", self._inbox.type_name, self._source, due_ms),
                )
            if failpoints.armed:
                failpoints.passed("tick due, not sent")
            sent = await output.send()
            if failpoints.armed:
                failpoints.passed("tick sent, not acknowledged")
            for written in sent:
                await written
        now_ms = _monotonic_ms()
        due_in_ms = state.next_fire_in_ms(self._clock, now_ms)
        self._due_at_ms[state.partition] = None if due_in_ms is None else now_ms + due_in_ms
        # If even the tick's acknowledgement has not set the clock, the next tick waits for the poll interval.
        return POLL_INTERVAL_S if due_in_ms is None or not self._clock.was_acknowledged else due_in_ms / 1000

    def _ticked(self, first: int, count: int, timestamp_ms: int, mark: object) -> None:
        self.on_acknowledged(timestamp_ms)


def _monotonic_ms() -> int:
    # Includes the time while the machine is suspended, as the broker's clock does.
    return int(boot_time_s() * 1000)
