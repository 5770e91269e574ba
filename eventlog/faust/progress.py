"""How far a consumer is behind its inputs, as it sees them itself. Reads on any thread, and changes nothing."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from aiokafka import TopicPartition
from faust.types import TP

from eventlog.runtime.wall_clock import wall_clock_ms

if TYPE_CHECKING:
    from eventlog.faust.consumer import BatchConsumer


class Progress(NamedTuple):
    """The input of one process in one group."""

    partitions: int
    #: Records that are not acknowledged, by topic.
    lag_records: dict[str, int]
    #: Age in seconds of the oldest record that is delivered and not acknowledged; 0: there is none.
    lag_s: float
    batches_in_flight: int


class Deliveries:
    """The batches in flight: delivered, and neither acknowledged nor dropped. Changed on the main thread."""

    def __init__(self) -> None:
        self._batches: dict[tuple[TP, int], tuple[int, int]] = {}

    def add(self, tp: TP, last: int, first_ms: int, records: int) -> None:
        """Adds a batch by its last offset, with the broker's time of its first record and the number of its records."""
        self._batches[tp, last] = first_ms, records

    def end(self, tp: TP, last: int) -> None:
        """Removes a batch."""
        self._batches.pop((tp, last), None)

    def clear(self) -> None:
        """Removes all batches."""
        self._batches.clear()

    def copy(self) -> dict[tuple[TP, int], tuple[int, int]]:
        """(time of the first record, number of records) by partition and last offset. Safe on any thread."""
        return self._batches.copy()


def progress(consumer: BatchConsumer, topics: Collection[str]) -> Progress:
    """The progress of a consumer in its input topics.

    An end is known from the fetches of this process: it is old while nothing is fetched, and unknown before the first.
    """
    tps = [tp for tp in consumer.assignment_now if tp.topic in topics]
    ends = _known_ends(consumer, tps)
    lag = dict.fromkeys(topics, 0)
    for tp in tps:
        delivered = consumer._next.get(tp)
        if delivered is not None:
            lag[tp.topic] += max(ends.get(tp, 0) - delivered, 0)
    in_flight = {key: value for key, value in consumer.deliveries.copy().items() if key[0].topic in lag}
    for (tp, _), (_, records) in in_flight.items():
        lag[tp.topic] += records
    oldest_ms = min((first_ms for first_ms, _ in in_flight.values()), default=None)
    lag_s = 0.0 if oldest_ms is None else max(wall_clock_ms() - oldest_ms, 0) / 1000
    return Progress(len({tp.partition for tp in tps}), lag, lag_s, len(in_flight))


def _known_ends(consumer: BatchConsumer, tps: Collection[TP]) -> dict[TP, int]:
    client = consumer._thread._consumer
    subscription = None if client is None else client._subscription.subscription
    assignment = None if subscription is None else subscription.assignment
    if assignment is None:
        return {}
    ends: dict[TP, int] = {}
    for tp in tps:
        # Only attributes: the client's own methods belong to its thread.
        state = assignment.state_value(TopicPartition(tp.topic, tp.partition))
        if state is not None and state.highwater is not None:
            ends[tp] = state.highwater
    return ends
