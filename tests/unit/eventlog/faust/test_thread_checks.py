"""Each object is used on its own thread, and a check that reports another one."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import IllegalStateError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from eventlog.faust import thread_checks
from eventlog.faust.consumer import ON_ANY_THREAD, BatchConsumer
from eventlog.faust.consumer_thread import BatchConsumerThread
from eventlog.processors.base import ON_THE_MAIN_THREAD
from eventlog.processors.decider import Decider
from eventlog.processors.projection import Projection
from tests.unit.eventlog.support import bare_consumer, run_python

TP0 = TP("inbox", 0)
GONE = "the defect is gone: drop the work-around"

WRONG = """
    import os, threading, time
    os.environ["EVENTLOG_THREAD_CHECKS"] = {on!r}
    from eventlog.faust.thread_checks import bind_to_this_thread
    class Thing:
        def __init__(self): self.calls = 0
        def touch(self): self.calls += 1
        def anywhere(self): self.calls += 1
    thing = Thing()
    bind_to_this_thread(thing, but=("anywhere",))
    thing.touch()
    other = threading.Thread(target=thing.anywhere); other.start(); other.join()
    other = threading.Thread(target=thing.touch, name="other"); other.start(); other.join()
    print("WENT ON", thing.calls)
"""


def test_a_call_on_a_wrong_thread_ends_the_process_and_names_both_threads() -> None:
    done = run_python(WRONG.format(on="1"))
    assert done.returncode == 70
    assert "wrong thread called=Thing.touch thread='other' belongs_to='MainThread'" in done.stderr
    assert done.stdout == ""


def test_without_the_variable_no_method_is_wrapped() -> None:
    done = run_python(WRONG.format(on="0"))
    assert (done.returncode, done.stdout) == (0, "WENT ON 3\n")


class Client:
    """A stub of aiokafka's consumer that records the threads of its calls."""

    def __init__(self) -> None:
        self._closed = False
        self.calls: list[tuple[str, int]] = []
        self._client = SimpleNamespace(close=lambda: self._close("client"))
        self._coordinator = SimpleNamespace(close=lambda: self._close("coordinator"))

    async def _close(self, name: str) -> None:
        self.calls.append((name, threading.get_ident()))

    def seek(self, tp: TP, offset: int) -> None:
        self.calls.append((f"seek {offset}", threading.get_ident()))
        if offset < 0:
            raise IllegalStateError("not assigned")


class Running:
    """A consumer's thread without a broker."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.client = Client()
        self.thread: Any = BatchConsumerThread.__new__(BatchConsumerThread)
        self.thread.__dict__.update(_consumer=self.client, thread_loop=self.loop, _closing=[])
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def end(self) -> list[tuple[str, int]]:
        """Runs all scheduled calls, and returns them."""
        self.loop.call_soon_threadsafe(self.loop.call_later, 0.05, self.loop.stop)
        self._thread.join()
        self.loop.close()
        return self.client.calls

    @property
    def ident(self) -> int | None:
        return self._thread.ident


def test_a_seek_from_the_main_thread_runs_on_the_consumers() -> None:
    running = Running()
    running.thread.seek(TP0, 7)
    # The partition is being reassigned; the next epoch seeks again.
    running.thread.seek(TP0, -1)
    assert running.end() == [("seek 7", running.ident), ("seek -1", running.ident)]


def test_a_close_during_a_rebalance_runs_on_the_consumers_thread() -> None:
    """Stock: the client and the coordinator are closed on the app's loop, while their tasks run on their own."""
    assert "self.app.loop" in _source(driver.AIOKafkaConsumerThread.close), GONE
    running = Running()
    running.thread.close()
    assert running.end() == [("client", running.ident), ("coordinator", running.ident)]
    assert running.client._closed


ENDED = """
    import asyncio
    from types import SimpleNamespace
    from eventlog.faust.consumer_thread import BatchConsumerThread
    async def fetching(): {does}
    async def main():
        thread = BatchConsumerThread.__new__(BatchConsumerThread)
        thread.__dict__.update(_consumer=SimpleNamespace(_closed={closed}))
        asyncio.create_task(fetching()).add_done_callback(thread._client_task_ended)
        await asyncio.sleep(0.05)
        print("WENT ON")
    asyncio.run(main())
"""


@pytest.mark.parametrize("does", ["raise asyncio.CancelledError", "raise ValueError", "pass"])
def test_a_task_of_the_client_that_ends_before_its_close_ends_the_process(does: str) -> None:
    done = run_python(ENDED.format(does=does, closed=False))
    assert done.returncode == 70
    assert "a task of the consumer's client ended task=fetching" in done.stderr
    assert run_python(ENDED.format(does=does, closed=True)).stdout == "WENT ON\n"


async def test_a_rebalance_changes_the_app_on_the_main_thread_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock: the listener changes it on the consumer's thread."""
    assert "thread.app.on_rebalance_start()" in _source(driver.ConsumerRebalanceListener.on_partitions_revoked), GONE
    calls: list[Any] = []

    class Thread:
        def _ensure_consumer(self) -> Any:
            return SimpleNamespace(_coordinator=SimpleNamespace(generation=4))

        async def on_partitions_revoked(self, revoked: set[TP]) -> None:
            calls.append(revoked)

        async def on_partitions_assigned(self, assigned: set[TP], generation: int) -> None:
            calls.append((assigned, generation))

    # The stub has no app, so any change of it would fail.
    listener = BatchConsumer.RebalanceListener(Thread())
    await listener.on_partitions_revoked([TP0])
    await listener.on_partitions_assigned([TP0])
    assert calls == [{TP0}, ({TP0}, 4)]

    async def nothing(*_: Any) -> None:
        """Faust's hook, which needs a group."""

    monkeypatch.setattr(driver.Consumer, "on_partitions_revoked", nothing)
    monkeypatch.setattr(driver.Consumer, "on_partitions_assigned", nothing)
    app = SimpleNamespace(on_rebalance_start=lambda: calls.append("start"), consumer_generation_id=0)
    consumer = bare_consumer(BatchConsumer, app=app)
    await consumer.on_partitions_revoked({TP0})
    await consumer.on_partitions_assigned({TP0}, 4)
    assert (calls[2:], app.consumer_generation_id) == (["start"], 4)
    # The main thread gets a copy.
    assert consumer.assignment() == {TP0}
    assert consumer.assignment() is not consumer.assignment()


def test_the_named_methods_exist() -> None:
    """A name without a method would be ignored silently."""
    assert [name for name in ON_ANY_THREAD if not hasattr(BatchConsumer, name)] == []
    owners = (Decider, Projection)
    assert [name for name in ON_THE_MAIN_THREAD if not any(hasattr(owner, name) for owner in owners)] == []


def test_processes_of_the_tests_check_threads() -> None:
    worker = (Path(__file__).parents[3] / "chaos" / "kernel" / "worker.py").read_text()
    assert "thread_checks.VARIABLE" in worker
    assert thread_checks.VARIABLE == "EVENTLOG_THREAD_CHECKS"


def _source(function: Any) -> str:
    import inspect

    return inspect.getsource(function)
