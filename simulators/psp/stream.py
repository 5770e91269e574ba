"""Many of the merchant's calls on one stream: each is made by itself, and answered as soon as it can be.

What befalls one befalls it alone. Must never hold more calls than there is room for: whoever sends more waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

#: Calls of one stream under way at once.
MAX = 5_000

#: Makes one call. Must not raise.
Make = Callable[[pb.Call], Awaitable[pb.Answer]]


async def answered(calls: AsyncIterator[pb.MakeCallsRequest], make: Make) -> AsyncGenerator[list[pb.Answer], None]:
    """The answers, those that are there together in one piece. Ends with the last one."""
    ready: list[pb.Answer] = []
    wake = asyncio.Event()
    room = asyncio.Semaphore(MAX)
    tasks: set[asyncio.Task[None]] = set()

    async def one(call: pb.Call) -> None:
        ready.append(await make(call))
        wake.set()

    def ended(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        room.release()
        wake.set()

    async def read() -> None:
        async for message in calls:
            for call in message.calls:
                await room.acquire()
                task = asyncio.create_task(one(call))
                tasks.add(task)
                task.add_done_callback(ended)

    reading = asyncio.create_task(read(), name="calls of a stream")
    reading.add_done_callback(lambda _: wake.set())
    try:
        while True:
            if ready:
                some = ready[:]
                ready.clear()
                yield some
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
