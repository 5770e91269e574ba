"""Effects: concurrent calls, in order within a lane; offsets follow the log's order, once results are written."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from eventlog.core.effect_handler import Effect, EffectResult
from eventlog.core.errors import Poisoned
from eventlog.processors.base import Batch
from eventlog.processors.effects import Effects
from eventlog.processors.sequencer import Sequencer
from tests.unit.chassis.support import eventually
from tests.unit.eventlog.counting import record
from tests.unit.eventlog.support import run_python


class Provider:
    """Makes calls named `lane:n`, each of which ends when the test ends it. A record holds several names."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}

    def effects_of(self, one: Any) -> Iterable[Effect[str]]:
        return [Effect(name.partition(":")[0], name) for name in one.value.decode().split()]

    async def perform(self, key: str, call: str) -> EffectResult:
        self.begun.append(call)
        await self._ends.setdefault(call, asyncio.Event()).wait()
        return EffectResult(call.encode(), [])

    def end(self, *calls: str) -> None:
        for call in calls:
            self._ends.setdefault(call, asyncio.Event()).set()


class Inbox:
    """A producer whose records are acknowledged at once."""

    def __init__(self) -> None:
        self.written: list[tuple[str, int]] = []

    async def send(self, topic: str, value: bytes, *, key: bytes, partition: int, headers: Any) -> Any:
        self.written.append((value.decode(), partition))
        future = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future


class Bare(Effects[str]):
    """The processor without its Faust app."""

    producer = None
    epoch = 1

    def __init__(self, provider: Provider, inbox: Inbox, concurrency: int = 10) -> None:
        self.group = "effects"
        self._inbox: Any = type("Topic", (), {"name": "inbox"})
        self._handler = provider
        self._concurrent = asyncio.Semaphore(10)
        self._pending = defaultdict(lambda: asyncio.Semaphore(concurrency))
        self._lanes = {}
        self.producer = inbox
        self.skipped_offsets: set[int] = set()

    def is_skipped(self, topic: str, partition: int, record: Any) -> bool:
        return record.offset in self.skipped_offsets


def batch(*values: str, epoch: int = 1) -> Batch:
    return Batch("log", 3, [record(n, value.encode()) for n, value in enumerate(values)], epoch)


async def test_calls_of_one_lane_are_made_in_order_and_lanes_are_independent() -> None:
    provider, inbox = Provider(), Inbox()
    effects = Bare(provider, inbox)
    begun = await effects.handle(batch("a:1 a:2", "b:1"))
    assert begun is not None
    await eventually(lambda: provider.begun == ["a:1", "b:1"])
    provider.end("b:1")
    await eventually(lambda: inbox.written == [("b:1", 3)])
    assert provider.begun == ["a:1", "b:1"]
    provider.end("a:1", "a:2")
    await asyncio.gather(*begun)
    assert inbox.written == [("b:1", 3), ("a:1", 3), ("a:2", 3)]
    assert effects.lanes_in_flight == 0


async def test_an_offset_is_acknowledged_only_when_the_results_of_all_calls_before_it_are_written() -> None:
    provider, inbox = Provider(), Inbox()
    effects = Bare(provider, inbox)
    acknowledged: list[int] = []

    class Event:
        def __init__(self, number: int) -> None:
            self.number = number

        def ack(self) -> None:
            acknowledged.append(self.number)

    waiting: asyncio.Queue[Any] = asyncio.Queue()
    acknowledger = asyncio.create_task(effects._acknowledge(waiting))
    for number, values in enumerate((["stuck:1", "a:1"], ["b:1"])):
        waiting.put_nowait((Event(number).ack, await effects.handle(batch(*values))))
    provider.end("a:1", "b:1")
    await eventually(lambda: len(inbox.written) == 2)
    # The stuck call delays the offset, but no other call.
    assert acknowledged == []
    provider.end("stuck:1")
    await eventually(lambda: acknowledged == [0, 1])
    acknowledger.cancel()


async def test_the_number_of_calls_in_flight_is_limited() -> None:
    provider, inbox = Provider(), Inbox()
    effects = Bare(provider, inbox, concurrency=2)
    handling = asyncio.create_task(effects.handle(batch("a:1 b:1 c:1")))
    await eventually(lambda: provider.begun == ["a:1", "b:1"])
    assert not handling.done()
    provider.end("b:1")
    await eventually(lambda: provider.begun == ["a:1", "b:1", "c:1"])
    await handling


async def test_no_further_calls_are_made_for_a_partition_that_has_moved() -> None:
    provider, inbox = Provider(), Inbox()
    effects = Bare(provider, inbox, concurrency=1)
    handling = asyncio.create_task(effects.handle(batch("a:1 b:1")))
    await eventually(lambda: provider.begun == ["a:1"])
    effects.epoch = 2
    provider.end("a:1")
    assert await handling is None
    assert provider.begun == ["a:1"]
    await eventually(lambda: not effects._pending[3].locked())


ENDING = """
    import asyncio
    from eventlog.processors import effects as kernel
    from tests.unit.eventlog.processors.test_effects import Bare, Inbox, Provider, batch
    kernel.MAX_CALL_S = 0.05
    class Failing(Provider):
        async def perform(self, key, call):
            if call == "stuck:1": await asyncio.sleep({stuck_s})
            {does}
    async def main():
        begun = await Bare(Failing(), Inbox()).handle(batch("stuck:1", "a:1"))
        # An acknowledger would wait for the first call, which never ends, before it sees the second.
        await asyncio.sleep(20)
    asyncio.run(main())
"""


def test_a_call_that_raises_ends_the_process_even_behind_a_call_in_flight() -> None:
    done = run_python(ENDING.format(stuck_s=0.04, does='raise ValueError("planted")'))
    assert done.returncode == 70
    assert "a call or its result failed processor=effects lane=a" in done.stderr
    assert "planted" in done.stderr


def test_a_call_that_does_not_end_ends_the_process() -> None:
    done = run_python(ENDING.format(stuck_s=20, does="await asyncio.sleep(0)"))
    assert done.returncode == 70
    assert "a call or its result failed processor=effects lane=" in done.stderr


def test_a_call_that_is_cancelled_from_inside_ends_the_process() -> None:
    """grpc.aio raises CancelledError in a call whose channel closes."""
    done = run_python(ENDING.format(stuck_s=0.04, does="raise asyncio.CancelledError"))
    assert done.returncode == 70
    assert "the call or its result was cancelled from inside" in done.stderr


async def test_an_unreadable_decision_quarantines_its_partition_after_the_calls_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Reading(Provider):
        def effects_of(self, one: Any) -> Iterable[Effect[str]]:
            if one.value == b"?":
                raise ValueError("planted")
            return super().effects_of(one)

    provider, inbox = Reading(), Inbox()
    effects = Bare(provider, inbox)
    stopped: list[Poisoned] = []
    monkeypatch.setattr(effects, "quarantine", stopped.append)
    begun = await effects.handle(batch("a:1", "?", "b:1"))
    assert begun is not None
    provider.end("a:1", "b:1")
    await asyncio.gather(*begun)
    assert inbox.written == [("a:1", 3)]
    assert [(one.topic, one.partition, one.offset) for one in stopped] == [("log", 3, 1)]
    assert "planted" in stopped[0].reason


async def test_results_that_are_not_written_do_not_delay_other_partitions() -> None:
    class Stuck(Inbox):
        async def send(self, topic: str, value: bytes, *, key: bytes, partition: int, headers: Any) -> Any:
            future = await super().send(topic, value, key=key, partition=partition, headers=headers)
            return asyncio.get_running_loop().create_future() if partition == 3 else future

    provider, inbox = Provider(), Stuck()
    effects = Bare(provider, inbox, concurrency=10)
    provider.end(*(f"{n}:1" for n in range(10)))
    # As many as the limit of concurrent calls.
    await effects.handle(batch(" ".join(f"{n}:1" for n in range(10))))
    await eventually(lambda: len(inbox.written) == 10)
    async with asyncio.timeout(5):
        begun = await effects.handle(batch("a:1")._replace(partition=4))
        assert begun is not None
        provider.end("a:1")
        await asyncio.gather(*begun)


def test_effects_and_sequencers_are_ready_once_input_flows_in_this_epoch() -> None:
    for kind in (Effects, Sequencer):
        made: Any = kind.__new__(kind)
        for resumed in (False, True):
            made.app = SimpleNamespace(consumer=SimpleNamespace(epoch=1, resumed=resumed, assignment=lambda: {1}))
            assert made.ready is resumed
