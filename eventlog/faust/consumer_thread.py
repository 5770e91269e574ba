"""The thread on which aiokafka's consumer runs. Rule R3 of consumer.py applies here as well."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.consumer import ensure_TPset
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.futures import maybe_set_exception, maybe_set_result

from eventlog.consuming.fetch_throttle import FetchThrottle
from eventlog.faust.access import wrap_fetch_requests
from eventlog.faust.closing import close_in_time
from eventlog.faust.group.fencing import exit_when_fenced
from eventlog.faust.group.lease import Lease
from eventlog.faust.record_parser import use_batch_parser
from eventlog.faust.thread_checks import bind_to_this_thread
from eventlog.runtime.abort import abort

log = logging.getLogger(__name__)

#: Milliseconds that a broker holds an idle fetch. Faust sets 1.5 s, and the next fetch from that node waits behind it.
FETCH_MAX_WAIT_MS = 40


class RebalanceListener(driver.ConsumerRebalanceListener):  # type: ignore[misc]
    """Passes rebalances to the main thread's consumer. Faust's listener changes the app on the consumer's thread."""

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """The client's hook, on the consumer's thread."""
        await self._thread.on_partitions_revoked(ensure_TPset(revoked))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """The client's hook, on the consumer's thread."""
        generation = self._thread._ensure_consumer()._coordinator.generation
        await self._thread.on_partitions_assigned(ensure_TPset(assigned), generation)


class BatchConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread, with the changes that aiokafka's consumer needs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._throttle = FetchThrottle()
        self._closing: list[asyncio.Task[None]] = []
        #: Fetches that the main thread waits for.
        self._fetches: set[asyncio.Task[Any]] = set()
        self.lease = Lease()

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS
        # For an app without tables and standbys Faust takes another assignor, which neither places the partitions of
        # several inputs together nor names their owners.
        consumer._partition_assignment_strategy = [self.app.assignor]
        return consumer

    async def on_start(self) -> None:
        """Faust's hook."""
        await super().on_start()
        exit_when_fenced(self._consumer._coordinator)
        self.lease.observe(self._consumer._coordinator)
        use_batch_parser(self._consumer._fetcher)
        wrap_fetch_requests(self._consumer._fetcher, self._throttle.throttle)
        consumer = self._consumer
        for task in (consumer._fetcher._fetch_task, consumer._coordinator._coordination_task):
            task.add_done_callback(self._client_task_ended)
        bind_to_this_thread(
            consumer, consumer._fetcher, consumer._coordinator, consumer._subscription, consumer._client
        )

    def _client_task_ended(self, task: asyncio.Task[Any]) -> None:
        """Ends the process when a task of the client ends before its close.

        Without it nothing would be fetched, or rebalances would go unnoticed.
        """
        if self._consumer is not None and not self._consumer._closed:
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            abort("a task of the consumer's client ended", error, task=getattr(task.get_coro(), "__qualname__", ""))

    async def getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109
        """Faust's hook, on the main thread. The fetch gets a copy of the set, which may change meanwhile."""
        wanted = set(active_partitions or ())
        found: asyncio.Future[Any] = self.parent_loop.create_future()
        # Not by Faust's queue of calls, whose worker starts three tasks for each.
        self.thread_loop.call_soon_threadsafe(self._start_fetch, found, wanted, timeout)
        return await found

    def _start_fetch(self, found: asyncio.Future[Any], wanted: set[TP], timeout: float) -> None:
        if found.cancelled():
            # Nobody would get its records.
            return
        fetch = self.thread_loop.create_task(self._fetch_some(wanted, timeout))
        self._fetches.add(fetch)
        fetch.add_done_callback(partial(self._fetched, found))

    def _fetched(self, found: asyncio.Future[Any], fetch: asyncio.Task[Any]) -> None:
        self._fetches.discard(fetch)
        error = asyncio.CancelledError() if fetch.cancelled() else fetch.exception()
        if error is None:
            self.parent_loop.call_soon_threadsafe(maybe_set_result, found, fetch.result())
        else:
            self.parent_loop.call_soon_threadsafe(maybe_set_exception, found, error)

    async def _fetch_some(self, wanted: set[TP], timeout: float) -> Any:  # noqa: ASYNC109
        consumer = self._ensure_consumer()
        fetched = await self._fetch_records(consumer, wanted, timeout=timeout, max_records=consumer._max_poll_records)
        self._throttle.count(sum(map(len, fetched.values())))
        return fetched

    async def on_thread_stop(self) -> None:
        """Faust's hook."""
        for fetch in self._fetches:
            fetch.cancel()
        await close_in_time(super().on_thread_stop())

    def close(self) -> None:
        """Faust's hook, on the main thread, at a rebalance while the app stops. Closes on the consumer's thread."""
        self.thread_loop.call_soon_threadsafe(self._close)

    def _close(self) -> None:
        if self._consumer is not None and not self._consumer._closed:
            self._consumer._closed = True
            self._closing = [
                self.thread_loop.create_task(close_in_time(part.close()))
                for part in (self._consumer._client, self._consumer._coordinator)
            ]

    def seek(self, partition: TP, offset: int) -> None:
        """Schedules a seek, before any fetch that is requested after this call. Thread-safe."""
        self.thread_loop.call_soon_threadsafe(self._seek, partition, offset)

    def _seek(self, tp: TP, offset: int) -> None:
        try:
            self._ensure_consumer().seek(tp, offset)
        except IllegalStateError as error:
            # The next epoch seeks again.
            log.info("%s-%s: no seek, the partition is being reassigned: %r", *tp, error)

    async def _seek_wait(self, consumer: Any, partitions: Mapping[TP, int]) -> None:
        # Faust's method also changes the main thread's consumer.
        for tp, offset in partitions.items():
            consumer.seek(tp, offset)
        positions = asyncio.gather(*(consumer.position(tp) for tp in partitions))
        await asyncio.wait_for(positions, timeout=self.app.conf.broker_request_timeout)

    def request_rejoin(self) -> None:
        """Requests a rebalance. Call it on this thread."""
        self._ensure_consumer()._coordinator.request_rejoin()

    async def places(self, tps: list[TP]) -> dict[TP, tuple[int | None, int, int]]:
        """Committed offset, first offset and end of each partition."""
        return dict(await self.call_thread(self._places, tps))

    async def _places(self, tps: list[TP]) -> dict[TP, tuple[int | None, int, int]]:
        if not tps:
            return {}
        consumer = self._ensure_consumer()
        committed = {tp: await consumer.committed(tp) for tp in tps}
        # Ends are read last: an earlier owner may still commit, and its commit could be beyond ends read before.
        begin = await consumer.beginning_offsets(tps)
        end = await consumer.end_offsets(tps)
        return {tp: (committed[tp], begin[tp], end[tp]) for tp in tps}

    async def committed(self, tps: list[TP]) -> dict[TP, int]:
        """Committed offsets of those partitions that have one, in one request."""
        return dict(await self.call_thread(self._all_committed, tps))

    async def _all_committed(self, tps: list[TP]) -> dict[TP, int]:
        wanted = {TopicPartition(*tp): tp for tp in tps}
        coordinator = self._ensure_consumer()._coordinator
        found = await coordinator.fetch_committed_offsets(list(wanted))
        return {wanted[tp]: one.offset for tp, one in found.items() if one.offset >= 0}

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        consumer = self._ensure_consumer()
        mine = self.assignment()
        wanted = {
            TopicPartition(tp.topic, tp.partition): OffsetAndMetadata(offset, "")
            for tp, offset in offsets.items()
            if tp in mine
        }
        try:
            await consumer.commit(wanted)
        except (CommitFailedError, IllegalStateError) as error:
            log.info("offsets not committed, the partitions are being reassigned: %r", error)
            return False
        except KafkaError as error:
            if not error.retriable:
                abort("offsets can't be committed", error)
            # Faust crashes here. The broker may only be away for a while, and the acknowledgements are kept.
            log.warning("offsets not committed, retrying: %r", error)
            return False
        return True

    async def crash(self, reason: BaseException) -> None:
        """Faust's hook for what it can't handle."""
        abort("the consumer's thread failed", reason)
