"""Collects a processor's output for one partition and sends it in whole producer batches.

Whatever was appended is sent, in order, before anything else is awaited for: state that was decided must not stay ahead
of the log. A record that the broker would not take stops the process; nothing is ever dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from aiokafka.errors import KafkaTimeoutError

from eventlog.runtime.abort import abort

log = logging.getLogger(__name__)

#: Bytes of one producer batch.
BATCH_BYTES = 512 * 1024
#: Bytes of one record; Kafka's own limit is 1 MiB for a whole batch.
RECORD_BYTES = 900 * 1024


#: (offset of the first record, records, the broker's time of them in milliseconds since the epoch, mark of the last)
Acknowledged = Callable[[int, int, int, Any], None]


class RecordTooLarge(Exception):
    """The broker would not take a record."""


class Output:
    """Output to one partition of one topic."""

    def __init__(
        self,
        producer: Any,
        topic: str,
        partition: int,
        acknowledged: Acknowledged | None = None,
        *,
        raises: bool = False,
    ) -> None:
        """With `raises`, a record that is too large raises RecordTooLarge; otherwise it ends the process."""
        self._producer = producer
        self._topic = topic
        self._partition = partition
        self._acknowledged = acknowledged
        self._raises = raises
        self._open: Any = None
        #: `append` of what is inside the open batch, and its records so far. aiokafka's own method comes to
        #: the same by two calls more, which take as long as the record itself.
        self._add: Callable[..., Any] = _nothing_open
        self._count = 0
        #: Of the last record in the open batch.
        self._mark: Any = None
        #: Closed batches, each with the mark of its last record.
        self._sealed: list[tuple[Any, Any]] = []

    def append(
        self, key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]], mark: object = None
    ) -> None:
        """Adds one record. Raises RecordTooLarge or ends the process where the broker would not take it.

        `acknowledged` is called once a batch; it gets the `mark` of the batch's last record.
        """
        # It takes no other sequence.
        listed = headers if isinstance(headers, list) else list(headers)
        if self._add(self._count, None, key, value, listed) is None:
            # A batch takes any record as its first, so only here can one be too large.
            self._check_size(key, value, listed)
            self._seal()
            self._begin()
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
        abort("a record is larger than the broker takes", topic=self._topic, key=key, bytes=size)

    def _begin(self) -> None:
        self._open = self._producer.create_batch()
        self._add = self._open._builder.append
        self._count = 0

    def _seal(self) -> None:
        if self._open is not None:
            self._open._relative_offset = self._count
            self._open.close()
            self._sealed.append((self._open, self._mark))
            self._open = None
            self._add = _nothing_open

    @property
    def full(self) -> bool:
        """Whether a whole producer batch waits to be sent."""
        return bool(self._sealed)

    async def send(self, *, full: bool = False) -> list[asyncio.Future[Any]]:
        """Hands all that was appended to the producer, or only the batches that are full.

        The futures end when the broker has it; none fails.
        """
        if not full:
            self._seal()
        sealed, self._sealed = self._sealed, []
        futures = []
        for batch, mark in sealed:
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
                # The batch was not taken: the ones before it wait for a broker that is away.
                log.warning("%s-%s: output waits for the broker", self._topic, self._partition)
            else:
                return sent

    def _done(self, count: int, mark: object, future: asyncio.Future[Any]) -> None:
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or error is not None:
            abort("output was not written", error, topic=self._topic, partition=self._partition)
        metadata = future.result()
        if metadata is not None and metadata.offset < 0:
            # A repeat of a batch so old that the broker has forgotten where it stands.
            abort("output was written at an unknown offset", topic=self._topic, partition=self._partition)
        if self._acknowledged is not None:
            try:
                self._acknowledged(metadata.offset, count, metadata.timestamp or 0, mark)
            except BaseException as error:  # noqa: BLE001 - the event loop would swallow it, and the input be committed
                abort("an acknowledgement failed", error, topic=self._topic, partition=self._partition)


def _nothing_open(*_: Any) -> None:
    """Has no room for any record."""
