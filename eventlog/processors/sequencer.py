"""The sequencer: copies facts of several topics into one inbox, partition by partition, so that there is one sequence.

It copies bytes without building objects from them: a fact is wrapped by putting a tag and a length before it. What
can't be decoded is dead-lettered with its origin, counted, and rejected in the open where that can be said. A record
that fails in any other way quarantines its partition.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from faust.types import TP

from eventlog.consuming.decision_chain import Chain, Chains
from eventlog.consuming.resume import sequencer_start
from eventlog.consuming.start_policy import StartPolicy, log_unhandled_record
from eventlog.core.aggregate import DecisionMessage
from eventlog.core.errors import Poisoned
from eventlog.core.partitioner import partition_of
from eventlog.processors.base import Batch, Connection, Processor
from eventlog.processors.time_slice import TimeSlice
from eventlog.producing.batch_output import Output, RecordTooLarge
from eventlog.records.dead_letters import Undecodable, send_to_dlq
from eventlog.records.topic_spec import TopicSpec, dead_letter_name

#: Keys of one partition that were checked and are remembered.
KEYS_REMEMBERED = 32_768


class DependencyUnavailable(Exception):
    """A record can't be wrapped before something beside it is known: that is to be learned, and it is to be wrapped
    again."""


class RecordMapper(ABC):
    """How the records of one batch are copied. `learn` and `reject` are for those that need them."""

    #: Whether they come from a decision log. It has no strangers: what can't be copied stops the partition, where the
    #: records of other topics are dead-lettered.
    from_decision_log = False
    #: The decision that was wrapped last, where they come from a decision log.
    decision: DecisionMessage | None = None

    @staticmethod
    def decode(value: bytes, /) -> DecisionMessage:
        """A decision, where they come from a decision log."""
        raise NotImplementedError

    @abstractmethod
    def map_record(self, record: Any) -> bytes | None:
        """Value of the inbox record for a fact; None where it holds nothing that the inbox's reader heeds.

        What this build does not know must be copied: it is for the reader to stop at it. Raises Undecodable, and
        Missing, but never again of what was learned in vain.
        """

    async def load_dependency(self, missing: DependencyUnavailable) -> None:
        """Learns what was missing, or that it does not exist."""
        raise missing

    def reject(self, record: Any, error: str) -> bytes | None:
        """Value of an inbox record that says that a fact could not be read; None when nobody waits for it, and the
        dead letter is the alarm."""
        return None


class InboxMapper(Protocol):
    """What a domain fills in."""

    def for_partition(self, topic: str, partition: int) -> RecordMapper:
        """How the records of a batch of this partition are copied."""
        ...


class Sequencer(Processor):
    """Copies `sources` into `inbox`."""

    def __init__(
        self, group: str, sources: Sequence[TopicSpec], inbox: TopicSpec, copying: InboxMapper, connection: Connection
    ) -> None:
        self._inbox = inbox
        self._mapper = copying
        self._chains = Chains(connection.kafka)
        super().__init__(group, [source.name for source in sources], connection)
        self._dead_letter = {source.name: dead_letter_name(source.name, inbox.writer) for source in sources}
        #: Records dead-lettered by this process, by topic.
        self.dead_letters: dict[str, int] = {}
        #: Keys that belong to each partition, of those met so far.
        self._keys: dict[int, set[bytes]] = {}
        #: Called after each batch with the number of its records, those that were not copied included.
        self.on_copied: Callable[[int], None] | None = None

    @property
    def start_policy(self) -> StartPolicy:  # type: ignore[override]
        """The committed offset, but never beyond what the inbox shows."""
        return sequencer_start(self.connection.kafka, self._inbox.name, self._mapper)

    @property
    def ready(self) -> bool:
        """It has no state to be read: whether facts flow in this epoch."""
        return self.resumed

    async def handle(  # noqa: PLR0912 - one loop for speed
        self, batch: Batch
    ) -> Sequence[Awaitable[Any]] | None:
        """Copies a partition batch."""
        if batch.epoch != self.epoch:
            return None
        copying = self._mapper.for_partition(batch.topic, batch.partition)
        output = Output(self.producer, self._inbox.name, batch.partition, raises=True)
        dead = Output(self.producer, self._dead_letter[batch.topic], batch.partition)
        map_record, append = copying.map_record, output.append
        slices = TimeSlice()
        written: list[Awaitable[Any]] = []
        tp = TP(batch.topic, batch.partition)
        claim = _Claim(tp, self.app.consumer.committed_at_start(tp) or 0)
        keys = self._keys.setdefault(batch.partition, set())
        chain: Chain | None = None
        if copying.from_decision_log:
            chain = await self._chains.begin(batch.epoch, tp, batch.records[0].offset, copying.decode)
            if batch.epoch != self.epoch:
                return None
        for count, record in enumerate(batch.records):
            try:
                if record.key not in keys:
                    _check_key(record.key, batch.partition, self.partitions)
                    _remember(keys, record.key)
                wrapped = map_record(record)
                if chain is not None and not _is_next(chain, copying, record):
                    continue
                if wrapped is not None:
                    if record.offset < claim.offset:
                        claim.refute(record.offset)
                    append(record.key, wrapped, record.headers)
            except Exception as error:  # noqa: BLE001 - each kind is told apart below
                if isinstance(error, DependencyUnavailable):
                    await copying.load_dependency(error)
                    if batch.epoch != self.epoch:
                        return None
                try:
                    self._copy_otherwise(copying, batch, record, output, dead, error, claim)
                except Poisoned as poisoned:
                    self.quarantine(poisoned)
                    break
            if not count & 31 and slices.expired():
                written += await output.send(full=True)
                await slices.yield_to_loop()
        written += await output.send()
        written += await dead.send()
        if self.on_copied is not None:
            self.on_copied(len(batch.records))
        return written

    def _copy_otherwise(
        self,
        copying: RecordMapper,
        batch: Batch,
        record: Any,
        output: Output,
        dead: Output,
        error: Exception,
        claim: _Claim,
    ) -> None:
        """Copies a record that could not be copied at once, or what stands for it. Raises Poisoned if neither works.

        A record before the claimed offset that is not rejected in the inbox was buried before.
        """
        try:
            try:
                if not isinstance(error, DependencyUnavailable):
                    raise error
                wrapped = copying.map_record(record)
                if wrapped is not None:
                    claim.refute(record.offset)
                    output.append(record.key, wrapped, record.headers)
            except (Undecodable, RecordTooLarge) as undecodable:
                if self.is_skipped(batch.topic, batch.partition, record):
                    return
                if copying.from_decision_log:
                    raise
                rejected = copying.reject(record, str(undecodable))
                if rejected is not None or record.offset >= claim.offset:
                    send_to_dlq(dead, self.dead_letters, batch.topic, batch.partition, record, str(undecodable))
                if rejected is not None:
                    claim.refute(record.offset)
                    _append_rejection(output, record, rejected)
        except Exception as unreadable:
            if self.is_skipped(batch.topic, batch.partition, record):
                return
            place = batch.topic, batch.partition, record.offset
            raise Poisoned.for_record(*place, record.value, repr(unreadable)) from unreadable


class _Claim:
    """The committed offset of a partition, where it claims more than the inbox shows; 0: it does not."""

    __slots__ = ("_tp", "offset")

    def __init__(self, tp: TP, offset: int) -> None:
        self._tp = tp
        self.offset = offset

    def refute(self, offset: int) -> None:
        """Tells once of a record before the committed offset that is copied only now: it had no copy in the inbox."""
        if offset < self.offset:
            log_unhandled_record(self._tp, self.offset, offset, "has no copy in the inbox")
            self.offset = 0


def _is_next(chain: Chain, copying: RecordMapper, record: Any) -> bool:
    """Whether a decision follows the one before it; False for a repeat. Raises BrokenChain."""
    assert copying.decision is not None
    following = chain.follows(record, copying.decision)
    if following:
        chain.take(record)
    return following


def _check_key(key: bytes | None, partition: int, partitions: int) -> None:
    """Raises Undecodable where a copy would stand in an inbox whose decider does not own the key."""
    if key is None:
        raise Undecodable("it has no key")
    try:
        right = partition_of(key.decode(), partitions) if partitions else partition
    except UnicodeDecodeError as error:
        raise Undecodable(f"its key is {error!r}") from error
    if right != partition:
        raise Undecodable(f"its key {key!r} belongs to partition {right}")


def _remember(keys: set[bytes], key: bytes) -> None:
    if len(keys) >= KEYS_REMEMBERED:
        keys.clear()
    keys.add(key)


def _append_rejection(output: Output, record: Any, rejected: bytes) -> None:
    """Appends the rejection of a record, without the record's headers if these are too large."""
    try:
        output.append(record.key, rejected, record.headers)
    except RecordTooLarge:
        output.append(record.key, rejected, [])
