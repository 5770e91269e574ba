"""What is decided is in flight until the log has it, also while the producer does not take it yet."""

from __future__ import annotations

import asyncio
from typing import Any

from eventlog.decider import Decider


class Output:
    """Takes its batches when told to; they are acknowledged when told to."""

    def __init__(self, batches: int) -> None:
        self.taken = asyncio.Event()
        self.written = [asyncio.get_running_loop().create_future() for _ in range(batches)]

    async def send(self) -> list[asyncio.Future[Any]]:
        await self.taken.wait()
        return self.written


def decider() -> Any:
    made: Any = Decider.__new__(Decider)
    made._in_flight = {}
    return made


async def test_a_checkpoint_waits_for_output_that_the_producer_has_not_taken_yet() -> None:
    made, output = decider(), Output(2)
    sending = asyncio.create_task(made._send(3, output))
    await asyncio.sleep(0)
    # What a checkpoint would wait for, see Checkpointer.write: it was decided, and the log has nothing of it.
    waited_for = list(made._in_flight[3])
    assert len(waited_for) == 1
    output.taken.set()
    assert await sending == output.written
    output.written[0].set_result(None)
    await asyncio.sleep(0)
    assert not waited_for[0].done()
    output.written[1].set_result(None)
    async with asyncio.timeout(5):
        await waited_for[0]
    assert made._in_flight[3] == set()


async def test_a_batch_that_decided_nothing_is_not_waited_for() -> None:
    made, output = decider(), Output(0)
    output.taken.set()
    assert await made._send(3, output) == []
    await asyncio.sleep(0)
    assert made._in_flight[3] == set()
