"""Waits until the projection has folded an offset of the orders topic, and refuses offsets that the log does not have.

Callers name offsets in their tokens, and anybody can write a token. An offset beyond what is known of the log is looked
up at the broker: one request for all calls that came before it, ten a second for each partition. A call is woken when
its partition has been folded so far; nothing polls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiokafka.errors import KafkaError

from chassis.admission.capacity import CapacityLimiter
from chassis.rpc.call_deadline import CallDeadline
from eventlog.core.errors import BrokerUnavailable
from eventlog.processors.projection import position_key
from services.orders.api.errors import invalid_field
from services.orders.api.ports import OrdersView
from services.orders.api.wait import Awaiting
from shared_kernel.topics import ORDERS

#: Calls that wait for a position in one process, and those of one identity.
MAX_WAITING = 1_000
SHARE = 500
#: Seconds between two questions to the broker about the end of one partition, and seconds that an answer may take.
ASK_AGAIN_S = 0.1
ASK_S = 5.0


class Positions:
    """Offsets of the orders topic, as the projection and the broker have them."""

    def __init__(self, view: OrdersView, awaiting: Awaiting) -> None:
        self._view = view
        self._awaiting = awaiting
        self._room = CapacityLimiter(MAX_WAITING, SHARE)
        #: End of each partition, as the broker said last.
        self._ends: dict[int, int] = {}
        #: By partition: the question that has not been sent yet, and when the last one was.
        self._asking: dict[int, asyncio.Task[BrokerUnavailable | None]] = {}
        self._questions: set[asyncio.Task[BrokerUnavailable | None]] = set()
        self._asked_at: dict[int, float] = {}

    async def reached(self, key: str, partition: int, offset: int, deadline: CallDeadline, *, ours: bool) -> None:
        """Returns once the key's partition is folded past an offset. `ours`: this process wrote there, so the log has
        it. Raises TimeoutError, NotReady, BrokerUnavailable; and ApiError INVALID_FIELDS for an offset beyond the end
        of the log, OVERLOADED where too many calls wait."""

        def look() -> bool | None:
            self._view.get(key)  # Raises NotReady as soon as the partition is not ours.
            return True if self._view.position(ORDERS.name, partition) > offset else None

        if look() is not None:
            return
        if ours:
            await self._folded(partition, look, deadline)
            return
        with self._room.slot("wait for what their tokens name"):
            await self._require_in_log(partition, offset, deadline)
            await self._folded(partition, look, deadline)

    async def _folded(self, partition: int, look: Callable[[], bool | None], deadline: CallDeadline) -> None:
        await self._awaiting.until(position_key(ORDERS.name, partition), look, deadline.left_s())

    async def _require_in_log(self, partition: int, offset: int, deadline: CallDeadline) -> None:
        if offset < self._ends.get(partition, 0):
            return
        asking = self._asking.get(partition)
        if asking is None:
            asking = self._asking[partition] = asyncio.create_task(self._ask(partition), name="end of the log")
            self._questions.add(asking)
            asking.add_done_callback(self._questions.discard)
        # Shared: it goes on for the others where one call gives up.
        await asyncio.wait([asking], timeout=deadline.left_s())
        if not asking.done():
            raise TimeoutError
        error = asking.result()
        if error is not None:
            # A copy: one error raised by hundreds of tasks would hold all of their frames.
            raise BrokerUnavailable(str(error))
        if offset >= self._ends.get(partition, 0):
            raise invalid_field("consistency_token", "is of no record in the log")

    async def _ask(self, partition: int) -> BrokerUnavailable | None:
        """Asks for the end of a partition, and returns what went wrong. A call that comes after the question was sent
        has to ask another one: its record may be newer."""
        loop = asyncio.get_running_loop()
        try:
            early_s = self._asked_at.get(partition, -ASK_AGAIN_S) + ASK_AGAIN_S - loop.time()
            if early_s > 0:
                await asyncio.sleep(early_s)
        finally:
            del self._asking[partition]
        self._asked_at[partition] = loop.time()
        try:
            async with asyncio.timeout(ASK_S):
                end = await self._view.end(ORDERS.name, partition)
        except (KafkaError, OSError) as error:
            # TimeoutError is an OSError.
            return BrokerUnavailable(f"the end of the log could not be read: {error!r}")
        self._ends[partition] = max(end, self._ends.get(partition, 0))
        return None
