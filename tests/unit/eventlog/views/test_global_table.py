"""A lookup reads the topic to its end before it reports a key as unknown. Lookups share refreshes with a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError
from groupbuy.groups.v1.campaigns_pb2 import Campaign

from eventlog.core.errors import BrokerUnavailable
from eventlog.views import global_table
from eventlog.views.global_table import REFRESH_BURST, REFRESHES_PER_S, GlobalTable
from shared_kernel import campaign_table

TP = TopicPartition("campaigns", 0)


class Consumer:
    """A topic with one partition. A query for its end awaits the result of `on_query`."""

    def __init__(self, **_: Any) -> None:
        self.records: list[Any] = []
        self.queries = 0
        #: Records delivered so far; no more are delivered while `held`.
        self.read = 0
        self.held = False
        self.on_query: Callable[[], Any] = lambda: None
        self.errors: list[BaseException] = []
        self._more = asyncio.Event()

    def append(self, key: str, value: bytes | None) -> None:
        self.records.append(SimpleNamespace(key=key.encode(), value=value, offset=len(self.records), partition=0))
        self._more.set()

    def deliver(self) -> None:
        self.held = False
        self._more.set()

    async def start(self) -> None: ...
    async def stop(self) -> None: ...

    def assign(self, tps: list[TopicPartition]) -> None:
        (self.tp,) = tps

    async def seek_to_beginning(self, *tps: TopicPartition) -> None: ...

    async def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 0)

    async def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        self.queries += 1
        end = len(self.records)
        waiting = self.on_query()
        if waiting is not None:
            await waiting
        return dict.fromkeys(tps, end)

    async def getmany(self, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        if self.errors:
            raise self.errors.pop()
        while self.held or self.read == len(self.records):
            self._more.clear()
            await self._more.wait()
        found, self.read = self.records[self.read :], len(self.records)
        return {self.tp: found}

    async def position(self, tp: TopicPartition) -> int:
        return self.read


class Reader(GlobalTable[Campaign]):
    def __init__(self) -> None:
        super().__init__("127.0.0.1:1", TP.topic, Campaign.FromString, client_id="test")
        self.topic: Consumer = self._consumer


@pytest.fixture
async def reader(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Reader]:
    monkeypatch.setattr(global_table, "AIOKafkaConsumer", Consumer)
    made = Reader()
    await made.start(1)
    made.topic.queries = 0
    yield made
    await made.stop()


def value(name: str) -> bytes:
    return Campaign(name=name).SerializeToString()


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def without_rate_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(global_table, "REFRESH_BURST", 1_000_000)


async def test_a_record_written_before_the_call_is_found(reader: Reader) -> None:
    reader.topic.append("mug", value("campaigns/mug"))
    found = await reader.get_latest("mug")
    assert found is not None
    assert found.name == "campaigns/mug"
    assert await reader.get_latest("mug") is found
    assert reader.topic.queries == 1


async def test_an_undecodable_record_is_counted_and_ignored(reader: Reader) -> None:
    reader.topic.append("mug", value("campaigns/mug"))
    reader.topic.append("mug", b"\xff\xff\xff")
    reader.topic.append("cup", value("campaigns/cup"))
    await reader.refresh()
    assert reader.undecodable == 1
    assert [one.name for one in reader.values()] == ["campaigns/mug", "campaigns/cup"]


async def test_concurrent_lookups_of_unknown_keys_share_a_query(reader: Reader) -> None:
    for _ in range(5):
        found = await asyncio.gather(*(reader.get_latest(f"unknown-{number}") for number in range(500)))
        assert found == [None] * 500
    assert reader.topic.queries == 5


async def test_sequential_lookups_of_unknown_keys_are_rate_limited(reader: Reader) -> None:
    loop = asyncio.get_running_loop()
    reader._next_due = loop.time() + REFRESH_BURST / REFRESHES_PER_S
    began = loop.time()
    for number in range(4):
        assert await reader.get_latest(f"unknown-{number}") is None
    assert loop.time() - began > 0.9 * 4 / REFRESHES_PER_S
    assert reader.topic.queries == 4


async def test_a_lookup_during_a_query_shares_the_next_query(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    without_rate_limit(monkeypatch)
    loop = asyncio.get_running_loop()
    responses = [loop.create_future(), loop.create_future()]
    queries = iter(responses)
    reader.topic.on_query = lambda: next(queries)
    early = [asyncio.create_task(reader.get_latest("mug")) for _ in range(3)]
    await turns()
    assert reader.topic.queries == 1
    # The queried end is before this record, and the record is not read yet.
    reader.topic.held = True
    reader.topic.append("mug", value("campaigns/mug"))
    late = [asyncio.create_task(reader.get_latest("mug")) for _ in range(3)]
    await turns()
    responses[0].set_result(None)
    assert await asyncio.gather(*early) == [None] * 3
    await turns()
    assert reader.topic.queries == 2
    responses[1].set_result(None)
    await turns()
    assert not any(call.done() for call in late)
    reader.topic.deliver()
    assert all(campaign is not None for campaign in await asyncio.gather(*late))
    assert reader.topic.queries == 2


@pytest.mark.parametrize("missing", ["the query", "the records"])
async def test_a_broker_that_does_not_respond_is_unavailable_after_the_timeout(
    reader: Reader, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(global_table, "REFRESH_S", 0.05)
    if missing == "the query":
        reader.topic.on_query = asyncio.get_running_loop().create_future
    else:
        reader.topic.held = True
        reader.topic.append("mug", value("campaigns/mug"))
    async with asyncio.timeout(5):
        with pytest.raises(BrokerUnavailable):
            await reader.get_latest("mug")
    # The next query gets a response.
    reader.topic.on_query = lambda: None
    monkeypatch.setattr(global_table, "REFRESH_S", 5)
    reader.topic.deliver()
    assert (await reader.get_latest("mug") is None) is (missing == "the query")


async def test_a_query_that_fails_raises_broker_unavailable(reader: Reader) -> None:
    def refuse() -> None:
        raise KafkaConnectionError("away")

    reader.topic.on_query = refuse
    with pytest.raises(BrokerUnavailable, match="away"):
        await reader.refresh()


async def test_a_cancelled_lookup_does_not_cancel_the_shared_refresh(reader: Reader) -> None:
    response = asyncio.get_running_loop().create_future()
    reader.topic.on_query = lambda: response
    first, second = (asyncio.create_task(reader.get_latest("mug")) for _ in range(2))
    await turns()
    first.cancel()
    await turns()
    response.set_result(None)
    assert await second is None


async def test_stop_fails_a_refresh_in_flight(reader: Reader) -> None:
    reader.topic.on_query = asyncio.get_running_loop().create_future
    call = asyncio.create_task(reader.refresh())
    await turns()
    await reader.stop()
    with pytest.raises(BrokerUnavailable):
        await call
    with pytest.raises(BrokerUnavailable):
        await reader.refresh()


async def test_a_retriable_error_is_retried(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(global_table, "RETRY_S", 0)
    reader.topic.errors.append(KafkaConnectionError("away"))
    reader.topic.append("cup", value("campaigns/cup"))
    await reader.refresh()
    reader.topic.append("mug", value("campaigns/mug"))
    assert await reader.get_latest("mug") is not None
    assert not reader.topic.errors


async def test_a_cancelled_error_from_inside_the_consumer_ends_the_process(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    aborts: list[str] = []
    monkeypatch.setattr(global_table, "abort", lambda reason, *_, **__: aborts.append(reason))
    reader.topic.errors.append(asyncio.CancelledError())
    reader.topic.append("mug", value("campaigns/mug"))
    await turns()
    assert aborts == ["the reader of a topic ended"]


async def test_a_removal_and_a_value_of_another_key_are_ignored_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(global_table, "AIOKafkaConsumer", Consumer)
    made = campaign_table.reader("127.0.0.1:1", "test")
    topic: Any = made._consumer
    await made.start(1)
    try:
        topic.append("mug", value("campaigns/mug"))
        for foreign in (None, value("campaigns/jug"), b"\xff"):
            topic.append("mug", foreign)
        topic.append("jug", value("campaigns/mug"))
        topic.append("never", None)
        await made.refresh()
        found = made.find("mug")
        assert found is not None
        assert found.name == "campaigns/mug"
        assert made.find("jug") is None
        assert (made.ignored, made.undecodable) == (3, 1)
        logged = [one.getMessage() for one in caplog.records if one.levelname == "CRITICAL"]
        assert len(logged) == 3
        assert all("Run `verify`" in one for one in logged)
    finally:
        await made.stop()
