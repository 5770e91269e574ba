"""More concurrent calls than the server answers: the surplus is refused with a reason and a delay."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time

import grpc
import pytest

from chassis.admission.thread_priority import DECIDING, POLLER_THREAD, READER_THREADS, SERVING, ThreadPriorities
from chassis.rpc.server import MAX_PENDING
from tests.unit.chassis.support import SOON_S, Refusal, niceness, running
from tests.waiting import wait_for_async


async def test_a_burst_within_the_queue_is_answered_or_refused_with_a_reason() -> None:
    """By default gRPC cancels calls beyond about 1,000 pending ones, without a reason."""
    async with running(max_calls=10_000) as run:
        found = await asyncio.gather(*(run.place(within_s=60) for _ in range(MAX_PENDING)), return_exceptions=True)
        refused = [Refusal(one).info.reason for one in found if isinstance(one, grpc.aio.AioRpcError)]
        answered = [one.consistency_token for one in found if not isinstance(one, BaseException)]
        assert len(refused) + len(answered) == MAX_PENDING
        assert set(refused) <= {"OVERLOADED"}
        assert set(answered) == {"1:2"}


async def test_overload_is_refused_and_health_answers_meanwhile() -> None:
    step_s = 0.002
    worked = 0

    async def work() -> None:
        # Blocks the event loop, as the work of many calls does.
        nonlocal worked
        worked += 1
        until = time.monotonic() + step_s
        while time.monotonic() < until:
            pass

    async with running(max_calls=10_000) as run:
        run.fake.place = work
        refused: list[Refusal] = []
        overtaken_by = 0
        under_way: set[asyncio.Task[None]] = set()

        async def place() -> None:
            try:
                await run.place(within_s=60)
            except grpc.aio.AioRpcError as error:
                refused.append(Refusal(error))

        async with asyncio.timeout(SOON_S):
            while not refused:
                for _ in range(MAX_PENDING // 2 - len(under_way)):
                    task = asyncio.create_task(place())
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                before = worked
                await run.status_of()
                overtaken_by = max(overtaken_by, worked - before)
            await asyncio.gather(*under_way)
        assert {one.code for one in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert {one.info.reason for one in refused} == {"OVERLOADED"}
        assert all(one.retry_after_ms > 0 for one in refused)
        # A call behind these calls would have waited for all of them. Counted, as the time depends on the machine.
        assert overtaken_by < MAX_PENDING * 2 // 5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads have no priority of their own elsewhere")
@pytest.mark.parametrize("thread_priorities", [SERVING, DECIDING])
async def test_reader_threads_get_a_lower_priority_than_the_event_loop_also_later_ones(
    thread_priorities: ThreadPriorities,
) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    async with running(thread_priorities=thread_priorities) as run:
        # Many calls make gRPC start more threads. All at once, they would take a busy machine longer to read than the
        # pipeline lets a request take to arrive.
        for _ in range(5):
            await asyncio.gather(*(run.place(within_s=60) for _ in range(100)))
        # gRPC's names of its threads; another version may use other names.
        assert niceness(os.getpid()).keys() >= READER_THREADS

        async def all_have_it() -> bool:
            nice = niceness(os.getpid())
            return all(nice[name] == {min(own + thread_priorities.reading, 19)} for name in READER_THREADS)

        await wait_for_async(all_have_it, seconds=SOON_S)
        polling = [thread.native_id for thread in threading.enumerate() if POLLER_THREAD in thread.name]
        assert polling
        assert os.getpriority(os.PRIO_PROCESS, polling[0] or 0) == min(own + thread_priorities.polling, 19)
        assert os.getpriority(os.PRIO_PROCESS, 0) == own
