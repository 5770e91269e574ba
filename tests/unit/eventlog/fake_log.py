"""A fake of a partition and of aiokafka's consumer that reads it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from aiokafka.errors import KafkaConnectionError


class FakeLog:
    """Records by offset. Replaces the class AIOKafkaConsumer; each poll returns at most one record."""

    def __init__(self, records: list[Any]) -> None:
        self.records = records
        #: Number of consumers whose start fails.
        self.failing_starts = 0
        self.stopped = 0

    def __call__(self, **_: Any) -> Any:
        position = 0

        async def start() -> None:
            if self.failing_starts:
                self.failing_starts -= 1
                raise KafkaConnectionError("away")

        async def stop() -> None:
            self.stopped += 1

        def seek(tp: Any, offset: int) -> None:
            nonlocal position
            position = offset

        async def getmany(tp: Any, timeout_ms: int) -> dict[Any, list[Any]]:
            nonlocal position
            await asyncio.sleep(0)
            found = [record for record in self.records if record.offset >= position][:1]
            position = found[0].offset + 1 if found else position
            return {tp: found}

        return SimpleNamespace(start=start, stop=stop, assign=lambda tps: None, seek=seek, getmany=getmany)
