"""The thread of a consumer, the only one that speaks to the broker for it. R3 of consumer.py is kept here as well."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from eventlog.crash import die
from eventlog.transport.closing import close_in_time
from eventlog.transport.lease import Lease
from eventlog.transport.membership import end_when_displaced
from eventlog.transport.pace import Pace
from eventlog.transport.parsed import hand_over

log = logging.getLogger(__name__)

# Faust asks the broker to hold an idle fetch for 1.5 s, and the node's next fetch waits behind it.
FETCH_MAX_WAIT_MS = 40


class BatchConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's thread, with what aiokafka must do otherwise."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pace = Pace()
        self.lease = Lease()

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS
        return consumer

    async def on_start(self) -> None:
        """Faust's hook."""
        await super().on_start()
        end_when_displaced(self._consumer._coordinator)
        self.lease.keep(self._consumer._coordinator)
        hand_over(self._consumer._fetcher)
        self._pace.keep(self._consumer._fetcher)

    async def _fetch_records(self, *args: Any, **kwargs: Any) -> Any:
        fetched = await super()._fetch_records(*args, **kwargs)
        self._pace.saw(sum(map(len, fetched.values())))
        return fetched

    async def on_thread_stop(self) -> None:
        """Faust's hook."""
        await close_in_time(super().on_thread_stop())

    def join_again(self) -> None:
        """Makes the group assign once more; on this thread."""
        self._ensure_consumer()._coordinator.request_rejoin()

    async def places(self, tps: list[TP]) -> dict[TP, tuple[int | None, int, int]]:
        """Committed offset, first offset and end of each partition, asked for on this thread."""
        return dict(await self.call_thread(self._places, tps))

    async def _places(self, tps: list[TP]) -> dict[TP, tuple[int | None, int, int]]:
        if not tps:
            return {}
        consumer = self._ensure_consumer()
        committed = {tp: await consumer.committed(tp) for tp in tps}
        # After that: what an owner before us commits meanwhile may lie beyond ends that were read first.
        begin = await consumer.beginning_offsets(tps)
        end = await consumer.end_offsets(tps)
        return {tp: (committed[tp], begin[tp], end[tp]) for tp in tps}

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
            log.info("offsets not committed, the partitions are moving: %r", error)
            return False
        except KafkaError as error:
            if not error.retriable:
                die("offsets can't be committed", error)
            # Stock Faust crashes here. A broker that is away for a while is no reason: the acknowledgements are kept.
            log.warning("offsets not committed, trying again: %r", error)
            return False
        return True

    async def crash(self, reason: BaseException) -> None:
        """Faust's hook for what it can't handle."""
        die("the consumer's thread failed", reason)
