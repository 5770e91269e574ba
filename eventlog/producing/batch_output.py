"""Output of a processor to one partition, sent in whole producer batches.

Appended records are sent in order, and before the processor waits for anything else: its state must not stay ahead of
the log. No record is dropped. A record that the broker does not accept ends the process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from aiokafka.errors import KafkaTimeoutError

from eventlog.faust.producer_batch import AppendRecord, append_of, close_batch
from eventlog.runtime.abort import abort

log = logging.getLogger(__name__)

#: Bytes of one producer batch.
BATCH_BYTES = 512 * 1024
#: Maximum bytes of one record. Kafka's default limit of 1 MiB applies to a whole batch.
RECORD_BYTES = 900 * 1024


#: Called once per acknowledged batch: (offset of its first record, number of records, the broker's timestamp in
#: milliseconds since the epoch, mark of its last record).
OnAcknowledged = Callable[[int, int, int, Any], None]


class RecordTooLarge(Exception):
    """A record has more than RECORD_BYTES."""


class Output:
    """Output to one partition of one topic."""

    def __init__(
        self,
        producer: Any,
        topic: str,
        partition: int,
        on_acknowledged: OnAcknowledged | None = None,
        *,
        raises: bool = False,
    ) -> None:
        """With `raises`, a record that is too large raises RecordTooLarge. Otherwise it ends the process."""
        self._producer = producer
        self._topic = topic
        self._partition = partition
        self._on_acknowledged = on_acknowledged
        self._raises = raises
        #: The open batch, its append function, its number of records, and the mark of its last record.
        self._open: Any = None
        self._add: AppendRecord = _no_open_batch
        self._count = 0
        self._mark: Any = None
        #: Closed batches, each with the mark of its last record.
        self._closed: list[tuple[Any, Any]] = []

    def append(
        self, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]], mark: object = None
    ) -> None:
        """Appends one record. Raises RecordTooLarge or ends the process if it is too large.

        `on_acknowledged` is called once per batch, with the `mark` of the batch's last record.
        """
        # The batch builder accepts only a list.
        listed = headers if isinstance(headers, list) else list(headers)
        if self._add(self._count, None, key, value, listed) is None:
            # An empty batch accepts a record of any size, so the size is checked whenever a batch begins.
            self._check_size(key, value, listed)
            self._close_batch()
            self._open_batch()
            if self._add(0, None, key, value, listed) is None:
                abort("a record does not fit into an empty batch", topic=self._topic, key=key, bytes=len(value))
        self._count += 1
        self._mark = mark

    def _check_size(self, key: bytes | None, value: bytes, headers: list[tuple[str, bytes]]) -> None:
        size = len(key or b"") + len(value) + sum(len(name) + len(content or b"") for name, content in headers)
        if size <= RECORD_BYTES:
            return
        if self._raises:
            raise RecordTooLarge(f"with {size} bytes it is too large for the topic {self._topic}")
        abort("a record is larger than the broker accepts", topic=self._topic, key=key, bytes=size)

    def _open_batch(self) -> None:
        self._open = self._producer.create_batch()
        self._add = append_of(self._open)
        self._count = 0

    def _close_batch(self) -> None:
        if self._open is not None:
            close_batch(self._open, self._count)
            self._closed.append((self._open, self._mark))
            self._open = None
            self._add = _no_open_batch

    @property
    def full(self) -> bool:
        """Whether a whole producer batch is ready to be sent."""
        return bool(self._closed)

    async def send(self, *, full: bool = False) -> list[asyncio.Future[Any]]:
        """Hands all appended records to the producer; with `full`, only whole batches.

        Each future completes when the broker has acknowledged a batch. None of them fails: a failed batch ends the
        process.
        """
        if not full:
            self._close_batch()
        closed, self._closed = self._closed, []
        futures = []
        for batch, mark in closed:
            future = await self._send(batch)
            future.add_done_callback(partial(self._done, batch.record_count(), mark))
            futures.append(future)
        return futures

    async def _send(self, batch: Any) -> asyncio.Future[Any]:
        while True:
            try:
                sent: asyncio.Future[Any] = await self._producer.send_batch(
                    batch, self._topic, partition=self._partition
                )
            except KafkaTimeoutError:
                # The producer's buffer is full of earlier batches, because the broker is unavailable.
                log.warning("%s-%s: the broker is unavailable, output waits", self._topic, self._partition)
            else:
                return sent

    def _done(self, count: int, mark: object, future: asyncio.Future[Any]) -> None:
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or error is not None:
            abort("output was not written", error, topic=self._topic, partition=self._partition)
        metadata = future.result()
        if metadata is not None and metadata.offset < 0:
            # The batch is a duplicate that is too old for the broker to know its offset.
            abort("output was written at an unknown offset", topic=self._topic, partition=self._partition)
        if self._on_acknowledged is not None:
            try:
                self._on_acknowledged(metadata.offset, count, metadata.timestamp or 0, mark)
            except BaseException as error:  # noqa: BLE001 - the event loop would swallow it, and the input be committed
                abort("an acknowledgement callback failed", error, topic=self._topic, partition=self._partition)


def _no_open_batch(*_: Any) -> None:
    """The append function while no batch is open: accepts no record."""
