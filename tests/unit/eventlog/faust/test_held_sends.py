"""Requests of a producer are held while a fetch is handled, with aiokafka's own accumulator."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.producer.message_accumulator import MessageAccumulator

from eventlog.faust import held_sends
from eventlog.faust.held_sends import HeldSends
from tests.waiting import wait_for_async

TPS = [TopicPartition("log", partition) for partition in range(3)]


class Sender:
    """Drains an accumulator as aiokafka's sender does; `requests` has the partitions of each request."""

    def __init__(self, held: HeldSends) -> None:
        cluster = SimpleNamespace(leader_for_partition=lambda tp: 0)
        self.accumulator: Any = MessageAccumulator(cluster, 16_384, 0, 30)
        held.attach(self.accumulator)
        self.requests: list[set[int]] = []
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            nodes, _ = self.accumulator.drain_by_nodes(ignore_nodes=set())
            self.requests += [{tp.partition for tp in batches} for batches in nodes.values()]
            await asyncio.wait([self.accumulator.waiter()])

    async def append(self, tp: TopicPartition) -> None:
        builder = self.accumulator.create_builder()
        builder.append(timestamp=None, key=b"k", value=b"v")
        builder.close()
        await self.accumulator.add_batch(builder, tp, 1.0)

    async def sent(self, requests: int) -> None:
        async def enough() -> bool:
            return len(self.requests) >= requests

        await wait_for_async(enough, seconds=30, every=0.001)


@pytest.fixture
async def held() -> HeldSends:
    return HeldSends()


@pytest.fixture
async def sender(held: HeldSends) -> Any:
    made = Sender(held)
    await asyncio.sleep(0)
    yield made
    made.task.cancel()


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_batch_outside_of_a_fetch_is_sent_at_once(sender: Sender) -> None:
    for number, tp in enumerate(TPS, 1):
        await sender.append(tp)
        await sender.sent(number)
    assert sender.requests == [{0}, {1}, {2}]


async def test_the_outputs_of_a_fetch_share_a_request(
    held: HeldSends, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_sends, "MAX_S", 60.0)
    held.begin_fetch()
    for _ in TPS:
        held.begin_batch()
    held.end()
    for tp in TPS:
        assert sender.requests == []
        await sender.append(tp)
        await turns()
        held.end()
    await sender.sent(1)
    assert sender.requests == [{0, 1, 2}]
    # The next batch is not held.
    await sender.append(TPS[0])
    await sender.sent(2)


async def test_a_request_is_held_only_for_a_short_time(held: HeldSends, sender: Sender) -> None:
    began = time.monotonic()
    held.begin_fetch()
    await sender.append(TPS[0])
    await turns()
    await sender.sent(1)
    assert time.monotonic() - began >= held_sends.MAX_S
    # The fetch is still handled.
    await sender.append(TPS[1])
    await turns()
    assert sender.requests == [{0}, {1}]


async def test_a_batch_that_was_never_handled_holds_nothing_of_the_next_fetch(
    held: HeldSends, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_sends, "MAX_S", 60.0)
    held.begin_fetch()
    held.begin_batch()
    held.end()
    held.begin_fetch()
    held.begin_batch()
    held.end()
    await sender.append(TPS[0])
    await turns()
    assert sender.requests == []
    held.end()
    await sender.sent(1)
    held.end()


async def test_a_held_request_is_sent_with_what_a_completed_request_made_room_for(
    held: HeldSends, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_sends, "MAX_S", 60.0)
    held.begin_fetch()
    await sender.append(TPS[0])
    await turns()
    # The sender drains for another reason, and waits again.
    nodes, _ = sender.accumulator.drain_by_nodes(ignore_nodes=set())
    assert {tp.partition for tp in nodes[0]} == {0}
    sender.accumulator.waiter()
    await sender.append(TPS[1])
    await turns()
    held.end()
    await sender.sent(1)
    assert sender.requests == [{1}]
