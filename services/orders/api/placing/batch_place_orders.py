"""Places many orders of one call: checks them one by one, appends them together, and answers them one by one.

Each order succeeds or fails on its own, and is answered once the log has it. Orders in flight are limited for each
identity. Orders that wait for their final state have a limit of their own, so that they do not block the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

from groupbuy.orders.v1.orders_pb2 import (
    WAIT_ACCEPTED,
    WAIT_FINAL,
    BatchPlaceOrdersRequest,
    BatchPlaceOrdersResponse,
    PlaceOrderRequest,
    PlaceOrderResponse,
    PlaceOrderResult,
    PlaceOrdersRequest,
    PlaceOrdersResponse,
)

from chassis.admission.capacity import CapacityLimiter, at_capacity
from chassis.routing.partition_router import LocalRouter
from chassis.routing.peer_calls import Context, is_not_ready
from chassis.rpc.errors import to_api_error, to_status
from chassis.rpc.streaming.call_deadline import CallDeadline
from chassis.rpc.validation import validate
from eventlog.core.errors import NotReady
from eventlog.runtime.time_slice import TimeSlice
from services.orders.api.errors import request_id_reused
from services.orders.api.placing.event_publisher import OrderEventPublisher
from services.orders.api.placing.parsed_order import ParsedOrder, parse_order
from services.orders.api.placing.place_order import PlaceOrderHandler, fill_accepted
from services.orders.domain.ids import OrderName

#: Orders of batches and streams in flight in one process, and the share of one identity.
MAX_IN_FLIGHT = 20_000
SHARE = 16_000
#: The same for messages with an order that waits for its final state, which can take minutes.
MAX_WAIT_FINAL = 4_000
SHARE_WAIT_FINAL = 2_000
#: Orders of one stream in flight, until their answers are sent.
MAX_IN_STREAM = 2_000

#: Tasks started before a yield to the event loop: the first step of each takes at least 0.1 ms.
TASKS_BATCH = 20

#: Index of a request -> its empty result. Call it once and fill the result in before the next await.
ResultOf = Callable[[int], PlaceOrderResult]


class BatchPlaceOrders:
    """Handler of BatchPlaceOrders and PlaceOrders."""

    def __init__(
        self,
        place_order: PlaceOrderHandler,
        event_publisher: OrderEventPublisher,
        replicas: LocalRouter,
        limiter: CapacityLimiter | None = None,
    ) -> None:
        self._place_order = place_order
        self._replicas = replicas
        self._event_publisher = event_publisher
        self._limiter = limiter or CapacityLimiter(MAX_IN_FLIGHT, SHARE)
        self._wait_final = CapacityLimiter(MAX_WAIT_FINAL, SHARE_WAIT_FINAL)

    def _limiter_of(self, requests: Sequence[PlaceOrderRequest]) -> CapacityLimiter:
        """The limiter of a message's orders. It holds their slots until the last of them is answered."""
        return self._wait_final if any(request.wait == WAIT_FINAL for request in requests) else self._limiter

    async def batch(self, requests: Sequence[PlaceOrderRequest], context: Context) -> BatchPlaceOrdersResponse:
        """Places the orders of one batch. Raises ApiError OVERLOADED if the process is at capacity."""
        limiter, slots = self._limiter_of(requests), len(requests)
        if not limiter.try_acquire(slots):
            raise at_capacity(f"{limiter.in_use} orders of batches are in flight, or this caller has reached its share")
        # Results are filled in inside the answer, because copying them takes longer.
        answer = BatchPlaceOrdersResponse()
        results = [answer.results.add(index=index) for index in range(len(requests))]
        try:
            await self._place(0, requests, context, results.__getitem__)
        finally:
            limiter.release(slots)
        return answer

    async def stream(
        self, messages: AsyncIterator[PlaceOrdersRequest], context: Context
    ) -> AsyncGenerator[PlaceOrdersResponse, None]:
        """Places the orders of a stream and sends each result as it becomes known. Stops reading at capacity.

        An error of the stream is raised after the results of the orders that were read before it.
        """
        pending = _PendingResults()
        reading = asyncio.create_task(self._read(messages, context, pending), name="orders of a stream")
        reading.add_done_callback(lambda _: pending.wake.set())
        try:
            while True:
                answer = pending.collect()
                if answer.results:
                    yield answer
                    pending.limiter.release(len(answer.results))
                elif reading.done():
                    await reading
                    return
                else:
                    await pending.wake.wait()
                    pending.wake.clear()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(
        self, messages: AsyncIterator[PlaceOrdersRequest], context: Context, pending: _PendingResults
    ) -> None:
        tasks: set[asyncio.Task[None]] = set()
        index = 0
        ended: Exception | None = None
        try:
            try:
                async for message in messages:
                    requests = message.requests
                    await pending.limiter.acquire(len(requests))
                    task = asyncio.create_task(self._place_message(index, requests, context, pending))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                    index += len(requests)
            except Exception as error:  # noqa: BLE001 - raised below, after the results
                ended = error
            await asyncio.gather(*tasks)
            if ended is not None:
                raise ended
        finally:
            # Tasks are left only if the stream was cancelled.
            for task in tasks:
                task.cancel()

    async def _place_message(
        self, first: int, requests: Sequence[PlaceOrderRequest], context: Context, pending: _PendingResults
    ) -> None:
        limiter, slots = self._limiter_of(requests), len(requests)
        await limiter.acquire(slots)
        try:
            await self._place(first, requests, context, pending.result_of)
        finally:
            limiter.release(slots)

    async def _place(
        self, first: int, requests: Sequence[PlaceOrderRequest], context: Context, result_of: ResultOf
    ) -> None:
        """Places orders and fills in the result of each. Raises CancelledError only."""
        deadline = CallDeadline(context)
        remote: list[tuple[int, ParsedOrder]] = []
        separate: list[tuple[int, ParsedOrder]] = []
        batched: list[tuple[int, ParsedOrder]] = []
        digests: dict[OrderName, bytes] = {}
        names: dict[tuple[str, str], OrderName] = {}
        # By time, not by count: a refused order takes ten times as long as another.
        slices = TimeSlice()
        for index, request in enumerate(requests, first):
            name: OrderName | None = None
            try:
                validate(request)
                parsed = parse_order(request)
                name = parsed.name
                first_digest = digests.setdefault(name, parsed.digest)
                first_name = names.setdefault((request.customer, request.request_id), name)
                if first_digest != parsed.digest or first_name != name:
                    raise request_id_reused(first_name)  # noqa: TRY301 - all failures become results in one place
                try:
                    is_duplicate = (
                        first_digest is not parsed.digest or self._place_order.find_placed(parsed) is not None
                    )
                    can_append = not is_duplicate and self._place_order.try_check(parsed)
                    (batched if can_append else separate).append((index, parsed))
                except NotReady:
                    remote.append((index, parsed))
            except Exception as error:  # noqa: BLE001 - becomes a result; unexpected errors are logged
                _fail(result_of(index), name, error)
            if slices.expired():
                await slices.yield_to_loop()
        async with asyncio.TaskGroup() as tasks:
            for batch in by_owner(remote, self._replicas):
                tasks.create_task(self._place_remote(batch, context, result_of))
            await self._place_batched(batched, separate, context, deadline, result_of)

    async def _place_batched(
        self,
        batched: list[tuple[int, ParsedOrder]],
        separate: list[tuple[int, ParsedOrder]],
        context: Context,
        deadline: CallDeadline,
        result_of: ResultOf,
    ) -> None:
        records = [self._place_order.event_record(parsed) for _, parsed in batched]
        positions = await self._event_publisher.append_all(records, deadline) if records else []
        async with asyncio.TaskGroup() as tasks:
            for (index, parsed), position in zip(batched, positions, strict=True):
                try:
                    if isinstance(position, Exception):
                        raise position  # noqa: TRY301 - all failures become results in one place
                    snapshot = self._place_order.mark_appended(parsed, position)
                except Exception as error:  # noqa: BLE001 - as above
                    _fail(result_of(index), parsed.name, error)
                    continue
                if parsed.request.wait == WAIT_ACCEPTED:
                    # Nothing to wait for: a task would cost more than the answer.
                    result = result_of(index)
                    fill_accepted(result, parsed, position, snapshot)
                    result.name = result.order.name
                else:
                    answer = self._place_order.wait_decided(parsed, position, deadline, fresh=True)
                    tasks.create_task(
                        _answer(index, parsed.name, self._answer_or_retry(parsed, answer, context), result_of)
                    )
                if index % TASKS_BATCH == TASKS_BATCH - 1:
                    await asyncio.sleep(0)
            for number, (index, parsed) in enumerate(separate, 1):
                tasks.create_task(self._place_one(index, parsed, context, result_of))
                if number % TASKS_BATCH == 0:
                    await asyncio.sleep(0)

    async def _place_one(self, index: int, parsed: ParsedOrder, context: Context, result_of: ResultOf) -> None:
        await _answer(index, parsed.name, self._place_order.place_at_owner(parsed, self._replicas, context), result_of)

    async def _answer_or_retry(
        self, parsed: ParsedOrder, answer: Awaitable[PlaceOrderResponse], context: Context
    ) -> PlaceOrderResponse:
        """The answer. If the partition moves before it comes, the order is placed again at the new owner."""
        try:
            return await answer
        except NotReady:
            return await self._place_order.place_at_owner(parsed, self._replicas, context)

    async def _place_remote(self, batch: list[tuple[int, ParsedOrder]], context: Context, result_of: ResultOf) -> None:
        """Places orders at the replica that owns their partitions. Orders whose partitions have moved are placed one by
        one."""

        async def here() -> BatchPlaceOrdersResponse:
            raise NotReady("the partition is not ready here")

        left = batch
        if len(batch) > 1 and self._replicas.owner(batch[0][1].name.group):
            request = BatchPlaceOrdersRequest(requests=[parsed.request for _, parsed in batch])
            where = batch[0][1].name.group
            try:
                answer = await self._replicas.call_owner("BatchPlaceOrders", where, request, context, here)
            except Exception as error:  # noqa: BLE001 - becomes a result; unexpected errors are logged
                for index, parsed in batch:
                    _fail(result_of(index), parsed.name, error)
                return
            left = []
            for result in answer.results:
                index, parsed = batch[result.index]
                if is_not_ready(result.status):
                    left.append((index, parsed))
                    continue
                result.index = index
                result_of(index).CopyFrom(result)
        async with asyncio.TaskGroup() as tasks:
            for index, parsed in left:
                tasks.create_task(self._place_one(index, parsed, context, result_of))


def by_owner(orders: Sequence[tuple[int, ParsedOrder]], replicas: LocalRouter) -> list[list[tuple[int, ParsedOrder]]]:
    """Groups orders by the replica that owns their partitions."""
    batches: dict[str, list[tuple[int, ParsedOrder]]] = {}
    for order in orders:
        batches.setdefault(replicas.owner(order[1].name.group), []).append(order)
    return list(batches.values())


class _PendingResults:
    """Results of one stream that are not sent yet."""

    def __init__(self) -> None:
        self.limiter = CapacityLimiter(MAX_IN_STREAM)
        self.wake = asyncio.Event()
        self._answer = PlaceOrdersResponse()

    def result_of(self, index: int) -> PlaceOrderResult:
        """Adds an empty result. Fill it in before the next await."""
        self.wake.set()
        return self._answer.results.add(index=index)

    def collect(self) -> PlaceOrdersResponse:
        """All results since the last call, in one message."""
        answer, self._answer = self._answer, PlaceOrdersResponse()
        return answer


async def _answer(index: int, name: OrderName, answer: Awaitable[PlaceOrderResponse], result_of: ResultOf) -> None:
    try:
        found = await answer
    except Exception as error:  # noqa: BLE001 - becomes a result; unexpected errors are logged
        _fail(result_of(index), name, error)
    else:
        result = result_of(index)
        result.name = found.order.name
        result.order.CopyFrom(found.order)
        result.consistency_token = found.consistency_token


def _fail(result: PlaceOrderResult, name: OrderName | None, error: Exception) -> None:
    refusal = to_api_error(error, method="one order of several")
    result.name = str(name) if name else ""
    result.status.CopyFrom(to_status(refusal))
