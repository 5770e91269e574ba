"""A fetch: requested on the main thread, run on the consumer's thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from faust.types import TP

from eventlog.faust.consumer_thread import BatchConsumerThread

A = TP("inbox", 0)
FetchSome = Callable[[set[TP], float], Coroutine[Any, Any, Any]]


@pytest.fixture
def thread_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    asyncio.run_coroutine_threadsafe(others_end(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    loop.close()


async def others_end() -> None:
    """Returns when every other task of this loop has ended."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


def made(thread_loop: asyncio.AbstractEventLoop, fetch_some: FetchSome) -> Any:
    """A consumer thread without a consumer."""
    thread = BatchConsumerThread.__new__(BatchConsumerThread)
    thread._fetches = set()
    thread.thread_loop = thread_loop
    thread.parent_loop = asyncio.get_running_loop()
    object.__setattr__(thread, "_fetch_some", fetch_some)
    return thread


async def test_a_fetch_gets_a_copy_of_the_partitions_and_runs_on_the_consumers_thread(
    thread_loop: asyncio.AbstractEventLoop,
) -> None:
    main = threading.get_ident()

    async def fetch_some(wanted: set[TP], seconds: float) -> Any:
        assert threading.get_ident() != main
        active.clear()
        return {tp: [seconds] for tp in wanted}

    active = {A}
    thread = made(thread_loop, fetch_some)
    async with asyncio.timeout(30):
        assert await thread.getmany(active, 1.5) == {A: [1.5]}
    assert not thread._fetches


async def test_an_error_of_a_fetch_is_raised_where_it_was_requested(thread_loop: asyncio.AbstractEventLoop) -> None:
    async def fetch_some(wanted: set[TP], seconds: float) -> Any:
        raise LookupError("no such partition")

    async with asyncio.timeout(30):
        with pytest.raises(LookupError, match="no such partition"):
            await made(thread_loop, fetch_some).getmany({A}, 1.0)


async def test_a_seek_before_a_fetch_comes_first(thread_loop: asyncio.AbstractEventLoop) -> None:
    order: list[str] = []

    async def fetch_some(wanted: set[TP], seconds: float) -> Any:
        order.append("fetch")

    thread = made(thread_loop, fetch_some)
    thread._seek = lambda tp, offset: order.append("seek")
    async with asyncio.timeout(30):
        for _ in range(100):
            thread.seek(A, 1)
            await thread.getmany({A}, 1.0)
    assert order == ["seek", "fetch"] * 100


async def test_a_fetch_whose_caller_is_cancelled_ends_without_an_error(thread_loop: asyncio.AbstractEventLoop) -> None:
    main, begun, ended, release = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def fetch_some(wanted: set[TP], seconds: float) -> Any:
        main.call_soon_threadsafe(begun.set)
        await release.wait()
        main.call_soon_threadsafe(ended.set)

    thread = made(thread_loop, fetch_some)
    fetching = asyncio.create_task(thread.getmany({A}, 1.0))
    async with asyncio.timeout(30):
        await begun.wait()
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        thread_loop.call_soon_threadsafe(release.set)
        await ended.wait()


async def test_a_fetch_whose_caller_is_cancelled_before_it_begins_is_not_made(
    thread_loop: asyncio.AbstractEventLoop,
) -> None:
    fetches: list[set[TP]] = []

    async def fetch_some(wanted: set[TP], seconds: float) -> Any:
        fetches.append(wanted)

    thread, released = made(thread_loop, fetch_some), threading.Event()
    thread_loop.call_soon_threadsafe(released.wait)
    fetching = asyncio.create_task(thread.getmany({A}, 1.0))
    await asyncio.sleep(0)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    released.set()
    async with asyncio.timeout(30):
        await thread.getmany(set(), 1.0)
    assert fetches == [set()]


async def test_the_stop_of_the_thread_ends_a_fetch(
    thread_loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    main, begun = asyncio.get_running_loop(), asyncio.Event()

    async def fetch_some(wanted: set[TP], seconds: float) -> Any:
        main.call_soon_threadsafe(begun.set)
        await asyncio.Event().wait()

    async def stopped(_: Any) -> None:
        """The stop of Faust's thread, which has no consumer here."""

    monkeypatch.setattr(BatchConsumerThread.__base__, "on_thread_stop", stopped)
    thread = made(thread_loop, fetch_some)
    fetching = asyncio.create_task(thread.getmany({A}, 1.0))
    async with asyncio.timeout(30):
        await begun.wait()
        stopping = asyncio.run_coroutine_threadsafe(thread.on_thread_stop(), thread_loop)
        with pytest.raises(asyncio.CancelledError):
            await fetching
        await asyncio.wrap_future(stopping)
    assert not thread._fetches
