"""Places many orders together: looked at one by one, stated in one go, answered one by one.

One that fails leaves the others alone. An order is answered once it is safe in the log. Orders under way are limited:
by kind, so that those that wait for their groups to close take no place of the others; and by identity.
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
from chassis.rpc.call_deadline import CallDeadline
from chassis.rpc.errors import to_api_error, to_status
from chassis.rpc.validation import validate
from eventlog.core.errors import NotReady
from eventlog.processors.time_slice import TimeSlice
from services.orders.api.errors import request_id_reused
from services.orders.api.event_publisher import OrderEventPublisher
from services.orders.api.parsed_order import ParsedOrder, parse_order
from services.orders.api.place_order import PlaceOrderHandler, accept
from services.orders.domain.ids import OrderName

#: Orders of batches and streams under way in one process, and those of one identity.
MAX_UNDER_WAY = 20_000
SHARE = 16_000
#: Those of messages in which an order waits for its group to close, for a minute perhaps.
MAX_CLOSING = 4_000
SHARE_CLOSING = 2_000
#: Orders of one stream under way, their answers on the way back included.
MAX_OF_A_STREAM = 2_000

#: Tasks begun before the event loop does something else: each takes 0.1 ms and more in its first turn.
TASKS = 20

#: Gives the result of a request, by its index and once, to be filled in at once.
ResultOf = Callable[[int], PlaceOrderResult]


class BatchPlaceOrders:
    """Places orders by the hundred."""

    def __init__(
        self,
        placing: PlaceOrderHandler,
        facts: OrderEventPublisher,
        replicas: LocalRouter,
        room: CapacityLimiter | None = None,
    ) -> None:
        self._placing = placing
        self._replicas = replicas
        self._facts = facts
        self._room = room or CapacityLimiter(MAX_UNDER_WAY, SHARE)
        self._closing = CapacityLimiter(MAX_CLOSING, SHARE_CLOSING)

    def _room_of(self, requests: Sequence[PlaceOrderRequest]) -> CapacityLimiter:
        """The room in which orders of one message have their places until the last of them is answered."""
        return self._closing if any(one.wait == WAIT_FINAL for one in requests) else self._room

    async def batch(self, requests: Sequence[PlaceOrderRequest], context: Context) -> BatchPlaceOrdersResponse:
        """What became of each, in their order. Raises ApiError OVERLOADED where there is no room for all of them."""
        room, places = self._room_of(requests), len(requests)
        if not room.try_acquire(places):
            raise at_capacity(f"{room.in_use} orders of batches are under way already, or too many of this caller")
        # Results are filled in where they are: to make them apart and have them copied takes longer.
        answer = BatchPlaceOrdersResponse()
        results = [answer.results.add(index=index) for index in range(len(requests))]
        try:
            await self._place(0, requests, context, results.__getitem__)
        finally:
            room.release(places)
        return answer

    async def stream(
        self, messages: AsyncIterator[PlaceOrdersRequest], context: Context
    ) -> AsyncGenerator[PlaceOrdersResponse, None]:
        """What became of each, as soon as it is known. Takes no more in while much is under way.

        An error of the stream itself comes after the answers to what was taken in before it.
        """
        flow = _Flow()
        reading = asyncio.create_task(self._read(messages, context, flow), name="orders of a stream")
        reading.add_done_callback(lambda _: flow.wake.set())
        try:
            while True:
                answer = flow.collect()
                if answer.results:
                    yield answer
                    flow.room.release(len(answer.results))
                elif reading.done():
                    await reading
                    return
                else:
                    await flow.wake.wait()
                    flow.wake.clear()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, messages: AsyncIterator[PlaceOrdersRequest], context: Context, flow: _Flow) -> None:
        tasks: set[asyncio.Task[None]] = set()
        index = 0
        ended: Exception | None = None
        try:
            try:
                async for message in messages:
                    requests = message.requests
                    await flow.room.acquire(len(requests))
                    task = asyncio.create_task(self._take_in(index, requests, context, flow))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                    index += len(requests)
            except Exception as error:  # noqa: BLE001 - raised below, after the answers
                ended = error
            await asyncio.gather(*tasks)
            if ended is not None:
                raise ended
        finally:
            # Left over only where the stream itself was cancelled.
            for task in tasks:
                task.cancel()

    async def _take_in(self, first: int, requests: Sequence[PlaceOrderRequest], context: Context, flow: _Flow) -> None:
        room, places = self._room_of(requests), len(requests)
        await room.acquire(places)
        try:
            await self._place(first, requests, context, flow.result_of)
        finally:
            room.release(places)

    async def _place(
        self, first: int, requests: Sequence[PlaceOrderRequest], context: Context, result_of: ResultOf
    ) -> None:
        """Places them all and fills in the result of each. Raises nothing but its cancellation."""
        deadline = CallDeadline(context)
        elsewhere: list[tuple[int, ParsedOrder]] = []
        slow: list[tuple[int, ParsedOrder]] = []
        together: list[tuple[int, ParsedOrder]] = []
        digests: dict[OrderName, bytes] = {}
        # By the clock: an order that is refused takes ten times as long as another.
        slices = TimeSlice()
        for index, request in enumerate(requests, first):
            name: OrderName | None = None
            try:
                validate(request)
                asked = parse_order(request)
                name = asked.name
                repeated = digests.setdefault(name, asked.digest)
                if repeated != asked.digest:
                    raise request_id_reused(name)  # noqa: TRY301 - every failure becomes an answer in one place
                try:
                    alone = repeated is not asked.digest or self._placing.known(asked) is not None
                    (slow if alone or not self._placing.check_now(asked) else together).append((index, asked))
                except NotReady:
                    elsewhere.append((index, asked))
            except Exception as error:  # noqa: BLE001 - each is answered, and logged unless it was foreseen
                _fail(result_of(index), name, error)
            if slices.expired():
                await slices.yield_to_loop()
        async with asyncio.TaskGroup() as tasks:
            for batch in by_owner(elsewhere, self._replicas):
                tasks.create_task(self._elsewhere(batch, context, result_of))
            await self._together(together, slow, context, deadline, result_of)

    async def _together(
        self,
        together: list[tuple[int, ParsedOrder]],
        slow: list[tuple[int, ParsedOrder]],
        context: Context,
        deadline: CallDeadline,
        result_of: ResultOf,
    ) -> None:
        facts = [self._placing.fact(asked) for _, asked in together]
        positions = await self._facts.append_all(facts, deadline) if facts else []
        async with asyncio.TaskGroup() as tasks:
            for (index, asked), position in zip(together, positions, strict=True):
                try:
                    if isinstance(position, Exception):
                        raise position  # noqa: TRY301 - every failure becomes an answer in one place
                    seen = self._placing.stated(asked, position)
                except Exception as error:  # noqa: BLE001 - as above
                    _fail(result_of(index), asked.name, error)
                    continue
                if asked.request.wait == WAIT_ACCEPTED:
                    # Has nothing to wait for: a task of its own would cost more than the answer.
                    result = result_of(index)
                    accept(result, asked, position, seen)
                    result.name = result.order.name
                else:
                    answer = self._placing.decided(asked, position, deadline, fresh=True)
                    tasks.create_task(_answer(index, asked.name, self._whole(asked, answer, context), result_of))
                if index % TASKS == TASKS - 1:
                    await asyncio.sleep(0)
            for number, (index, asked) in enumerate(slow, 1):
                tasks.create_task(self._one(index, asked, context, result_of))
                if number % TASKS == 0:
                    await asyncio.sleep(0)

    async def _one(self, index: int, asked: ParsedOrder, context: Context, result_of: ResultOf) -> None:
        await _answer(index, asked.name, self._placing.place_asked(asked, self._replicas, context), result_of)

    async def _whole(
        self, asked: ParsedOrder, answer: Awaitable[PlaceOrderResponse], context: Context
    ) -> PlaceOrderResponse:
        """The answer, also where the partition goes to another replica before it comes."""
        try:
            return await answer
        except NotReady:
            return await self._placing.place_asked(asked, self._replicas, context)

    async def _elsewhere(self, batch: list[tuple[int, ParsedOrder]], context: Context, result_of: ResultOf) -> None:
        """Has orders placed by another replica, which owns the partitions of all of them; one by one where it does not
        any more."""

        async def here() -> BatchPlaceOrdersResponse:
            raise NotReady("was not ready here a moment ago")

        left = batch
        if len(batch) > 1 and self._replicas.owner(batch[0][1].name.group):
            request = BatchPlaceOrdersRequest(requests=[asked.request for _, asked in batch])
            where = batch[0][1].name.group
            try:
                answer = await self._replicas.call_owner("BatchPlaceOrders", where, request, context, here)
            except Exception as error:  # noqa: BLE001 - each is answered, and logged unless it was foreseen
                for index, asked in batch:
                    _fail(result_of(index), asked.name, error)
                return
            left = []
            for result in answer.results:
                index, asked = batch[result.index]
                if is_not_ready(result.status):
                    left.append((index, asked))
                    continue
                result.index = index
                result_of(index).CopyFrom(result)
        async with asyncio.TaskGroup() as tasks:
            for index, asked in left:
                tasks.create_task(self._one(index, asked, context, result_of))


def by_owner(orders: Sequence[tuple[int, ParsedOrder]], replicas: LocalRouter) -> list[list[tuple[int, ParsedOrder]]]:
    """Orders in batches, each for one replica."""
    batches: dict[str, list[tuple[int, ParsedOrder]]] = {}
    for order in orders:
        batches.setdefault(replicas.owner(order[1].name.group), []).append(order)
    return list(batches.values())


class _Flow:
    """The answers of one stream on their way back."""

    def __init__(self) -> None:
        self.room = CapacityLimiter(MAX_OF_A_STREAM)
        self.wake = asyncio.Event()
        self._answer = PlaceOrdersResponse()

    def result_of(self, index: int) -> PlaceOrderResult:
        """Adds the result of a request, to be filled in before anybody else has a turn."""
        self.wake.set()
        return self._answer.results.add(index=index)

    def collect(self) -> PlaceOrdersResponse:
        """All results that have come since, in one message."""
        answer, self._answer = self._answer, PlaceOrdersResponse()
        return answer


async def _answer(index: int, name: OrderName, answer: Awaitable[PlaceOrderResponse], result_of: ResultOf) -> None:
    try:
        found = await answer
    except Exception as error:  # noqa: BLE001 - each is answered, and logged unless it was foreseen
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
