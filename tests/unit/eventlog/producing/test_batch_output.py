"""Output is sent in whole producer batches, and a batch is acknowledged once, with the mark of its last record."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from aiokafka.producer.message_accumulator import BatchBuilder

from eventlog.producing.batch_output import Output

#: Bytes of a batch: a few small records.
BATCH_BYTES = 200


class Producer:
    """Acknowledges every batch at once."""

    def __init__(self) -> None:
        self.end = 40

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(BATCH_BYTES, 0, is_transactional=False)

    async def send_batch(self, batch: BatchBuilder, topic: str, partition: int) -> asyncio.Future[Any]:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        done.set_result(SimpleNamespace(offset=self.end, timestamp=7))
        self.end += batch.record_count()
        return done


async def test_a_batch_is_acknowledged_with_the_mark_of_its_last_record() -> None:
    acknowledged: list[tuple[int, int, int, Any]] = []
    output = Output(Producer(), "log", 3, lambda *found: acknowledged.append(found))
    for number in range(20):
        output.append(b"key", b"v" * 20, [], number)
    await asyncio.gather(*await output.send())
    assert len(acknowledged) > 2
    assert acknowledged[0][0] == 40
    assert all(first + count - 1 - 40 == mark for first, count, _, mark in acknowledged)
    assert acknowledged[-1][3] == 19


async def test_without_a_mark_the_callback_gets_none() -> None:
    acknowledged: list[Any] = []
    output = Output(Producer(), "log", 3, lambda *found: acknowledged.append(found[3]))
    output.append(b"key", b"v", [])
    await asyncio.gather(*await output.send())
    assert acknowledged == [None]
