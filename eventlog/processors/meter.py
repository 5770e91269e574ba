"""The counters of one processor, and its present state for those who read them.

Counts are plain numbers that the event loop's thread writes at batch grain. Present values are read from the parts of
the processor, on any thread, also while the event loop is stuck; `ProcessorMeter.gauges` copies what may change.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from eventlog.faust.progress import Progress, progress
from eventlog.runtime.counters import RECOVERY_S, Histogram

if TYPE_CHECKING:
    from eventlog.core.partition_state import PartitionState
    from eventlog.processors.base import Batch, Processor
    from eventlog.runtime.time_slice import TimeSlice

T = TypeVar("T")

#: Seconds between two checks of a recovery that is in progress.
POLL_INTERVAL_S = 0.1
#: Tries to copy a dictionary that the event loop's thread may change meanwhile.
COPIES = 5


#: The progress of a processor that has not started.
NOTHING = Progress(0, {}, 0.0, 0)


@dataclass(slots=True)
class Gauges:
    """Present values of one processor. Those of a processor that has not started are zero."""

    progress: Progress = NOTHING
    quarantined: int = 0
    recovering_s: float = 0.0
    lease_s: float = 0.0
    standby_partitions: int = 0
    standby_lag: int = 0


@dataclass(slots=True)
class DecideCounts:
    """Inbox records of a decider by outcome."""

    decided: int = 0
    #: Of the decided ones, those on which the rules raised an exception.
    faulted: int = 0
    nothing: int = 0
    #: Delivered again and not decided again.
    repeats: int = 0
    #: Seconds spent deciding.
    seconds: float = 0.0

    def begin(self, state: PartitionState[Any], slices: TimeSlice) -> DecideMeasure:
        """Begins to measure a batch that is decided on a state, in these slices."""
        return DecideMeasure(self, state, slices)


class DecideMeasure:
    """The measurement of one batch: reads what the state counts before and after."""

    __slots__ = ("_before", "_began", "_counts", "_slices", "_state", "waited_s")

    def __init__(self, counts: DecideCounts, state: PartitionState[Any], slices: TimeSlice) -> None:
        self._counts = counts
        self._state = state
        self._slices = slices
        self._before = state.next_input, state.decisions, state.faults
        #: Seconds in which the batch waited for the producer.
        self.waited_s = 0.0
        self._began = time.perf_counter()

    def end(self) -> None:
        """Adds the batch, or the part of it that was decided, to the counts."""
        state, counts = self._state, self._counts
        first, decisions, faults = self._before
        decided = state.decisions - decisions
        counts.decided += decided
        counts.faulted += state.faults - faults
        counts.nothing += state.next_input - first - decided
        counts.seconds += time.perf_counter() - self._began - self._slices.yielded_s - self.waited_s


class DeciderGauges(NamedTuple):
    """Present values of a decider."""

    checkpoint_age_s: float
    #: Changed aggregates that no checkpoint has.
    unsaved: int
    timers_late_s: float


class ProcessorMeter:
    """The counts of one processor since the start of the process."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        #: Records handled, by topic.
        self.handled: dict[str, int] = {}
        #: Records that recorded skips have passed over.
        self.skipped = 0
        #: Batches handled, and the seconds that they took.
        self.batches = 0
        self.batch_s = 0.0
        self.recovery_s = Histogram(RECOVERY_S)
        #: The app's consumer; None before the start. Only the main thread may create it.
        self._consumer: Any = None
        #: When the present epoch began, or None while its partitions are recovered.
        self._recovering_since: float | None = None
        self._epoch_began = asyncio.Event()

    def attach(self, consumer: Any) -> None:
        """Takes the consumer of a started app."""
        self._consumer = consumer

    def count_batch(self, batch: Batch, seconds: float) -> None:
        """Counts a handled batch."""
        count = len(batch.records)
        self.handled[batch.topic] = self.handled.get(batch.topic, 0) + count
        self.batches += 1
        self.batch_s += seconds

    def begin_epoch(self) -> None:
        """Starts the clock of a recovery: the assignment changes."""
        self._recovering_since = time.monotonic()
        self._epoch_began.set()

    async def watch_recoveries(self) -> None:
        """Measures each recovery from its assignment to the first answered read. Runs until cancelled."""
        processor = self._processor
        while True:
            await self._epoch_began.wait()
            self._epoch_began.clear()
            while True:
                await asyncio.sleep(POLL_INTERVAL_S)
                if processor.resumed and processor.ready:
                    break
            if self._recovering_since is not None and not self._epoch_began.is_set():
                self.recovery_s.observe(time.monotonic() - self._recovering_since)
                self._recovering_since = None

    def gauges(self) -> Gauges:
        """The present values. May be called on any thread."""
        consumer, processor = self._consumer, self._processor
        found = Gauges()
        if consumer is None:
            return found
        since = self._recovering_since
        found.recovering_s = 0.0 if since is None else time.monotonic() - since
        found.progress = copied(lambda: progress(consumer, processor.inputs))
        found.quarantined = len(processor.quarantined)
        found.lease_s = consumer.lease_remaining_s
        standby = processor.standby
        if standby is not None:
            behind = copied(lambda: standby.behind)
            found.standby_partitions, found.standby_lag = len(behind), sum(behind.values())
        return found


def copied(read: Callable[[], T]) -> T:
    """The result of `read`, which iterates over what another thread may change: then Python raises RuntimeError."""
    for _ in range(COPIES):
        try:
            return read()
        except RuntimeError:
            continue
    return read()
