"""Waits until the projection has folded an offset of the orders topic, and refuses offsets that the log does not have.

Consistency tokens contain offsets, and anyone can forge a token. An offset beyond the known end of the log is checked
at the broker: one request for all waiting calls, at most ten a second for each partition. A call is woken when its
offset is folded; nothing polls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiokafka.errors import KafkaError

from chassis.admission.capacity import CapacityLimiter
from chassis.rpc.call_deadline import CallDeadline
from chassis.rpc.validation import invalid_field
from eventlog.core.errors import BrokerUnavailable
from eventlog.processors.projection import position_key
from services.orders.api.ports import OrdersView
from services.orders.api.wait import ViewWaiter
from shared_kernel.topics import ORDERS

#: Calls that wait for an offset in one process, and the share of one identity.
MAX_WAITING = 1_000
SHARE = 500
#: Seconds between two reads of a partition's end, and the time-out of one read.
READ_INTERVAL_S = 0.1
READ_TIMEOUT_S = 5.0


class Positions:
    """Waits for offsets of the orders topic."""

    def __init__(self, view: OrdersView, waiter: ViewWaiter) -> None:
        self._view = view
        self._waiter = waiter
        self._limiter = CapacityLimiter(MAX_WAITING, SHARE)
        #: Last known end of each partition.
        self._ends: dict[int, int] = {}
        #: By partition: the read that has not started yet, and the time of the last one.
        self._scheduled: dict[int, asyncio.Task[BrokerUnavailable | None]] = {}
        self._reads: set[asyncio.Task[BrokerUnavailable | None]] = set()
        self._read_at: dict[int, float] = {}

    async def wait_until_folded(
        self, key: str, partition: int, offset: int, deadline: CallDeadline, *, ours: bool
    ) -> None:
        """Returns once the key's partition is folded past an offset. `ours`: this process wrote the record, so the log
        has it. Raises TimeoutError, NotReady, BrokerUnavailable; and ApiError INVALID_FIELDS for an offset beyond the
        end of the log, OVERLOADED if too many calls are waiting."""

        def check() -> bool | None:
            self._view.get(key)  # Raises NotReady once the partition is not ours.
            return True if self._view.position(ORDERS.name, partition) > offset else None

        if check() is not None:
            return
        if ours:
            await self._wait(partition, check, deadline)
            return
        with self._limiter.slot("wait for their consistency tokens"):
            await self._require_in_log(partition, offset, deadline)
            await self._wait(partition, check, deadline)

    async def _wait(self, partition: int, check: Callable[[], bool | None], deadline: CallDeadline) -> None:
        await self._waiter.until(position_key(ORDERS.name, partition), check, deadline.left_s())

    async def _require_in_log(self, partition: int, offset: int, deadline: CallDeadline) -> None:
        if offset < self._ends.get(partition, 0):
            return
        read = self._scheduled.get(partition)
        if read is None:
            read = self._scheduled[partition] = asyncio.create_task(self._read_end(partition), name="end of the log")
            self._reads.add(read)
            read.add_done_callback(self._reads.discard)
        # Shared: the read continues for other calls if this one times out.
        await asyncio.wait([read], timeout=deadline.left_s())
        if not read.done():
            raise TimeoutError
        error = read.result()
        if error is not None:
            # A copy, because one error raised by hundreds of tasks would keep all of their frames.
            raise BrokerUnavailable(str(error))
        if offset >= self._ends.get(partition, 0):
            raise invalid_field("consistency_token", "names no record of the log")

    async def _read_end(self, partition: int) -> BrokerUnavailable | None:
        """Reads the end of a partition; returns the error if it fails. A call that comes after the start of the read
        needs another one, because its record can be newer."""
        loop = asyncio.get_running_loop()
        try:
            delay_s = self._read_at.get(partition, -READ_INTERVAL_S) + READ_INTERVAL_S - loop.time()
            if delay_s > 0:
                await asyncio.sleep(delay_s)
        finally:
            del self._scheduled[partition]
        self._read_at[partition] = loop.time()
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                end = await self._view.end(ORDERS.name, partition)
        except (KafkaError, OSError) as error:
            # TimeoutError is an OSError.
            return BrokerUnavailable(f"the end of the log could not be read: {error!r}")
        self._ends[partition] = max(end, self._ends.get(partition, 0))
        return None
