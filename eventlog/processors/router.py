"""The router: a sequencer that changes the key. It carries what a decision says about another aggregate to that one.

A mapper returns any number of records for a decision, each with the key of its target aggregate, and the router appends
each to the partition of that key. An input offset is committed after the outputs on all partitions are acknowledged.

**Ordering lemma.** For one source partition and one target key, the first appearances in the target's partition are in
the order of the decisions' causes, whichever processes routed them, however often they crashed, repeated or overlapped.

Proof. A decider writes the decisions of a partition in the order of their causes, beginning after a state that holds
all earlier ones; so the first appearances in the decision log have ascending causes. A router reads the log in order
and begins at a committed offset c. Everything before c is acknowledged in its target partition. From c on it appends to
each target partition in source order, through one idempotent producer, which drops no batch and swaps none: a batch
that fails ends the process. So before a router appends a record, each record before it for that partition is there
already or was appended by the same router: a record that appears for the first time is later in the source than every
record that appeared before it.

A target therefore needs one number for each source partition to drop every repeat, of the router and of the decision
log alike: the greatest cause that it has seen. Nothing is assumed about the order between different source partitions
or different target keys. Ticks are not routed: each decider fires its own timers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any

from faust.types import TP

from eventlog.consuming.decision_chain import Chains
from eventlog.consuming.router_start import router_start
from eventlog.consuming.start_policy import StartPolicy
from eventlog.core.errors import Poisoned
from eventlog.core.partitioner import partition_of
from eventlog.core.route_mapper import Routed, RouteMapper, RouteMappers
from eventlog.processors.base import Batch, Connection, Processor
from eventlog.producing.batch_output import Output
from eventlog.records.envelope import headers_of_copy
from eventlog.records.topic_spec import TopicSpec
from eventlog.runtime import failpoints
from eventlog.runtime.time_slice import TimeSlice


class Router(Processor):
    """Routes the decisions of `sources` to the topics that the mappers name."""

    start_policy: StartPolicy = staticmethod(router_start)

    def __init__(self, group: str, sources: Sequence[TopicSpec], mappers: RouteMappers, connection: Connection) -> None:
        self._mappers = mappers
        self._chains = Chains(connection.kafka)
        super().__init__(group, [source.name for source in sources], connection)
        #: Records appended to other keys so far.
        self.routed = 0

    @property
    def ready(self) -> bool:
        """Whether decisions are read in this epoch; there is no state to recover."""
        return self.resumed

    async def handle(self, batch: Batch) -> Sequence[Awaitable[Any]] | None:
        """Routes a batch of decisions. Quarantines the partition of a record that can't be mapped."""
        if batch.epoch != self.epoch:
            return None
        mapper = self._mappers.for_partition(batch.topic, batch.partition)
        tp = TP(batch.topic, batch.partition)
        chain = await self._chains.begin(batch.epoch, tp, batch.records[0].offset, mapper.decode)
        if batch.epoch != self.epoch:
            return None
        outputs = _Outputs(self.producer, self.partitions)
        slices = TimeSlice()
        written: list[Awaitable[Any]] = []
        for count, record in enumerate(batch.records):
            try:
                routes = self._map(mapper, record, batch.partition)
                if not chain.follows(record, mapper.decision):
                    continue
                chain.remember(record)
            except Exception as error:  # noqa: BLE001 - deterministic: a retry would fail the same way
                if self.is_skipped(batch.topic, batch.partition, record):
                    continue
                place = batch.topic, batch.partition, record.offset
                self.quarantine(Poisoned.for_record(*place, record.value, repr(error)))
                break
            if routes:
                self.routed += len(routes)
                headers = headers_of_copy(record.headers)
                for route in routes:
                    outputs.append(route, headers)
            if not count & 31 and slices.expired():
                written += await outputs.send(full=True)
                await slices.yield_to_loop()
        written += await outputs.send()
        return written

    def _map(self, mapper: RouteMapper, record: Any, partition: int) -> Sequence[Routed]:
        if record.key is None or record.value is None:
            raise ValueError("it has no key or no value")
        key = record.key.decode()
        if partition_of(key, self.partitions) != partition:
            raise ValueError(f"its key {key!r} belongs to another partition")
        return mapper.routes(record)


class _Outputs:
    """One output for each target partition that a batch writes to."""

    __slots__ = ("_by_target", "_partitions", "_producer")

    def __init__(self, producer: Any, partitions: int) -> None:
        self._producer = producer
        self._partitions = partitions
        self._by_target: dict[tuple[str, int], Output] = {}

    def append(self, route: Routed, headers: Any) -> None:
        """Appends a record to the partition of its key."""
        target = route.topic, partition_of(route.key, self._partitions)
        output = self._by_target.get(target)
        if output is None:
            output = self._by_target[target] = Output(self._producer, *target)
        output.append(route.key.encode(), route.value, headers)

    async def send(self, *, full: bool = False) -> list[Awaitable[Any]]:
        """Sends what was appended; with `full`, only whole producer batches. See Output.send."""
        sent: list[Awaitable[Any]] = []
        for output in self._by_target.values():
            sent += await output.send(full=full)
            if failpoints.armed:
                failpoints.passed("output sent, not acknowledged")
        return sent
