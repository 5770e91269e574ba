"""All processors and readers of one process: started together, stopped together, ready when each of them is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from eventlog.core.errors import Poisoned
from eventlog.processors.base import Processor


class Reader(Protocol):
    """Something that must know its topic before the processors start, such as a CompactedReader."""

    async def start(self, partitions: int) -> None:
        """Returns when it has read its topic to the end."""
        ...

    async def stop(self) -> None:
        """Stops reading."""
        ...


class ProcessorGroup:
    """Processors of one process, and the readers that they lean on."""

    def __init__(
        self,
        processors: Sequence[Processor],
        readers: Sequence[Reader] = (),
        closing: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        """`closing` is called at the end of `stop`: for what the processors use and nobody else closes."""
        self._processors = list(processors)
        self._readers = list(readers)
        self._closing = list(closing)
        self._started = False

    @property
    def ready(self) -> bool:
        """Whether the state of every processor can be read."""
        return self._started and all(processor.ready for processor in self._processors)

    @property
    def quarantined(self) -> list[tuple[str, Poisoned]]:
        """Records at which partitions stand still, each with its consumer group."""
        return [(processor.group, one) for processor in self._processors for one in processor.quarantined.values()]

    async def start(self, partitions: int) -> None:
        """Starts the readers, then all processors at once; returns when they have recovered."""
        for reader in self._readers:
            await reader.start(partitions)
        await asyncio.gather(*(processor.start(partitions) for processor in self._processors))
        self._started = True

    async def stop(self) -> None:
        """Drains the processors, then stops the readers."""
        self._started = False
        await asyncio.gather(*(processor.stop() for processor in self._processors))
        for reader in self._readers:
            await reader.stop()
        for close in self._closing:
            await close()
