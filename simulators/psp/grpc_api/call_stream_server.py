"""Calls multiplexed on one stream: each is made on its own and answered as soon as it ends.

At most MAX_IN_FLIGHT calls are in flight; beyond that the stream is not read, so gRPC's flow control stops the sender.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

#: Calls of one stream in flight.
MAX_IN_FLIGHT = 5_000

#: Makes one call; does not raise.
MakeCall = Callable[[pb.Call], Awaitable[pb.Answer]]


async def answer_calls(
    calls: AsyncIterator[pb.MakeCallsRequest], make: MakeCall
) -> AsyncGenerator[list[pb.Answer], None]:
    """Yields the answers in batches of those that are ready. Ends after the last one."""
    ready: list[pb.Answer] = []
    wake = asyncio.Event()
    in_flight = asyncio.Semaphore(MAX_IN_FLIGHT)
    tasks: set[asyncio.Task[None]] = set()

    async def one(call: pb.Call) -> None:
        ready.append(await make(call))
        wake.set()

    def ended(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        in_flight.release()
        wake.set()

    async def read() -> None:
        async for message in calls:
            for call in message.calls:
                await in_flight.acquire()
                task = asyncio.create_task(one(call))
                tasks.add(task)
                task.add_done_callback(ended)

    reading = asyncio.create_task(read(), name="calls of a stream")
    reading.add_done_callback(lambda _: wake.set())
    try:
        while True:
            if ready:
                batch = ready[:]
                ready.clear()
                yield batch
            elif reading.done() and not tasks:
                await reading
                return
            else:
                await wake.wait()
                wake.clear()
    finally:
        for task in (reading, *tasks):
            task.cancel()
        await asyncio.gather(reading, *tasks, return_exceptions=True)
