"""Fan-out to the watchers of a key: all are woken, in batches, and slow ones see the newest change."""

from __future__ import annotations

import asyncio

from groupbuy.orders.v1.orders_pb2 import Order

from chassis.rpc.streaming.broadcast import WAKE_BATCH, Fanout, SharedMessage, shared_serialiser
from eventlog.views.change_notifier import ChangeNotifier
from tests.unit.chassis.support import eventually


async def test_all_watchers_are_woken_and_other_tasks_run_in_between() -> None:
    notifier = ChangeNotifier()
    fanout = Fanout(notifier)
    woken = 0
    turns_of_others = 0

    async def follower() -> None:
        nonlocal woken
        with fanout.follow("key") as watch:
            await watch.changed()
            woken += 1

    def others() -> None:
        nonlocal turns_of_others
        if woken < 20 * WAKE_BATCH:
            turns_of_others += bool(woken)
            asyncio.get_running_loop().call_soon(others)

    following = [asyncio.create_task(follower()) for _ in range(20 * WAKE_BATCH)]
    await eventually(lambda: len(fanout) == 20 * WAKE_BATCH)
    assert len(notifier) == 1
    notifier.notify("other key")
    notifier.notify("key")
    others()
    await asyncio.gather(*following)
    assert woken == 20 * WAKE_BATCH
    assert turns_of_others >= 10
    assert len(fanout) == len(notifier) == 0


async def test_a_change_before_the_wait_is_not_missed() -> None:
    notifier = ChangeNotifier()
    fanout = Fanout(notifier)
    with fanout.follow("key") as watch:
        notifier.notify("key")
        async with asyncio.timeout(1):
            await watch.changed()
        for _ in range(3):
            notifier.notify("key")
        async with asyncio.timeout(1):
            await watch.changed()
        again = asyncio.create_task(watch.changed())
        await asyncio.wait([again], timeout=0.01)
        assert not again.done(), "changes coalesce: a slow watcher is woken once, not three times"
        again.cancel()


async def test_the_last_watcher_ends_the_subscription_and_the_next_starts_one() -> None:
    notifier = ChangeNotifier()
    fanout = Fanout(notifier)
    for _ in range(2):
        with fanout.follow("key"), fanout.follow("key") as watch:
            notifier.notify("key")
            async with asyncio.timeout(1):
                await watch.changed()
        assert len(notifier) == len(fanout) == 0


def test_a_shared_message_is_serialised_once() -> None:
    calls = 0

    def serialise(order: Order) -> bytes:
        nonlocal calls
        calls += 1
        return order.SerializeToString()

    data = shared_serialiser(serialise)
    shared = SharedMessage(Order(name="a"))
    assert data(shared) is data(shared)
    assert data(shared) == data(Order(name="a"))
    assert calls == 2
