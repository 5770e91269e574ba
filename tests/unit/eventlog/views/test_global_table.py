"""A compacted topic is read to its end before a key is called unknown; callers share that, and it has a time limit."""

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
    """A topic with one partition. `ask` is what becomes of a question for its end."""

    def __init__(self, **_: Any) -> None:
        self.records: list[Any] = []
        self.questions = 0
        #: Records handed over so far; none more while `held`.
        self.read = 0
        self.held = False
        self.ask: Callable[[], Any] = lambda: None
        self.errors: list[BaseException] = []
        self._more = asyncio.Event()

    def append(self, key: str, value: bytes | None) -> None:
        self.records.append(SimpleNamespace(key=key.encode(), value=value, offset=len(self.records), partition=0))
        self._more.set()

    def hand_over(self) -> None:
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
        self.questions += 1
        end = len(self.records)
        answer = self.ask()
        if answer is not None:
            await answer
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
    made.topic.questions = 0
    yield made
    await made.stop()


def value(name: str) -> bytes:
    return Campaign(name=name).SerializeToString()


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def rounds_are_not_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(global_table, "REFRESH_BURST", 1_000_000)


async def test_what_was_written_before_the_call_is_found(reader: Reader) -> None:
    reader.topic.append("mug", value("campaigns/mug"))
    found = await reader.get_latest("mug")
    assert found is not None
    assert found.name == "campaigns/mug"
    assert await reader.get_latest("mug") is found
    assert reader.topic.questions == 1


async def test_a_record_that_can_not_be_decoded_is_counted_and_ends_nothing(reader: Reader) -> None:
    reader.topic.append("mug", value("campaigns/mug"))
    reader.topic.append("mug", b"\xff\xff\xff")
    reader.topic.append("cup", value("campaigns/cup"))
    await reader.refresh()
    assert reader.undecodable == 1
    assert [one.name for one in reader.values()] == ["campaigns/mug", "campaigns/cup"]


async def test_a_flood_of_unknown_keys_asks_the_broker_a_few_times(reader: Reader) -> None:
    for _ in range(5):
        found = await asyncio.gather(*(reader.get_latest(f"unknown-{number}") for number in range(500)))
        assert found == [None] * 500
    assert reader.topic.questions == 5


async def test_callers_one_after_the_other_ask_the_broker_some_times_a_second_at_most(reader: Reader) -> None:
    loop = asyncio.get_running_loop()
    reader._next_due = loop.time() + REFRESH_BURST / REFRESHES_PER_S
    began = loop.time()
    for number in range(4):
        assert await reader.get_latest(f"unknown-{number}") is None
    assert loop.time() - began > 0.9 * 4 / REFRESHES_PER_S
    assert reader.topic.questions == 4


async def test_a_caller_that_comes_while_the_broker_is_asked_shares_the_next_answer(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds_are_not_limited(monkeypatch)
    loop = asyncio.get_running_loop()
    answers = [loop.create_future(), loop.create_future()]
    questions = iter(answers)
    reader.topic.ask = lambda: next(questions)
    early = [asyncio.create_task(reader.get_latest("mug")) for _ in range(3)]
    await turns()
    assert reader.topic.questions == 1
    # The end that the broker was asked for is before this record, and the record is not read yet.
    reader.topic.held = True
    reader.topic.append("mug", value("campaigns/mug"))
    late = [asyncio.create_task(reader.get_latest("mug")) for _ in range(3)]
    await turns()
    answers[0].set_result(None)
    assert await asyncio.gather(*early) == [None] * 3
    await turns()
    assert reader.topic.questions == 2
    answers[1].set_result(None)
    await turns()
    assert not any(call.done() for call in late)
    reader.topic.hand_over()
    assert all(campaign is not None for campaign in await asyncio.gather(*late))
    assert reader.topic.questions == 2


@pytest.mark.parametrize("what", ["the question", "the records"])
async def test_a_broker_that_says_nothing_is_unavailable_in_time(
    reader: Reader, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(global_table, "REFRESH_S", 0.05)
    if what == "the question":
        reader.topic.ask = asyncio.get_running_loop().create_future
    else:
        reader.topic.held = True
        reader.topic.append("mug", value("campaigns/mug"))
    async with asyncio.timeout(5):
        with pytest.raises(BrokerUnavailable):
            await reader.get_latest("mug")
    # It is asked again, and answers.
    reader.topic.ask = lambda: None
    monkeypatch.setattr(global_table, "REFRESH_S", 5)
    reader.topic.hand_over()
    assert (await reader.get_latest("mug") is None) is (what == "the question")


async def test_a_broker_that_refuses_is_unavailable(reader: Reader) -> None:
    def refuse() -> None:
        raise KafkaConnectionError("away")

    reader.topic.ask = refuse
    with pytest.raises(BrokerUnavailable, match="away"):
        await reader.refresh()


async def test_a_caller_that_gives_up_takes_nothing_from_the_others(reader: Reader) -> None:
    answer = asyncio.get_running_loop().create_future()
    reader.topic.ask = lambda: answer
    first, second = (asyncio.create_task(reader.get_latest("mug")) for _ in range(2))
    await turns()
    first.cancel()
    await turns()
    answer.set_result(None)
    assert await second is None


async def test_who_waits_is_told_when_the_reader_stops(reader: Reader) -> None:
    reader.topic.ask = asyncio.get_running_loop().create_future
    call = asyncio.create_task(reader.refresh())
    await turns()
    await reader.stop()
    with pytest.raises(BrokerUnavailable):
        await call
    with pytest.raises(BrokerUnavailable):
        await reader.refresh()


async def test_an_error_that_the_broker_may_get_over_is_got_over(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(global_table, "RETRY_S", 0)
    reader.topic.errors.append(KafkaConnectionError("away"))
    reader.topic.append("cup", value("campaigns/cup"))
    await reader.refresh()
    reader.topic.append("mug", value("campaigns/mug"))
    assert await reader.get_latest("mug") is not None
    assert not reader.topic.errors


async def test_a_cancellation_that_is_not_ours_ends_the_process(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    died: list[str] = []
    monkeypatch.setattr(global_table, "abort", lambda what, *_, **__: died.append(what))
    reader.topic.errors.append(asyncio.CancelledError())
    reader.topic.append("mug", value("campaigns/mug"))
    await turns()
    assert died == ["the reader of a topic ended"]


async def test_a_removal_or_a_foreign_record_changes_no_offer(
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
        told = [one.getMessage() for one in caplog.records if one.levelname == "CRITICAL"]
        assert len(told) == 3
        assert all("Run `verify`" in one for one in told)
    finally:
        await made.stop()
