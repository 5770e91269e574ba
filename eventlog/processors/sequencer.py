"""The sequencer: copies records of several topics into one inbox, partition by partition, which puts them in sequence.

It copies bytes without building messages: a tag and a length are put before the record's value. A record that can't be
decoded is dead-lettered with its origin, counted, and, where a reader waits for it, rejected in the inbox. A record
that fails in any other way quarantines its partition.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from faust.types import TP

from eventlog.consuming.decision_chain import Chain, Chains
from eventlog.consuming.resume import sequencer_start
from eventlog.consuming.start_policy import StartPolicy, log_unhandled_record
from eventlog.core.errors import Poisoned
from eventlog.core.inbox_mapper import DependencyUnavailable, InboxMapper, RecordMapper
from eventlog.core.partitioner import partition_of
from eventlog.processors.base import Batch, Connection, Processor
from eventlog.producing.batch_output import Output, RecordTooLarge
from eventlog.records.dead_letters import Undecodable, send_to_dlq
from eventlog.records.envelope import headers_of_copy
from eventlog.records.topic_spec import TopicSpec, dead_letter_name
from eventlog.runtime.time_slice import TimeSlice

#: Keys of one partition that are remembered as checked.
MAX_KEYS_REMEMBERED = 32_768


class Sequencer(Processor):
    """Copies `sources` into `inbox`."""

    def __init__(
        self, group: str, sources: Sequence[TopicSpec], inbox: TopicSpec, mapper: InboxMapper, connection: Connection
    ) -> None:
        self._inbox = inbox
        self._mapper = mapper
        self._chains = Chains(connection.kafka)
        super().__init__(group, [source.name for source in sources], connection)
        self._dead_letter = {source.name: dead_letter_name(source.name, inbox.writer) for source in sources}
        #: Keys that were found to belong to each partition.
        self._keys: dict[int, set[bytes]] = {}
        #: Called after each batch with the number of its records, copied or not.
        self.on_copied: Callable[[int], None] | None = None

    @property
    def start_policy(self) -> StartPolicy:  # type: ignore[override]
        """The committed offset, or the offset after the newest copy in the inbox if that is lower."""
        return sequencer_start(self.connection.kafka, self._inbox.name, self._mapper)

    @property
    def ready(self) -> bool:
        """Whether records are read in this epoch; there is no state to recover."""
        return self.resumed

    async def handle(  # noqa: PLR0912 - one loop for speed
        self, batch: Batch
    ) -> Sequence[Awaitable[Any]] | None:
        """Copies a batch to the inbox."""
        if batch.epoch != self.epoch:
            return None
        mapper = self._mapper.for_partition(batch.topic, batch.partition)
        output = Output(self.producer, self._inbox.name, batch.partition, raises=True)
        dead = Output(self.producer, self._dead_letter[batch.topic], batch.partition)
        map_record, append = mapper.map_record, output.append
        slices = TimeSlice()
        written: list[Awaitable[Any]] = []
        tp = TP(batch.topic, batch.partition)
        claim = _CommitClaim(tp, self.app.consumer.committed_at_start(tp) or 0)
        keys = self._keys.setdefault(batch.partition, set())
        chain: Chain | None = None
        if mapper.from_decision_log:
            chain = await self._chains.begin(batch.epoch, tp, batch.records[0].offset, mapper.decode)
            if batch.epoch != self.epoch:
                return None
        for count, record in enumerate(batch.records):
            try:
                if record.key not in keys:
                    _check_key(record.key, batch.partition, self.partitions)
                    _remember(keys, record.key)
                mapped = map_record(record)
                if chain is not None and not _is_next(chain, mapper, record):
                    continue
                if mapped is not None:
                    if record.offset < claim.offset:
                        claim.refute(record.offset)
                    append(record.key, mapped, headers_of_copy(record.headers))
            except Exception as error:  # noqa: BLE001 - each kind has its case below
                if isinstance(error, DependencyUnavailable):
                    await mapper.load_dependency(error)
                    if batch.epoch != self.epoch:
                        return None
                try:
                    self._copy_failed(mapper, batch, record, output, dead, error, claim)
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

    def _copy_failed(
        self,
        mapper: RecordMapper,
        batch: Batch,
        record: Any,
        output: Output,
        dead: Output,
        error: Exception,
        claim: _CommitClaim,
    ) -> None:
        """Retries a record that could not be copied, or appends its rejection. Raises Poisoned if neither is possible.

        A record before the committed offset that needs no rejection was dead-lettered before.
        """
        try:
            try:
                if not isinstance(error, DependencyUnavailable):
                    raise error
                mapped = mapper.map_record(record)
                if mapped is not None:
                    claim.refute(record.offset)
                    output.append(record.key, mapped, headers_of_copy(record.headers))
            except (Undecodable, RecordTooLarge) as undecodable:
                if self.is_skipped(batch.topic, batch.partition, record):
                    return
                if mapper.from_decision_log:
                    raise
                rejected = mapper.reject(record, str(undecodable))
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


class _CommitClaim:
    """The committed offset of a partition: a claim that every record before it was copied. 0: no claim, or refuted."""

    __slots__ = ("_tp", "offset")

    def __init__(self, tp: TP, offset: int) -> None:
        self._tp = tp
        self.offset = offset

    def refute(self, offset: int) -> None:
        """Logs, once, a record before the committed offset that is copied only now: it had no copy in the inbox."""
        if offset < self.offset:
            log_unhandled_record(self._tp, self.offset, offset, "has no copy in the inbox")
            self.offset = 0


def _is_next(chain: Chain, mapper: RecordMapper, record: Any) -> bool:
    """Whether a decision follows the one before it; False for a duplicate. Raises BrokenChain."""
    assert mapper.decision is not None
    following = chain.follows(record, mapper.decision)
    if following:
        chain.remember(record)
    return following


def _check_key(key: bytes | None, partition: int, partitions: int) -> None:
    """Raises Undecodable for a key of another partition: the decider of the inbox partition does not own it."""
    if key is None:
        raise Undecodable("it has no key")
    try:
        expected = partition_of(key.decode(), partitions) if partitions else partition
    except UnicodeDecodeError as error:
        raise Undecodable(f"its key is {error!r}") from error
    if expected != partition:
        raise Undecodable(f"its key {key!r} belongs to partition {expected}")


def _remember(keys: set[bytes], key: bytes) -> None:
    if len(keys) >= MAX_KEYS_REMEMBERED:
        keys.clear()
    keys.add(key)


def _append_rejection(output: Output, record: Any, rejected: bytes) -> None:
    """Appends the rejection of a record, without the record's headers if they are too large."""
    try:
        output.append(record.key, rejected, record.headers)
    except RecordTooLarge:
        output.append(record.key, rejected, [])
