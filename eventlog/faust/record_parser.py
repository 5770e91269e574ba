"""Hands records on as aiokafka parsed them, a whole batch of the broker's at a time.

aiokafka puts each record into an object of its own, through a generator and a call: longer than parsing it takes. What
is left out is the topic and the partition, which are the same for all of them and stand beside the batch. It makes
every check that aiokafka makes.

This is done on the consumer's thread, and only one thread at a time has the interpreter. One that works on gives it up
only when asked to for a while (`interpreter.SWITCH_S`), and the event loop has to ask at each of its turns, a dozen in
a call by gRPC. So the thread that parses pauses by itself: then the event loop has it back at once, and keeps it.
"""

from __future__ import annotations

import time
from functools import partial
from itertools import chain, islice
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException

#: Records parsed in one go, a quarter of a millisecond: other threads run in between, and not before.
BATCH = 128
#: Seconds of the pause in between; the shortest in which another thread surely wakes.
PAUSE_S = 0.000_05


class Parsed:
    """What one fetch brought of a partition: takes the place of aiokafka's PartitionRecords."""

    def __init__(self, records: PartitionRecords) -> None:
        self._batches: Any = records._records
        self._check_crcs: bool = records._check_crcs
        self._tp = records._tp
        #: Parsed records, those before `_at` handed over already. Nothing copies what stays here: a fetch of many small
        #: batches, or one that is read in small portions, would take quadratic time.
        self._parsed: list[Any] = []
        self._at = 0
        #: As in PartitionRecords.
        self.next_fetch_offset: int = records.next_fetch_offset
        #: Where the batches parsed so far end; they may end beyond their last record, where some were compacted away.
        self._end = self.next_fetch_offset
        #: Records parsed since the last pause.
        self._in_a_row = 0

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing more."""
        return self._at == len(self._parsed) and not self._batches.has_next()

    def read(self, most: int) -> list[Any]:
        """The next records. Raises CorruptRecordException."""
        parsed = self._parsed
        if self._at and len(parsed) - self._at < most:
            # Fewer are moved than are handed over.
            del parsed[: self._at]
            self._at = 0
        while len(parsed) - self._at < most and self._batches.has_next():
            batch = self._batches.next_batch()
            if self._check_crcs and not batch.validate_crc():
                # At no position: whoever asks again drops this, and fetches anew.
                self.next_fetch_offset = -1
                raise CorruptRecordException(f"Invalid CRC - {self._tp}")
            if not batch.is_control_batch:
                records = self._parse(batch)
                if records and records[0].offset < self.next_fetch_offset:
                    # A fetch from the middle of a batch brings all of it.
                    records = [one for one in records if one.offset >= self.next_fetch_offset]
                parsed.extend(records)
            self._end = batch.next_offset
        found = parsed[self._at : self._at + most]
        self._at += len(found)
        self.next_fetch_offset = parsed[self._at].offset if self._at < len(parsed) else self._end
        return found

    def _parse(self, batch: Any) -> list[Any]:
        # A batch may be asked for an iterator once only, and for nothing more after its last record.
        parsing = chain(batch)
        records: list[Any] = []
        while some := list(islice(parsing, BATCH)):
            records += some
            self._in_a_row += len(some)
            if self._in_a_row >= BATCH:
                self._in_a_row = 0
                time.sleep(PAUSE_S)
        return records


def hand_over(fetcher: Any) -> None:
    """Makes a fetcher hand its records over like this."""
    fetch = fetcher._proc_fetch_request

    async def fetched(assignment: Any, node_id: int, request: Any) -> bool:
        found = bool(await fetch(assignment, node_id, request))
        for result in fetcher._records.values():
            # An error that was met stands there too. Which records of a transaction count is for aiokafka to say.
            if type(result) is FetchResult and type(result._partition_records) is PartitionRecords:
                if result._partition_records._isolation_level == READ_COMMITTED:
                    continue
                result._partition_records = Parsed(result._partition_records)
                result.getall = partial(_read, result)
        return found

    fetcher._proc_fetch_request = fetched


def _read(result: Any, max_records: int) -> list[Any]:
    """As FetchResult.getall."""
    if not result.check_assignment(result._topic_partition) or not result.has_more():
        return []
    parsed: Parsed = result._partition_records
    found = parsed.read(max_records)
    result._update_position()
    if parsed.exhausted:
        result._partition_records = None
    return found
