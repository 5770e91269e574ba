"""Places many orders together: looked at one by one, stated in one go, answered one by one.

One that fails leaves the others alone. Must never hold more orders than there is room for in the process, nor answer
for an order before it is safe in the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

import grpc
from groupbuy.errors.v1 import errors_pb2
from groupbuy.orders.v1.orders_pb2 import (
    WAIT_ACCEPTED,
    PlaceOrderRequest,
    PlaceOrderResponse,
    PlaceOrderResult,
    PlaceOrdersRequest,
)

from chassis.calls import OVERLOADED_RETRY_MS
from chassis.errors import ApiError, to_api_error, to_status
from chassis.room import Room
from chassis.validation import validate
from chassis.waiting import Patience, Timed
from services.orders.api.facts import Facts
from services.orders.api.placing import Asked, Placing, understood
from services.orders.api.refusals import request_id_reused
from services.orders.domain.ids import OrderName

#: Orders of batches and streams under way in one process.
MOST_UNDER_WAY = 20_000
#: Orders of one stream under way, their answers on the way back included.
MOST_OF_A_STREAM = 2_000

#: Orders looked at before the event loop does something else.
SLICE = 100

Tell = Callable[[PlaceOrderResult], None]


class Bulk:
    """Places orders by the hundred."""

    def __init__(self, placing: Placing, facts: Facts, room: Room | None = None) -> None:
        self._placing = placing
        self._facts = facts
        self._room = room or Room(MOST_UNDER_WAY)

    async def batch(self, requests: Sequence[PlaceOrderRequest], patience: Patience) -> list[PlaceOrderResult]:
        """What became of each, in their order. Raises ApiError OVERLOADED where there is no room for all of them."""
        if not self._room.try_take(len(requests)):
            raise ApiError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                errors_pb2.ERROR_REASON_OVERLOADED,
                f"{self._room.taken} orders of batches are under way already; call again later",
                retry_after_ms=OVERLOADED_RETRY_MS,
            )
        try:
            results: list[PlaceOrderResult] = []
            await self._place(0, requests, patience, results.append)
        finally:
            self._room.give(len(requests))
        results.sort(key=lambda result: result.index)
        return results

    async def stream(
        self, messages: AsyncIterator[PlaceOrdersRequest], context: Timed
    ) -> AsyncGenerator[list[PlaceOrderResult], None]:
        """What became of each, as soon as it is known. Takes no more in while much is under way.

        An error of the stream itself comes after the answers to what was taken in before it.
        """
        flow = _Flow()
        reading = asyncio.create_task(self._read(messages, context, flow), name="orders of a stream")
        reading.add_done_callback(lambda _: flow.wake.set())
        try:
            while True:
                results = flow.collect()
                if results:
                    yield results
                    flow.room.give(len(results))
                elif reading.done():
                    await reading
                    return
                else:
                    await flow.wake.wait()
                    flow.wake.clear()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, messages: AsyncIterator[PlaceOrdersRequest], context: Timed, flow: _Flow) -> None:
        tasks: set[asyncio.Task[None]] = set()
        index = 0
        ended: Exception | None = None
        try:
            try:
                async for message in messages:
                    requests = message.requests
                    await flow.room.take(len(requests))
                    task = asyncio.create_task(self._take_in(index, requests, Patience(context), flow))
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

    async def _take_in(
        self, first: int, requests: Sequence[PlaceOrderRequest], patience: Patience, flow: _Flow
    ) -> None:
        await self._room.take(len(requests))
        try:
            await self._place(first, requests, patience, flow.tell)
        finally:
            self._room.give(len(requests))

    async def _place(self, first: int, requests: Sequence[PlaceOrderRequest], patience: Patience, tell: Tell) -> None:
        """Places them all and tells the result of each. Raises nothing but its cancellation."""
        slow: list[tuple[int, Asked]] = []
        together: list[tuple[int, Asked]] = []
        digests: dict[OrderName, bytes] = {}
        for index, request in enumerate(requests, first):
            name: OrderName | None = None
            try:
                validate(request)
                asked = understood(request)
                name = asked.name
                repeated = digests.setdefault(name, asked.digest)
                if repeated != asked.digest:
                    raise request_id_reused(name)  # noqa: TRY301 - every failure becomes an answer in one place
                if repeated is asked.digest and self._placing.known(asked) is None and self._placing.check_now(asked):
                    together.append((index, asked))
                else:
                    slow.append((index, asked))
            except Exception as error:  # noqa: BLE001 - each is answered, and logged unless it was foreseen
                tell(_failed(index, name, error))
            if index % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        await self._together(together, slow, patience, tell)

    async def _together(
        self,
        together: list[tuple[int, Asked]],
        slow: list[tuple[int, Asked]],
        patience: Patience,
        tell: Tell,
    ) -> None:
        facts = [self._placing.fact(asked) for _, asked in together]
        positions = await self._facts.append_all(facts, patience) if facts else []
        async with asyncio.TaskGroup() as tasks:
            for (index, asked), fact, position in zip(together, facts, positions, strict=True):
                try:
                    if isinstance(position, Exception):
                        raise position  # noqa: TRY301 - every failure becomes an answer in one place
                    seen, token = self._placing.stated(asked, fact, position)
                    answer = self._placing.answer(asked, seen, token, patience, fresh=True)
                except Exception as error:  # noqa: BLE001 - as above
                    tell(_failed(index, asked.name, error))
                    continue
                if asked.request.wait == WAIT_ACCEPTED:
                    # Has nothing to wait for: a task of its own would cost more than the answer.
                    await _tell_of(index, asked.name, answer, tell)
                else:
                    tasks.create_task(_tell_of(index, asked.name, answer, tell))
                if index % SLICE == SLICE - 1:
                    await asyncio.sleep(0)
            for index, asked in slow:
                tasks.create_task(_tell_of(index, asked.name, self._placing.place(asked.request, patience), tell))


class _Flow:
    """The answers of one stream on their way back."""

    def __init__(self) -> None:
        self.room = Room(MOST_OF_A_STREAM)
        self.wake = asyncio.Event()
        self._results: list[PlaceOrderResult] = []

    def tell(self, result: PlaceOrderResult) -> None:
        """Adds an answer."""
        self._results.append(result)
        self.wake.set()

    def collect(self) -> list[PlaceOrderResult]:
        """All answers that have come since, to be sent in one message."""
        results, self._results = self._results, []
        return results


async def _tell_of(index: int, name: OrderName, answer: Awaitable[PlaceOrderResponse], tell: Tell) -> None:
    try:
        found = await answer
    except Exception as error:  # noqa: BLE001 - each is answered, and logged unless it was foreseen
        tell(_failed(index, name, error))
    else:
        tell(PlaceOrderResult(index=index, name=str(name), order=found.order, token=found.token))


def _failed(index: int, name: OrderName | None, error: Exception) -> PlaceOrderResult:
    refusal = to_api_error(error, method="one order of several")
    return PlaceOrderResult(index=index, name=str(name) if name else "", status=to_status(refusal))
