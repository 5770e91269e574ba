"""A batch of decisions is in flight until the log has them, also while the producer has not taken them yet."""

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
    batch = made._register_in_flight(3)
    # A checkpoint waits for it (Checkpointer.write): the log has none of its decisions yet.
    assert made._in_flight[3] == {batch}
    complete_when_acked(batch, written)
    for future in written:
        assert not batch.done()
        future.set_result(None)
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await batch
    await asyncio.sleep(0)
    assert made._in_flight[3] == set()


async def test_a_batch_without_decisions_is_not_in_flight() -> None:
    made = decider()
    complete_when_acked(made._register_in_flight(3), [])
    await asyncio.sleep(0)
    assert made._in_flight[3] == set()
