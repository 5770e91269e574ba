"""Replaces aiokafka's record iteration: returns parsed records of a whole batch at a time, with the same checks.

aiokafka wraps each record in another object, through a generator and a call, which takes longer than the parsing. Here
the records come as they were parsed. They lack the topic and the partition, which are the same for the whole batch.

Parsing runs on the consumer's thread and holds the interpreter lock. Another thread waits up to `interpreter.SWITCH_S`
for the lock at each turn of the event loop, and a gRPC call takes about twelve turns. So the parser sleeps briefly
after every BATCH records, and the event loop gets the lock at once.
"""

from __future__ import annotations

import time
from functools import partial
from itertools import chain, islice
from typing import Any

from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException

#: Records parsed between two pauses, about a quarter of a millisecond.
BATCH = 128
#: Seconds of a pause; the shortest in which another thread reliably wakes.
PAUSE_S = 0.000_05


class BatchParser:
    """The records of one fetch of a partition; replaces aiokafka's PartitionRecords."""

    def __init__(self, records: PartitionRecords) -> None:
        self._batches: Any = records._records
        self._check_crcs: bool = records._check_crcs
        self._tp = records._tp
        #: Parsed records; those before `_at` are returned already. The rest is not copied: with many small batches, or
        #: reads of small portions, that would take quadratic time.
        self._parsed: list[Any] = []
        self._at = 0
        #: As in PartitionRecords.
        self.next_fetch_offset: int = records.next_fetch_offset
        #: End offset of the batches parsed so far; beyond their last record if compaction deleted some.
        self._end = self.next_fetch_offset
        #: Records parsed since the last pause.
        self._in_a_row = 0

    @property
    def exhausted(self) -> bool:
        """Whether all records are returned."""
        return self._at == len(self._parsed) and not self._batches.has_next()

    def read(self, most: int) -> list[Any]:
        """The next records. Raises CorruptRecordException."""
        parsed = self._parsed
        if self._at and len(parsed) - self._at < most:
            # Moves fewer records than were returned.
            del parsed[: self._at]
            self._at = 0
        while len(parsed) - self._at < most and self._batches.has_next():
            batch = self._batches.next_batch()
            if self._check_crcs and not batch.validate_crc():
                # An invalid position, so that the next read drops this and fetches again.
                self.next_fetch_offset = -1
                raise CorruptRecordException(f"Invalid CRC - {self._tp}")
            if not batch.is_control_batch:
                records = self._parse(batch)
                if records and records[0].offset < self.next_fetch_offset:
                    # A fetch from the middle of a batch returns the whole batch.
                    records = [one for one in records if one.offset >= self.next_fetch_offset]
                parsed.extend(records)
            self._end = batch.next_offset
        found = parsed[self._at : self._at + most]
        self._at += len(found)
        self.next_fetch_offset = parsed[self._at].offset if self._at < len(parsed) else self._end
        return found

    def _parse(self, batch: Any) -> list[Any]:
        # A batch can be iterated only once.
        parsing = chain(batch)
        records: list[Any] = []
        while some := list(islice(parsing, BATCH)):
            records += some
            self._in_a_row += len(some)
            if self._in_a_row >= BATCH:
                self._in_a_row = 0
                time.sleep(PAUSE_S)
        return records


def use_batch_parser(fetcher: Any) -> None:
    """Makes an aiokafka fetcher return records through BatchParser."""
    fetch = fetcher._proc_fetch_request

    async def fetched(assignment: Any, node_id: int, request: Any) -> bool:
        found = bool(await fetch(assignment, node_id, request))
        for result in fetcher._records.values():
            # A result may also be an error. Records of transactions are left to aiokafka, which knows the aborted ones.
            if type(result) is FetchResult and type(result._partition_records) is PartitionRecords:
                if result._partition_records._isolation_level == READ_COMMITTED:
                    continue
                result._partition_records = BatchParser(result._partition_records)
                result.getall = partial(_read, result)
        return found

    fetcher._proc_fetch_request = fetched


def _read(result: Any, max_records: int) -> list[Any]:
    """Same as FetchResult.getall."""
    if not result.check_assignment(result._topic_partition) or not result.has_more():
        return []
    parsed: BatchParser = result._partition_records
    found = parsed.read(max_records)
    result._update_position()
    if parsed.exhausted:
        result._partition_records = None
    return found
