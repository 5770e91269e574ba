"""A table of the latest value of each key of a compacted topic, complete in every process.

The table has no consumer group: every process reads all partitions from the beginning. The reader lags behind the
topic, so a lookup reads the topic to its end before it reports a key as unknown. Concurrent lookups share a refresh,
and refreshes are limited to REFRESHES_PER_S. No caller gets the result of a refresh that began before its call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from eventlog.broker.security import Kafka, client
from eventlog.core.errors import BrokerUnavailable, InvariantViolation
from eventlog.runtime.abort import abort
from eventlog.runtime.cancellation import cancel_requested
from eventlog.views.change_notifier import ChangeNotifier

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Time limit of a refresh, after which the broker counts as unavailable.
REFRESH_S = 10.0
#: Sustained rate of refreshes, and the burst allowed after a quiet time (a token bucket).
REFRESHES_PER_S = 10
REFRESH_BURST = 10
#: Pause of the reader after a retriable error, in seconds.
RETRY_S = 0.5


class GlobalTable(Generic[T]):
    """The latest values of one topic, by key."""

    def __init__(
        self,
        kafka: Kafka,
        topic: str,
        decode: Callable[[bytes], T],
        *,
        client_id: str,
        mismatch: Callable[[str, T], str] | None = None,
        removable: bool = True,
    ) -> None:
        """`mismatch` returns why a value can't belong to its key, or an empty string. Such a record is ignored.

        If `removable` is false, a record without a value is ignored too. Ignored records are counted and logged.
        """
        self._topic = topic
        self._decode = decode
        self._mismatch = mismatch
        self._removable = removable
        self._values: dict[str, T] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._progress = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        #: The refresh that has not asked the broker for the end yet, if any. Callers may still join it.
        self._upcoming: asyncio.Task[BrokerUnavailable | None] | None = None
        #: The refresh that began last.
        self._newest: asyncio.Task[BrokerUnavailable | None] | None = None
        #: When the next refresh would be due at an even rate, on the loop's clock.
        self._next_due = 0.0
        self._consumer = AIOKafkaConsumer(
            **client(kafka),
            client_id=client_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
        )
        self.notifier = ChangeNotifier()
        #: Records that could not be decoded.
        self.undecodable = 0
        #: Records whose value does not belong to their key, and records without a value if nothing is removable.
        self.ignored = 0

    async def start(self, partitions: int) -> None:
        """Reads the topic to its end, retrying while the broker is unavailable, then continues in the background."""
        await self._consumer.start()
        tps = [TopicPartition(self._topic, partition) for partition in range(partitions)]
        self._consumer.assign(tps)
        await self._consumer.seek_to_beginning(*tps)
        self._positions = dict(await self._consumer.beginning_offsets(tps))
        self._task = asyncio.get_running_loop().create_task(self._read())
        self._task.add_done_callback(self._ended)
        while True:
            try:
                return await self.refresh()
            except BrokerUnavailable as error:
                log.warning("%s is not read to its end yet, retrying: %s", self._topic, error)

    async def stop(self) -> None:
        """Stops reading. A refresh in flight raises BrokerUnavailable."""
        self._stopping = True
        tasks = [task for task in (self._task, self._newest, self._upcoming) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._consumer.stop()

    def find(self, key: str) -> T | None:
        """The value of a key in what has been read so far."""
        return self._values.get(key)

    def values(self) -> list[T]:
        """All values in what has been read so far."""
        return list(self._values.values())

    async def get_latest(self, key: str) -> T | None:
        """The value of a key. If it is unknown, reads the topic to its present end before it returns None."""
        found = self._values.get(key)
        if found is None:
            await self.refresh()
            found = self._values.get(key)
        return found

    async def refresh(self) -> None:
        """Reads the topic up to its end at the time of the call. Raises BrokerUnavailable after REFRESH_S."""
        if self._stopping:
            raise BrokerUnavailable(f"the reader of {self._topic} has stopped")
        if self._upcoming is None:
            # The refresh in flight may have asked for the end before this call.
            self._upcoming = asyncio.get_running_loop().create_task(self._refresh(self._newest), name="refresh")
            self._newest = self._upcoming
        shared = self._upcoming
        # The task continues for the other callers if this one is cancelled.
        await asyncio.wait([shared], timeout=REFRESH_S)
        if not shared.done() or shared.cancelled():
            raise BrokerUnavailable(f"{self._topic} could not be read to its end in time")
        error = shared.result()
        if error is not None:
            raise BrokerUnavailable(str(error)) from error

    async def _refresh(self, before: asyncio.Task[Any] | None) -> BrokerUnavailable | None:
        """One refresh, shared by all callers that arrive before it asks for the end. Returns its error."""
        if before is not None:
            await asyncio.wait([before])
        await self._limit_rate()
        self._upcoming = None
        try:
            async with asyncio.timeout(REFRESH_S):
                ends = await self._consumer.end_offsets(list(self._positions))
                while any(self._positions[tp] < end for tp, end in ends.items()):
                    self._progress.clear()
                    await self._progress.wait()
        except (KafkaError, OSError) as error:
            # TimeoutError is an OSError.
            return BrokerUnavailable(f"{self._topic} could not be read to its end: {error!r}")
        return None

    async def _limit_rate(self) -> None:
        """Waits until the rate limit allows another refresh."""
        loop = asyncio.get_running_loop()
        early_s = self._next_due - loop.time() - (REFRESH_BURST - 1) / REFRESHES_PER_S
        if early_s > 0:
            await asyncio.sleep(early_s)
        self._next_due = max(self._next_due, loop.time()) + 1 / REFRESHES_PER_S

    async def _read(self) -> None:
        while True:
            try:
                await self._read_once()
            except asyncio.CancelledError as error:
                if cancel_requested():
                    raise
                raise InvariantViolation("a call of the consumer was cancelled from inside") from error
            except KafkaError as error:
                if not error.retriable:
                    raise
                log.warning("%s can't be read, retrying: %r", self._topic, error)
                await asyncio.sleep(RETRY_S)

    async def _read_once(self) -> None:
        fetched: dict[TopicPartition, list[Any]] = await self._consumer.getmany(timeout_ms=200)
        for tp, records in fetched.items():
            for record in records:
                self._apply(record)
            self._positions[tp] = records[-1].offset + 1
        # Compaction may have removed the last records before the end, so take the consumer's position into account.
        for tp in self._positions:
            position = await self._consumer.position(tp)
            self._positions[tp] = max(self._positions[tp], position)
        self._progress.set()

    def _apply(self, record: Any) -> None:
        key = (record.key or b"").decode(errors="replace")
        if record.value is None:
            if not self._removable:
                if key in self._values:
                    self._ignore(record, key, "it has no value, and keys of this topic can't be removed")
                return
            self._values.pop(key, None)
        else:
            try:
                value = self._decode(record.value)
                mismatch = self._mismatch(key, value) if self._mismatch is not None else ""
            except Exception as error:  # noqa: BLE001 - decoders raise exceptions of their own, protobuf's among them
                self.undecodable += 1
                log.error("%s offset %s can't be decoded: %r", self._topic, record.offset, error)
                return
            if mismatch:
                self._ignore(record, key, mismatch)
                return
            self._values[key] = value
        self.notifier.notify(key)

    def _ignore(self, record: Any, key: str, reason: str) -> None:
        self.ignored += 1
        log.critical(
            "%s-%s offset %s is ignored: %s. Key %a keeps its value. Run `verify`",
            self._topic,
            record.partition,
            record.offset,
            reason,
            key,
        )

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            abort("the reader of a topic ended", task.exception(), topic=self._topic)
