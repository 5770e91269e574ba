"""The processors and readers of one process, started and stopped together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from eventlog.core.errors import Poisoned
from eventlog.processors.base import Processor


class Reader(Protocol):
    """A reader that must know its topic before the processors start, such as a GlobalTable."""

    async def start(self, partitions: int) -> None:
        """Starts; returns when its topic is read to the end."""
        ...

    async def stop(self) -> None:
        """Stops reading."""
        ...


class ProcessorGroup:
    """The processors of one process, and the readers that they use."""

    def __init__(
        self,
        processors: Sequence[Processor],
        readers: Sequence[Reader] = (),
        closing: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        """`closing` are called at the end of `stop`, to close the resources that the processors use."""
        #: The processors, in the given order.
        self.processors: tuple[Processor, ...] = tuple(processors)
        self._readers = list(readers)
        self._closing = list(closing)
        self._started = False

    @property
    def ready(self) -> bool:
        """Whether every processor is ready."""
        return self._started and all(processor.ready for processor in self.processors)

    @property
    def quarantined(self) -> list[tuple[str, Poisoned]]:
        """Records that quarantine partitions, each with the consumer group of its processor."""
        return [(processor.group, one) for processor in self.processors for one in processor.quarantined.values()]

    async def start(self, partitions: int) -> None:
        """Starts the readers, then all processors concurrently; returns when they have recovered."""
        for reader in self._readers:
            await reader.start(partitions)
        await asyncio.gather(*(processor.start(partitions) for processor in self.processors))
        self._started = True

    async def stop(self) -> None:
        """Stops the processors, then the readers."""
        self._started = False
        await asyncio.gather(*(processor.stop() for processor in self.processors))
        for reader in self._readers:
            await reader.stop()
        for close in self._closing:
            await close()
