"""Quarantine: a partition with a record that this build can't process stops; the others continue.

A quarantined partition is not fetched, and its delivered batches are dropped without an acknowledgement. The quarantine
ends with the epoch, or with a skip of the record that an operator has recorded. After a skip the partition is read
again from the record on, and `Processor.handle` does not see the record.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from faust.types import TP

from eventlog.core.errors import Poisoned

if TYPE_CHECKING:
    from eventlog.processors.base import Batch, Processor

log = logging.getLogger(__name__)

#: Seconds between two queries for a recorded skip.
POLL_INTERVAL_S = 2.0
#: Seconds between two log lines about one quarantined partition.
REMIND_S = 60.0


class Skips(Protocol):
    """Skips that operators have recorded, each for one record that no build will decode."""

    async def recorded(self, topic: str, partition: int, offset: int, sha256: str) -> bool:
        """Whether the record at this offset, with this digest of its value, is to be skipped. Asks the broker."""
        ...

    def is_skipped(self, topic: str, partition: int, record: Any) -> bool:
        """As `recorded`, from the skips that this process has read so far."""
        ...


class Quarantine:
    """The quarantined partitions of one processor, and the records that it skips."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        #: Record at which each quarantined partition is stopped.
        self.records: dict[int, Poisoned] = {}
        #: Set while any partition is quarantined.
        self._began = asyncio.Event()
        #: Epoch of the batch that each partition handles or handled last.
        self._epochs: dict[int, int] = {}
        #: First offset of each quarantined input that was delivered and dropped.
        self._unread: dict[TP, int] = {}
        #: Offset that each input must deliver next after a quarantine.
        self._expected: dict[TP, int] = {}
        #: (topic, partition, offset) of the records that `handle` does not see.
        self._skipped: set[tuple[str, int, int]] = set()

    def start_epoch(self) -> None:
        """Ends all quarantines and forgets the skips: the partitions are read again, here or by another owner."""
        self.records.clear()
        self._unread.clear()
        self._expected.clear()
        self._skipped.clear()

    def stop(self, poisoned: Poisoned, epoch: int | None = None) -> None:
        """Quarantines a partition; see `Processor.quarantine`."""
        processor, partition = self._processor, poisoned.partition
        met = self._epochs.get(partition, processor.epoch) if epoch is None else epoch
        if partition in self.records or met != processor.epoch:
            return
        self.records[partition] = poisoned
        processor.app.consumer.hold(self._inputs_of(partition))
        self._began.set()
        log.critical("%s: partition %s is quarantined: %s", processor.group, partition, poisoned)

    # Batches ----------------------------------------------------------------------------------------------------

    def admit(self, batch: Batch) -> Batch | None:
        """The batch without skipped records, perhaps empty. None: drop it, it will be read again."""
        partition, first = batch.partition, batch.records[0].offset
        tp = TP(batch.topic, partition)
        if partition in self.records:
            self._unread.setdefault(tp, first)
            return None
        if self._skipped:
            expected = self._expected.get(tp, first)
            if first > expected:
                # Fetched before the quarantine ended. It comes again after the expected offset.
                return None
            self._expected.pop(tp, None)
            batch = batch._replace(records=[one for one in batch.records if (*tp, one.offset) not in self._skipped])
        self._epochs[partition] = batch.epoch
        return batch

    def handled(self, batch: Batch, *, sent: bool) -> None:
        """Notes where a batch is read again if its partition was quarantined in it.

        If `handle` has sent the outputs of the records before the poisoned one, only the rest is read again.
        """
        poisoned = self.records.get(batch.partition) if batch.epoch == self._processor.epoch else None
        if poisoned is not None:
            resume_at = poisoned.offset if sent and poisoned.topic == batch.topic else batch.records[0].offset
            self._unread.setdefault(TP(batch.topic, batch.partition), resume_at)

    # Skips ------------------------------------------------------------------------------------------------------

    def reread_from(self, partition: int, positions: Mapping[str, int]) -> None:
        """See `Processor.reread_from`."""
        for tp in self._inputs_of(partition):
            self._unread[tp] = positions.get(tp.topic, 0)

    def handle_despite_skip(self, poisoned: Poisoned) -> None:
        """See `Processor.handle_despite_skip`."""
        self._skipped.discard((poisoned.topic, poisoned.partition, poisoned.offset))

    async def watch(self) -> None:
        """Ends quarantines whose skips are recorded, and logs the others every REMIND_S. Runs until cancelled."""
        reminded = time.monotonic()
        while True:
            await self._began.wait()
            for poisoned in list(self.records.values()):
                if await self._may_skip(poisoned) and self.records.get(poisoned.partition) is poisoned:
                    await self._skip(poisoned)
            if not self.records:
                self._began.clear()
                reminded = time.monotonic()
                continue
            if time.monotonic() - reminded >= REMIND_S:
                reminded = time.monotonic()
                for partition, poisoned in self.records.items():
                    log.critical(
                        "%s: partition %s is still quarantined: %s", self._processor.group, partition, poisoned
                    )
            await asyncio.sleep(POLL_INTERVAL_S)

    async def _may_skip(self, poisoned: Poisoned) -> bool:
        skips = self._processor.connection.skips
        if skips is None:
            return False
        try:
            return await skips.recorded(poisoned.topic, poisoned.partition, poisoned.offset, poisoned.sha256)
        except Exception as error:  # noqa: BLE001 - the partition stays stopped, and the next query may succeed
            log.warning("%s: can't read the recorded skips, retrying: %r", self._processor.group, error)
            return False

    async def _skip(self, poisoned: Poisoned) -> None:
        processor, partition = self._processor, poisoned.partition
        epoch = processor.epoch
        next_one = await processor.resume(poisoned)
        if epoch != processor.epoch or self.records.get(partition) is not poisoned:
            return
        if next_one is not None:
            self.records[partition] = next_one
            log.critical("%s: partition %s stays quarantined: %s", processor.group, partition, next_one)
            return
        log.warning("%s: partition %s continues after the recorded skip of %s", processor.group, partition, poisoned)
        del self.records[partition]
        self._skipped.add((poisoned.topic, partition, poisoned.offset))
        processor.meter.skipped += 1
        processor.skipped(poisoned)
        unread = {tp: self._unread.pop(tp, None) for tp in self._inputs_of(partition)}
        self._expected.update({tp: offset for tp, offset in unread.items() if offset is not None})
        consumer = processor.app.consumer
        consumer.release({tp: offset for tp, offset in unread.items() if tp in consumer.assignment()})

    def _inputs_of(self, partition: int) -> list[TP]:
        return [TP(topic, partition) for topic in self._processor.inputs]
