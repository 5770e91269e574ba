"""What is decided is in flight until the log has it, also while the producer does not take it yet."""

from __future__ import annotations

import asyncio
from typing import Any

from eventlog.processors.decider import Decider, complete_when_acked


def decider() -> Any:
    made: Any = Decider.__new__(Decider)
    made._in_flight = {}
    return made


async def test_a_batch_is_in_flight_from_its_first_decision_until_the_last_is_acknowledged() -> None:
    made = decider()
    written = [asyncio.get_running_loop().create_future() for _ in range(2)]
    through = made._register_in_flight(3)
    # What a checkpoint would wait for, see Checkpointer.write: it is being decided, and the log has nothing of it.
    assert made._in_flight[3] == {through}
    complete_when_acked(through, written)
    for future in written:
        assert not through.done()
        future.set_result(None)
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await through
    await asyncio.sleep(0)
    assert made._in_flight[3] == set()


async def test_a_batch_without_decisions_is_not_in_flight() -> None:
    made = decider()
    complete_when_acked(made._register_in_flight(3), [])
    await asyncio.sleep(0)
    assert made._in_flight[3] == set()
