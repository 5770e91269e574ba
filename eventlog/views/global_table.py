"""Reads a compacted topic whole and keeps the latest value of each key, for what every process wants to know by heart.

It has no consumer group: every process reads all partitions from the beginning. The reader lags behind the topic, so
before a key is called unknown the topic is read to its end. Callers share that: a flood of unknown keys asks the broker
ROUNDS_PER_S times a second, and no caller gets an answer that was on its way before its call.
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
from eventlog.processors.lanes import cancelled_by_us
from eventlog.runtime.abort import abort
from eventlog.views.change_notifier import ChangeNotifier

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Longest that a refresh takes. A broker that does not answer by then is unavailable.
REFRESH_S = 10.0
#: Questions to the broker a second, when callers always want to know; and at once, after a quiet time.
ROUNDS_PER_S = 10
BURST = 10
#: Pause of the reader after an error of the broker.
RETRY_S = 0.5


class GlobalTable(Generic[T]):
    """Latest value by key of one topic."""

    def __init__(
        self,
        kafka: Kafka,
        topic: str,
        decode: Callable[[bytes], T],
        *,
        client_id: str,
        wrong: Callable[[str, T], str] | None = None,
        removable: bool = True,
    ) -> None:
        """`wrong` says why a value can't be that of its key, empty if it can; such a record changes nothing.

        With `removable` false a record without a value changes nothing either. Both are counted and logged.
        """
        self._topic = topic
        self._decode = decode
        self._wrong = wrong
        self._removable = removable
        self._values: dict[str, T] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._progress = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        #: The refresh that has not asked the broker yet, if there is one, and the newest of all.
        self._upcoming: asyncio.Task[BrokerUnavailable | None] | None = None
        self._newest: asyncio.Task[BrokerUnavailable | None] | None = None
        #: Loop's time at which the broker would be asked next if it were asked evenly.
        self._even = 0.0
        self._consumer = AIOKafkaConsumer(
            **client(kafka),
            client_id=client_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
        )
        self.watchers = ChangeNotifier()
        self.undecodable = 0
        #: Records that are not of their key, and removals where nothing is ever removed.
        self.ignored = 0

    async def start(self, partitions: int) -> None:
        """Reads the topic to its end, waiting for a broker that is away, then goes on reading behind the scenes."""
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
                log.warning("%s is not read yet, trying again: %s", self._topic, error)

    async def stop(self) -> None:
        """Stops reading. A refresh under way raises BrokerUnavailable."""
        self._stopping = True
        tasks = [task for task in (self._task, self._newest, self._upcoming) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._consumer.stop()

    def find(self, key: str) -> T | None:
        """The value of a key as far as it has been read."""
        return self._values.get(key)

    def values(self) -> list[T]:
        """All values as far as they have been read."""
        return list(self._values.values())

    async def get_latest(self, key: str) -> T | None:
        """The value of a key; None only when the topic, read to its present end, has none."""
        found = self._values.get(key)
        if found is None:
            await self.refresh()
            found = self._values.get(key)
        return found

    async def refresh(self) -> None:
        """Returns when everything is read that was in the topic at the call.

        Raises BrokerUnavailable after REFRESH_S.
        """
        if self._stopping:
            raise BrokerUnavailable(f"{self._topic} is not read any more")
        if self._upcoming is None:
            # The one under way may have asked before this call.
            self._upcoming = asyncio.get_running_loop().create_task(self._round(self._newest), name="refresh")
            self._newest = self._upcoming
        shared = self._upcoming
        # It goes on for the others if this caller gives up.
        await asyncio.wait([shared], timeout=REFRESH_S)
        if not shared.done() or shared.cancelled():
            raise BrokerUnavailable(f"{self._topic} could not be read to its end in time")
        error = shared.result()
        if error is not None:
            raise BrokerUnavailable(str(error)) from error

    async def _round(self, before: asyncio.Task[Any] | None) -> BrokerUnavailable | None:
        """One refresh for all callers that come before it asks. Returns what went wrong."""
        if before is not None:
            await asyncio.wait([before])
        await self._turn()
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

    async def _turn(self) -> None:
        """Waits until the broker may be asked again."""
        loop = asyncio.get_running_loop()
        early_s = self._even - loop.time() - (BURST - 1) / ROUNDS_PER_S
        if early_s > 0:
            await asyncio.sleep(early_s)
        self._even = max(self._even, loop.time()) + 1 / ROUNDS_PER_S

    async def _read(self) -> None:
        while True:
            try:
                await self._read_on()
            except asyncio.CancelledError as error:
                if cancelled_by_us():
                    raise
                raise InvariantViolation("reading was cancelled from inside") from error
            except KafkaError as error:
                if not error.retriable:
                    raise
                log.warning("%s can't be read, trying again: %r", self._topic, error)
                await asyncio.sleep(RETRY_S)

    async def _read_on(self) -> None:
        fetched: dict[TopicPartition, list[Any]] = await self._consumer.getmany(timeout_ms=200)
        for tp, records in fetched.items():
            for record in records:
                self._take(record)
            self._positions[tp] = records[-1].offset + 1
        # Compaction may have taken the last records before the end: the consumer's own position tells.
        for tp in self._positions:
            position = await self._consumer.position(tp)
            self._positions[tp] = max(self._positions[tp], position)
        self._progress.set()

    def _take(self, record: Any) -> None:
        key = (record.key or b"").decode(errors="replace")
        if record.value is None:
            if not self._removable:
                if key in self._values:
                    self._ignore(record, key, "it has no value, and nothing is removed from this topic")
                return
            self._values.pop(key, None)
        else:
            try:
                value = self._decode(record.value)
                wrong = self._wrong(key, value) if self._wrong is not None else ""
            except Exception as error:  # noqa: BLE001 - decoders have errors of their own; protobuf's is no ValueError
                self.undecodable += 1
                log.error("%s offset %s can't be decoded: %r", self._topic, record.offset, error)
                return
            if wrong:
                self._ignore(record, key, wrong)
                return
            self._values[key] = value
        self.watchers.notify(key)

    def _ignore(self, record: Any, key: str, why: str) -> None:
        self.ignored += 1
        log.critical(
            "%s-%s offset %s changes nothing: %s. The value of %a stays. See `groupbuy-ops verify`",
            self._topic,
            record.partition,
            record.offset,
            why,
            key,
        )

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            abort("reading a topic ended", task.exception(), topic=self._topic)
