"""The steps of every processor: lanes of partitions, acknowledgements in order, and an end at any error."""

from __future__ import annotations

import asyncio

import pytest

from eventlog.processors.base import Batch
from tests.unit.chassis.support import eventually
from tests.unit.eventlog.processors.bare_processor import PROGRAM, Bare, Outputs, Stream, consuming
from tests.unit.eventlog.support import run_python


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventlog.processors.lanes.PATIENCE_S", 0.02)


async def test_a_partition_with_a_stuck_output_does_not_delay_the_others() -> None:
    stuck = asyncio.get_running_loop().create_future()

    async def does(batch: Batch) -> Outputs:
        return [stuck] if batch.partition == 0 else []

    stream = Stream()
    end = await consuming(Bare(does), stream)
    for offset in range(40):
        stream.put(0, offset)
    stream.put(1, 7)
    await eventually(lambda: stream.acknowledged == [(1, 7)])
    stuck.set_result(None)
    await eventually(lambda: stream.acknowledged[1:] == [(0, offset) for offset in range(40)])
    await end()


async def test_a_partition_with_a_stuck_producer_does_not_delay_the_others() -> None:
    taken, handled = asyncio.Event(), []

    async def does(batch: Batch) -> Outputs:
        if batch.partition == 0:
            await taken.wait()
        handled.append((batch.partition, batch.records[0].offset))
        return []

    stream = Stream()
    end = await consuming(Bare(does), stream)
    for offset in range(5):
        stream.put(0, offset)
        stream.put(1, offset)
    await eventually(lambda: stream.acknowledged == [(1, offset) for offset in range(5)])
    taken.set()
    await eventually(lambda: [one for one in handled if one[0] == 0] == [(0, offset) for offset in range(5)])
    await end()


async def test_partitions_take_turns_while_none_is_stuck() -> None:
    running, most = 0, 0

    async def does(batch: Batch) -> Outputs:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1
        return []

    stream = Stream()
    end = await consuming(Bare(does), stream)
    for partition in (0, 1, 2, 0, 1, 2):
        stream.put(partition, 1)
    await eventually(lambda: len(stream.acknowledged) == 6)
    assert most == 1
    await end()


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("raise asyncio.CancelledError", "a batch was cancelled from inside"),
        ("f = asyncio.get_running_loop().create_future(); f.cancel(); return [f]", "output was cancelled from inside"),
    ],
)
def test_a_cancelled_error_from_inside_ends_the_process(does: str, says: str) -> None:
    before = f"async def does(batch): {does}"
    main = "stream = Stream(); stream.put(0, 1); asyncio.create_task(Bare(does)._consume(stream))"
    done = run_python(PROGRAM.format(before=before, main=main))
    assert done.returncode == 70
    assert says in done.stderr
