"""The shell of a processor: lanes of partitions, quarantine, supervision, and a recovery that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

from eventlog.core.errors import Poisoned
from eventlog.processors import quarantine
from eventlog.processors.base import Batch, Connection, Processor
from eventlog.processors.quarantine import Quarantine
from tests.unit.chassis.support import eventually
from tests.unit.eventlog.support import run_python


class Consumer:
    """What the shell asks of its consumer."""

    def __init__(self) -> None:
        self.held: list[TP] = []
        self.released: dict[TP, int | None] = {}
        self.dropped: list[int] = []

    def hold(self, tps: Any) -> None:
        self.held += tps

    def release(self, tps: dict[TP, int | None]) -> None:
        self.released.update(tps)

    def assignment(self) -> set[TP]:
        return {TP("inbox", partition) for partition in range(3)}

    def drop_batch(self, message: Any) -> None:
        self.dropped.append(message.value[0].offset)


class Stream:
    """A stream of batches, given as (partition, offsets); more may be put while it is read."""

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
    """The shell without its Faust app. `does` handles."""

    ready = True
    epoch = 1

    def __init__(self, does: Callable[[Batch], Awaitable[Outputs]], skips: Any = None) -> None:
        self.group, self.inputs = "g", ("inbox",)
        self.consumer = Consumer()
        self.app = SimpleNamespace(consumer=self.consumer)
        self.connection = Connection("h:1", "w-0", Path(), skips=skips)
        self._quarantine = Quarantine(self)
        self.quarantined = self._quarantine.records
        self._does = does
        self.stopping = False
        self.skipped_at: list[int] = []

    async def handle(self, batch: Batch) -> Outputs:
        return await self._does(batch)

    def skipped(self, poisoned: Poisoned) -> None:
        self.skipped_at.append(poisoned.offset)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventlog.processors.lanes.PATIENCE_S", 0.02)
    monkeypatch.setattr(quarantine, "POLL_INTERVAL_S", 0.01)


async def consuming(bare: Bare, stream: Stream, *beside: Any) -> Any:
    tasks = [asyncio.create_task(one) for one in (bare._consume(stream), *beside)]
    await asyncio.sleep(0)

    async def end() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    return end


async def test_a_partition_whose_output_is_never_written_holds_up_no_other() -> None:
    stuck = asyncio.get_running_loop().create_future()

    async def does(batch: Batch) -> Outputs:
        return [stuck] if batch.partition == 0 else []

    stream = Stream()
    end = await consuming(Bare(does), stream)
    # More than one queue of sixteen, as before, could take.
    for offset in range(40):
        stream.put(0, offset)
    stream.put(1, 7)
    await eventually(lambda: stream.acknowledged == [(1, 7)])
    stuck.set_result(None)
    await eventually(lambda: stream.acknowledged[1:] == [(0, offset) for offset in range(40)])
    await end()


async def test_a_partition_whose_producer_takes_nothing_holds_up_no_other() -> None:
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


class Recorded:
    """Skips that are recorded when a test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int, str]] = []
        self.answer: bool | Exception = False

    async def recorded(self, topic: str, partition: int, offset: int, sha256: str) -> bool:
        self.asked.append((topic, partition, offset, sha256))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def is_skipped(self, topic: str, partition: int, record: Any) -> bool:
        return False


def poison_at(*bad: int, raising: bool = False) -> tuple[Any, list[int]]:
    """A `handle` that can't read these offsets of partition 0, and what it handled."""
    handled: list[int] = []
    bare: list[Bare] = []

    async def does(batch: Batch) -> Outputs:
        for record in batch.records:
            if batch.partition == 0 and record.offset in bad:
                poisoned = Poisoned.for_record(batch.topic, 0, record.offset, record.value, "planted")
                if raising:
                    raise poisoned
                bare[0].quarantine(poisoned)
                return []
            handled.append(record.offset)
        return []

    does.bare = bare  # type: ignore[attr-defined]
    return does, handled


@pytest.mark.parametrize("raising", [False, True])
async def test_a_record_that_can_not_be_decoded_stops_its_partition_and_no_other(
    raising: bool, caplog: pytest.LogCaptureFixture
) -> None:
    does, handled = poison_at(11, raising=raising)
    bare = Bare(does)
    does.bare.append(bare)
    stream = Stream()
    end = await consuming(bare, stream, bare._quarantine.watch())
    stream.put(0, 8, 9)
    stream.put(0, 10, 11, 12)
    stream.put(0, 13)
    stream.put(1, 4)
    await eventually(lambda: stream.acknowledged == [(0, 9), (1, 4)])
    await eventually(lambda: bare.consumer.dropped == [10, 13])
    assert handled == [8, 9, 10, 4]
    assert [(p, one.offset) for p, one in bare.quarantined.items()] == [(0, 11)]
    assert bare.consumer.held == [TP("inbox", 0)]
    assert "partition 0 is quarantined: inbox-0 offset 11" in caplog.text
    await end()


@pytest.mark.parametrize(("raising", "again"), [(False, 11), (True, 10)])
async def test_a_recorded_skip_lets_a_partition_go_on_as_if_the_record_were_not_there(
    raising: bool, again: int
) -> None:
    does, handled = poison_at(11, raising=raising)
    skips = Recorded()
    bare = Bare(does, skips)
    does.bare.append(bare)
    stream = Stream()
    end = await consuming(bare, stream, bare._quarantine.watch())
    stream.put(0, 10, 11, 12)
    stream.put(0, 13)
    await eventually(lambda: len(skips.asked) > 2)
    assert stream.acknowledged == []
    # A registry that can't be read decides nothing.
    skips.answer = OSError("planted")
    asked = len(skips.asked)
    await eventually(lambda: len(skips.asked) > asked + 1)
    assert bare.quarantined
    skips.answer = True
    await eventually(lambda: not bare.quarantined)
    assert skips.asked[0][:3] == ("inbox", 0, 11)
    assert len(skips.asked[0][3]) == 64
    assert bare.skipped_at == [11]
    assert bare.consumer.released == {TP("inbox", 0): again}
    handled.clear()
    # From before, and still on its way: not to be handled ahead of what is read again.
    stream.put(0, 13)
    stream.put(0, *range(again, 13))
    stream.put(0, 13)
    await eventually(lambda: stream.acknowledged == [(0, 12), (0, 13)])
    assert handled == [offset for offset in range(again, 14) if offset != 11]
    await end()


async def test_a_batch_of_nothing_but_a_skipped_record_is_acknowledged() -> None:
    does, handled = poison_at(5)
    skips = Recorded()
    skips.answer = True
    bare = Bare(does, skips)
    does.bare.append(bare)
    stream = Stream()
    end = await consuming(bare, stream, bare._quarantine.watch())
    stream.put(0, 5)
    await eventually(lambda: bare.consumer.released == {TP("inbox", 0): 5})
    stream.put(0, 5)
    await eventually(lambda: stream.acknowledged == [(0, 5)])
    assert handled == []
    await end()


async def test_a_new_epoch_ends_a_quarantine_and_an_old_one_begins_none() -> None:
    async def does(batch: Batch) -> Outputs:
        bare.epoch = 2
        bare._new_epoch()
        bare.quarantine(Poisoned.for_record("inbox", 0, 5, b"", "planted"))
        return []

    bare = Bare(does)
    stream = Stream()
    end = await consuming(bare, stream)
    stream.put(0, 5)
    await eventually(lambda: stream.acknowledged == [(0, 5)])
    assert bare.quarantined == {}
    await end()


ENDING = """
    import asyncio
    from tests.unit.eventlog.processors.test_base import Bare, Stream
    {before}
    async def main():
        {main}
        await asyncio.sleep(5)
        print("WENT ON")
    asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("raise asyncio.CancelledError", "a batch was cancelled from inside"),
        ("f = asyncio.get_running_loop().create_future(); f.cancel(); return [f]", "output was cancelled from inside"),
    ],
)
def test_a_cancelled_error_from_inside_ends_the_process_and_no_task_unheard(does: str, says: str) -> None:
    before = f"async def does(batch): {does}"
    main = "stream = Stream(); stream.put(0, 1); asyncio.create_task(Bare(does)._consume(stream))"
    done = run_python(ENDING.format(before=before, main=main))
    assert done.returncode == 70
    assert says in done.stderr


@pytest.mark.parametrize("body", ["raise asyncio.CancelledError", "pass", "raise ValueError"])
def test_a_background_task_that_ends_ends_the_process(body: str) -> None:
    before = f"async def work(): {body}"
    main = "bare = Bare(None); bare._tasks = []; bare.spawn(work(), 'timers')"
    done = run_python(ENDING.format(before=before, main=main))
    assert done.returncode == 70
    assert "a task ended task=g.timers" in done.stderr


def test_a_batch_of_the_epoch_without_a_state_ends_the_process() -> None:
    before = "from eventlog.processors.base import Batch"
    main = "; ".join(f"Bare(None).report_missing_state(Batch('inbox', {batch}))" for batch in ("0, [], 0", "3, [], 1"))
    done = run_python(ENDING.format(before=before, main=main))
    assert done.returncode == 70
    assert "no state processor=g partition=3" in done.stderr


STALLED = """
    import asyncio
    from types import SimpleNamespace
    from eventlog.processors import supervision
    from tests.unit.eventlog.processors.test_base import Bare
    supervision.STALLED_S, supervision.POLL_INTERVAL_S = 0.2, 0.02
    async def main():
        bare = Bare(None)
        bare.progress = 0
        bare.app.consumer = SimpleNamespace(epoch=2, fetched=0, assigned={assigned}, resumed={resumed})
        asyncio.create_task(supervision.watch_recovery(bare))
        for _ in range(40):
            await asyncio.sleep(0.02)
            bare.progress += {progress}
        print("WENT ON")
    asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("assigned", "resumed", "progress", "ends"),
    [(True, False, 0, True), (True, False, 1, False), (True, True, 0, False), (False, False, 0, False)],
)
def test_a_recovery_without_progress_ends_the_process(assigned: bool, resumed: bool, progress: int, ends: bool) -> None:
    done = run_python(STALLED.format(assigned=assigned, resumed=resumed, progress=progress))
    assert ("WENT ON" in done.stdout) is not ends
    assert ("assigned, but not recovered processor=g" in done.stderr) is ends
    assert done.returncode == (70 if ends else 0)
