"""A processor without its Faust app, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from faust.types import TP

from eventlog.core.errors import Poisoned
from eventlog.faust.held_sends import HeldSends
from eventlog.processors.base import Batch, Connection, Processor
from eventlog.processors.guards.quarantine import Quarantine
from eventlog.processors.meter import ProcessorMeter

#: A program that runs `main` with a bare processor, for run_python. It prints WENT ON if it did not end.
PROGRAM = """
    import asyncio
    from tests.unit.eventlog.processors.bare_processor import Bare, Stream
    {before}
    async def main():
        {main}
        await asyncio.sleep(5)
        print("WENT ON")
    asyncio.run(main())
"""


class Consumer:
    """The consumer's methods that a processor calls."""

    def __init__(self) -> None:
        self.held: list[TP] = []
        self.released: dict[TP, int | None] = {}
        self.dropped: list[int] = []
        self.held_sends = HeldSends()

    def hold(self, tps: Any) -> None:
        self.held += tps

    def release(self, tps: dict[TP, int | None]) -> None:
        self.released.update(tps)

    def assignment(self) -> set[TP]:
        return {TP("inbox", partition) for partition in range(3)}

    def drop_batch(self, message: Any) -> None:
        self.dropped.append(message.value[0].offset)


class Stream:
    """A Faust stream of batches, put as a partition and offsets."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.acknowledged: list[tuple[int, int]] = []

    def put(self, partition: int, *offsets: int, epoch: int = 1) -> None:
        records = [SimpleNamespace(offset=offset, value=b"%d" % offset) for offset in offsets]
        message = SimpleNamespace(topic="inbox", partition=partition, value=records, checksum=epoch)
        ack = lambda: self.acknowledged.append((partition, offsets[-1]))  # noqa: E731
        self.queue.put_nowait(SimpleNamespace(message=message, ack=ack))

    def noack(self) -> Any:
        return self

    async def events(self) -> Any:
        while True:
            yield await self.queue.get()


Outputs = Sequence[Awaitable[Any]] | None


class Bare(Processor):
    """A processor without its Faust app; `does` handles the batches."""

    ready = True
    epoch = 1

    def __init__(self, does: Callable[[Batch], Awaitable[Outputs]], skips: Any = None) -> None:
        self.group, self.inputs = "g", ("inbox",)
        self.consumer = Consumer()
        self.app = SimpleNamespace(consumer=self.consumer)
        self.connection = Connection("h:1", "w-0", Path(), skips=skips)
        self._quarantine = Quarantine(self)
        self.quarantined = self._quarantine.records
        self.meter = ProcessorMeter(self)
        self._does = does
        self.stopping = False
        self.skipped_at: list[int] = []

    async def handle(self, batch: Batch) -> Outputs:
        return await self._does(batch)

    def skipped(self, poisoned: Poisoned) -> None:
        self.skipped_at.append(poisoned.offset)


async def consuming(bare: Bare, stream: Stream, *beside: Any) -> Any:
    """Starts the processor on a stream, and other tasks. Returns a function that cancels them."""
    tasks = [asyncio.create_task(one) for one in (bare._consume(stream), *beside)]
    await asyncio.sleep(0)

    async def end() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    return end
