"""Waits until the projection has folded what a consistency token names, and refuses tokens that the logs do not have.

Consistency tokens contain offsets and versions, and anyone can forge a token. An offset beyond the known end of the log
is checked at the broker: one request for all waiting calls, at most ten a second for each partition. A version is
checked there only if its decision has not come for a while, because a service shows a group before the broker has
acknowledged the decision. A call is woken when its record is folded; nothing polls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from aiokafka.errors import KafkaError

from chassis.admission.capacity import CapacityLimiter
from chassis.rpc.streaming.call_deadline import CallDeadline
from chassis.rpc.validation import invalid_field
from eventlog.core.errors import BrokerUnavailable
from eventlog.processors.projection import position_key
from services.orders.api.ports import OrdersView
from services.orders.api.wait import ViewWaiter
from services.orders.domain.model import GroupOrders
from shared_kernel.topics import GROUP_LOG, ORDERS, PAYMENT_LOG

#: Calls that wait for a token in one process, and the share of one identity.
MAX_WAITING = 1_000
SHARE = 500
#: Seconds between two reads of a partition's end, and the time-out of one read.
READ_INTERVAL_S = 0.1
READ_TIMEOUT_S = 5.0
#: Seconds within which a decision that its service has shown is in the log.
SHOWN_BEFORE_S = 3.0

#: Version of a group's last folded decision, by log.
_VERSIONS: dict[str, Callable[[GroupOrders], int]] = {
    GROUP_LOG.name: lambda orders: orders.decisions.version,
    PAYMENT_LOG.name: lambda orders: orders.payments.version,
}
#: A partition of a topic.
_Partition = tuple[str, int]


class Positions:
    """Waits for offsets of the orders topic, and for versions of the decision logs."""

    def __init__(self, view: OrdersView, waiter: ViewWaiter) -> None:
        self._view = view
        self._waiter = waiter
        self._limiter = CapacityLimiter(MAX_WAITING, SHARE)
        #: Last known end of each partition.
        self._ends: dict[_Partition, int] = {}
        #: By partition: the read that has not started yet, and the time of the last one.
        self._scheduled: dict[_Partition, asyncio.Task[BrokerUnavailable | None]] = {}
        self._reads: set[asyncio.Task[BrokerUnavailable | None]] = set()
        self._read_at: dict[_Partition, float] = {}

    async def wait_until_folded(
        self, key: str, partition: int, offset: int, deadline: CallDeadline, *, ours: bool
    ) -> None:
        """Returns once the key's partition is folded past an offset. `ours`: this process wrote the record, so the log
        has it. Raises TimeoutError, NotReady, BrokerUnavailable; and ApiError INVALID_FIELDS for an offset beyond the
        end of the log, OVERLOADED if too many calls are waiting."""
        where = (ORDERS.name, partition)

        def check() -> bool | None:
            self._view.get(key)  # Raises NotReady once the partition is not ours.
            return True if self._view.position(*where) > offset else None

        if check() is not None:
            return
        if ours:
            await self._wait(where, check, deadline)
            return
        with self._limiter.slot("wait for their consistency tokens"):
            if offset >= self._ends.get(where, 0) and offset >= await self._read_end_shared(where, deadline):
                raise invalid_field("consistency_token", "names no record of the log")
            await self._wait(where, check, deadline)

    async def wait_until_decided(
        self, group: str, partition: int, log: str, version: int, deadline: CallDeadline
    ) -> None:
        """Returns once a version of a group is folded from `log`, the topic of its decisions or of its payments'.

        Raises as `wait_until_folded`, INVALID_FIELDS for a version that the log does not have.
        """
        where = (log, partition)

        def check() -> bool | None:
            orders = self._view.get(group)
            return True if orders is not None and _VERSIONS[log](orders) >= version else None

        if check() is not None:
            return
        with self._limiter.slot("wait for their consistency tokens"):
            with suppress(TimeoutError):
                await self._waiter.until(group, check, deadline.left_s(SHOWN_BEFORE_S))
                return
            end = await self._read_end_shared(where, deadline)

            def check_log() -> bool | None:
                return True if self._view.position(*where) >= end else check()

            await self._wait(where, check_log, deadline)
            if check() is None:
                raise invalid_field("consistency_token", "names no decision of the log")

    async def _wait(self, where: _Partition, check: Callable[[], bool | None], deadline: CallDeadline) -> None:
        await self._waiter.until(position_key(*where), check, deadline.left_s())

    async def _read_end_shared(self, where: _Partition, deadline: CallDeadline) -> int:
        """The end of a partition, read after the call. Raises TimeoutError and BrokerUnavailable."""
        read = self._scheduled.get(where)
        if read is None:
            read = self._scheduled[where] = asyncio.create_task(self._read_end(where), name="end of the log")
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
        return self._ends.get(where, 0)

    async def _read_end(self, where: _Partition) -> BrokerUnavailable | None:
        """Reads the end of a partition; returns the error if it fails. A call that comes after the start of the read
        needs another one, because its record can be newer."""
        loop = asyncio.get_running_loop()
        try:
            delay_s = self._read_at.get(where, -READ_INTERVAL_S) + READ_INTERVAL_S - loop.time()
            if delay_s > 0:
                await asyncio.sleep(delay_s)
        finally:
            del self._scheduled[where]
        self._read_at[where] = loop.time()
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                end = await self._view.end(*where)
        except (KafkaError, OSError) as error:
            # TimeoutError is an OSError.
            return BrokerUnavailable(f"the end of the log could not be read: {error!r}")
        self._ends[where] = max(end, self._ends.get(where, 0))
        return None
