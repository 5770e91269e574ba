"""The processors of a simulated system, one partition each: the production's logic, driven step by step.

A step does what a Faust agent does between two awaits: it fetches and handles a batch, sends some output to the broker,
or commits. Between steps a process can crash, freeze, or lose its partition. Deciding, folding, mapping and calling the
provider are production code.
"""

from __future__ import annotations

from collections import deque
from hashlib import sha256
from random import Random
from typing import Any

from groupbuy.payments.v1.decisions_pb2 import ProviderCall

from eventlog.core.aggregate import Domain
from eventlog.core.effect_handler import EffectHandler
from eventlog.core.partition_state import PartitionState
from eventlog.core.timers import BrokerClock
from eventlog.records.codec import Codec
from shared_kernel import topics
from tests.simulation.world.broker import Broker, Headers, Record
from tests.simulation.world.checkpoints import Checkpoint, CheckpointStore, take

#: Numbers of records for one fetch or flush.
SIZES = (1, 1, 2, 3, 5, 8, 16, 40)
_SIZES = len(SIZES)
#: Timers of a partition in memory: few, so that they are loaded in portions.
TIMERS_IN_MEMORY = 2


class Batch:
    """A fetched batch. It can be committed once all its output is written."""

    __slots__ = ("end", "left", "topic")

    def __init__(self, topic: str, end: int) -> None:
        self.topic = topic
        self.end = end
        self.left = 0


class Out:
    """An output record in the producer's buffer."""

    __slots__ = ("batch", "headers", "key", "topic", "value")

    def __init__(self, batch: Batch, topic: str, key: bytes, value: bytes, headers: Headers = ()) -> None:
        self.batch = batch
        self.topic = topic
        self.key = key
        self.value = value
        self.headers = headers
        batch.left += 1


class Process:
    """One processor on one partition."""

    def __init__(self, broker: Broker, reader: str, sources: tuple[str, ...], partition: int, chance: Random) -> None:
        self.broker = broker
        self.reader = reader
        self.sources = sources
        self.partition = partition
        self.chance = chance
        self._random = chance.random
        #: False once the partition has another owner. The commits of a stale owner are ignored.
        self.current = True
        #: Remaining steps of a zombie after it woke; -1 if the process is no zombie.
        self.lives = -1
        #: Whether it makes no steps for a while, as a slow consumer.
        self.paused = False
        self.positions = {one: broker.committed.get((reader, one, partition), 0) for one in sources}
        self._logs = [(one, broker.logs[one, partition]) for one in sources]
        self.outbox: deque[Out] = deque()
        self.batches: deque[Batch] = deque()

    def unread(self) -> str | None:
        """A topic with unread records, a random one if there are two; None if there is none."""
        positions, found = self.positions, None
        for topic, log in self._logs:
            if positions[topic] < len(log) and (found is None or self._random() < 0.5):
                found = topic
        return found

    def step(self) -> bool:
        """Makes one step. Returns False if there is no work."""
        outbox = self.outbox
        if outbox and self._random() < 0.6:
            self.flush(self.size())
            return True
        topic = self.unread()
        if topic is not None:
            self.fetch(topic)
        elif not self.work():
            if outbox:
                self.flush(self.size())
            else:
                self.commit()
                return False
        elif self._random() < 0.2:
            self.commit()
        return True

    def size(self) -> int:
        """A random number of records for one fetch or flush."""
        return SIZES[int(self._random() * _SIZES)]

    def fetch(self, topic: str) -> None:
        """Fetches a batch and handles it."""
        position = self.positions[topic]
        records = self.broker.logs[topic, self.partition][position : position + self.size()]
        self.positions[topic] = position + len(records)
        batch = Batch(topic, position + len(records))
        self.batches.append(batch)
        self.handle(records, batch)

    def handle(self, records: list[Record], batch: Batch) -> None:
        """Processes fetched records."""
        raise NotImplementedError

    def work(self) -> bool:
        """Does work other than fetching. Returns False if there is none."""
        return False

    def target(self, out: Out) -> int:
        """The partition of an output record: the process's own, but for routers."""
        return self.partition

    def flush(self, count: int) -> None:
        """Writes up to `count` output records, which are acknowledged at once."""
        outbox, first, taken = self.outbox, -1, 0
        append, partition = self.broker.append, self.partition
        record: Record | None = None
        while outbox and taken < count:
            out = outbox.popleft()
            record = append(out.topic, partition, out.key, out.value, out.headers)
            out.batch.left -= 1
            first = record.offset if first < 0 else first
            taken += 1
        if record is not None:
            self.acknowledged(first, taken, record)

    def acknowledged(self, first: int, count: int, last: Record) -> None:
        """Called when output was appended, from offset `first` to the record `last`."""

    def commit(self) -> None:
        """Commits the completed batches, in their order."""
        while self.batches and self.batches[0].left == 0:
            batch = self.batches.popleft()
            if self.current:
                self.broker.commit(self.reader, batch.topic, self.partition, batch.end)


class DeciderProcess(Process):
    """Decides an inbox. It recovers from a checkpoint and the log, or from the log alone."""

    def __init__(
        self, broker: Broker, reader: str, partition: int, chance: Random,
        inbox: str, log: str, domain: Domain[Any], codec: Codec[Any], checkpoint: Checkpoint | None,
    ) -> None:  # fmt: skip
        super().__init__(broker, reader, (inbox,), partition, chance)
        self.inbox = inbox
        self.log = log
        #: Error of this process's monotonic clock in milliseconds. Only timers use that clock.
        self.clock_skew_ms = 0
        #: A new process has no estimate of the broker's time.
        self.clock = BrokerClock()
        self.states = CheckpointStore(checkpoint, codec)
        self.state: PartitionState[Any] = PartitionState(
            domain, partition, self.states, timers_in_memory=TIMERS_IN_MEMORY
        )
        self.recover(list(broker.logs[log, partition]))

    def recover(self, records: list[Record]) -> None:
        """Folds the log after the checkpoint."""
        state = self.state
        for record in records[state.applied + 1 :]:
            state.apply(record)
        end = len(self.broker.logs[self.inbox, self.partition])
        assert state.greatest_cause < end, "the inbox ends before the last decided input"
        state.next_input = self.positions[self.inbox]
        if state.last_folded_ms > 0:
            self.clock.on_read(state.last_folded_ms, self.monotonic_ms())

    def handle(self, records: list[Record], batch: Batch) -> None:
        state = self.state
        for record in state.undecided(records):
            decision = state.decide(record)
            state.next_input = record.offset + 1
            if decision is not None:
                assert record.key is not None
                self.outbox.append(Out(batch, self.log, record.key, decision))

    def acknowledged(self, first: int, count: int, last: Record) -> None:
        self.state.on_acknowledged(first, count, sha256(last.value or b"").digest())
        self.clock.on_acknowledged(last.timestamp, self.monotonic_ms())

    def checkpoint(self) -> Checkpoint | None:
        """A checkpoint, or None if there is unwritten output."""
        if self.outbox:
            return None
        return take(self.state, self.states, self.broker.logs[self.log, self.partition])

    # Timers -----------------------------------------------------------------------------------------------------

    def monotonic_ms(self) -> int:
        """This process's monotonic clock."""
        return self.broker.now_ms + self.clock_skew_ms

    def earliest_ms(self) -> int | None:
        """Milliseconds until the next timer fires, or None if there is no timer."""
        for _ in self.state.load_timers():
            continue
        return self.state.next_fire_in_ms(self.clock, self.monotonic_ms())

    def fire_timers(self, lost: bool) -> bool:
        """Appends ticks for the timers that fire now, unless the ticks are lost. Returns whether there were any."""
        keys = self.state.timers_to_fire(self.clock, self.monotonic_ms(), 500)
        if not lost:
            for key, due_ms in keys:
                tick = self.broker.append(self.inbox, self.partition, key.encode(), self.state.domain.tick(due_ms))
                self.clock.on_acknowledged(tick.timestamp, self.monotonic_ms())
        return bool(keys)


class EffectsProcess(Process):
    """Makes the calls that decisions request, one at a time for each lane."""

    def __init__(self, broker: Broker, partition: int, chance: Random, calling: EffectHandler[ProviderCall]) -> None:
        super().__init__(broker, topics.PAYMENTS_EFFECTS, (topics.PAYMENT_LOG.name,), partition, chance)
        self._calling = calling
        #: Queued calls, by lane.
        self.lanes: dict[str, deque[tuple[bytes, ProviderCall, Batch]]] = {}

    def handle(self, records: list[Record], batch: Batch) -> None:
        for record in records:
            assert record.key is not None
            for call in self._calling.effects_of(record):
                batch.left += 1
                self.lanes.setdefault(call.lane, deque()).append((record.key, call.call, batch))

    def work(self) -> bool:
        lanes = self.lanes
        if not lanes:
            return False
        lane = next(iter(lanes)) if len(lanes) == 1 or self.chance.random() < 0.5 else self.chance.choice(list(lanes))
        key, call, batch = lanes[lane].popleft()
        if not lanes[lane]:
            del lanes[lane]
        outcome = ended(self._calling.perform(key.decode(), call))
        out = Out(batch, topics.PAYMENT_INBOX.name, key, outcome.value)
        batch.left -= 1
        self.outbox.append(out)
        return True


def ended(work: Any) -> Any:
    """The result of a coroutine that never suspends."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the coroutine was suspended")
