"""Goal: a partition that stays is not touched, one that moves away is written and closed, one that comes back goes on
from its database, and a database of another log is set aside. Method: real databases; the broker is a stub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Self

import pytest
from aiokafka.errors import KafkaConnectionError

from eventlog.state import database, open_partitions
from eventlog.state.database import Database, LogIdentity, SourcePosition
from eventlog.state.follower import Follower
from eventlog.state.open_partitions import Holdings
from eventlog.state.projection_store import Projected
from tests.unit.eventlog.state.test_projection_store import TOPICS, Seen, record

IDENTITY = LogIdentity("cluster", 4, dict.fromkeys(TOPICS, "id"))


class Broker:
    """Answers who the logs are, and in which way they differ from what was folded."""

    def __init__(self) -> None:
        self.identity = IDENTITY
        self.away = False
        self.differ: dict[int, str] = {}
        self.asked = 0

    async def identity_of(self, *_: object) -> LogIdentity:
        self.asked += 1
        if self.away:
            raise KafkaConnectionError
        return self.identity

    def reader(self, *_: object) -> Any:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def differs(self, partition: int, sources: Mapping[str, SourcePosition]) -> str | None:
        assert sources
        return self.differ.get(partition)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker()
    monkeypatch.setattr(open_partitions, "identity_of", made.identity_of)
    monkeypatch.setattr(open_partitions, "LogReader", made.reader)
    monkeypatch.setattr(open_partitions, "PAUSE_S", 0.01)
    return made


def holdings(directory: Path) -> Holdings[Projected[list[str]]]:
    def make(partition: int, opened: Database) -> Projected[list[str]]:
        return Projected(partition, opened, Seen(), TOPICS, 100)

    return Holdings("localhost:1", TOPICS, directory, Seen.stamp, make)


@pytest.fixture
async def held(tmp_path: Path, broker: Broker) -> AsyncIterator[Holdings[Projected[list[str]]]]:
    made = holdings(tmp_path)
    yield made
    await made.close()


async def test_a_partition_that_stays_is_the_same_and_the_broker_is_not_asked(
    held: Holdings[Projected[list[str]]], broker: Broker
) -> None:
    await held.take([0, 1])
    first = held.held[0]
    first.apply("facts", [record(0)])
    await held.take([0])
    await held.release_others([0])
    assert list(held.held) == [0]
    assert held.held[0] is first
    assert first.get("k") == ["facts 0"]
    assert broker.asked == 1


async def test_a_partition_that_moves_away_is_written_and_goes_on_when_it_comes_back(
    held: Holdings[Projected[list[str]]],
) -> None:
    await held.take([0, 1])
    gone = held.held[1]
    gone.apply("facts", [record(0), record(1)])
    # It comes back while it is being written, and once it is closed.
    leaving = asyncio.ensure_future(held.release_others([0]))
    await asyncio.sleep(0)
    await held.take([0, 1])
    await leaving
    assert held.held[1].get("k") == ["facts 0", "facts 1"]
    await held.release_others([0])
    assert gone.closed
    await held.take([0, 1])
    assert held.held[1].positions == {"facts": 2}
    assert held.held[1].get("k") == ["facts 0", "facts 1"]


async def test_what_is_written_at_the_end_is_there_at_the_next_start(tmp_path: Path, broker: Broker) -> None:
    first = holdings(tmp_path)
    await first.take([2])
    first.held[2].apply("decisions", [record(0)])
    await first.close()
    again = holdings(tmp_path)
    await again.take([2])
    assert again.held[2].positions == {"decisions": 1}
    await again.close()


@pytest.mark.parametrize("other", ["cluster", "topic", "record"])
async def test_a_database_of_another_log_is_set_aside(tmp_path: Path, broker: Broker, other: str) -> None:
    first = holdings(tmp_path)
    await first.take([0])
    first.held[0].apply("facts", [record(0)])
    await first.close()
    before = database.set_aside_count.get("another log", 0)
    if other == "cluster":
        broker.identity = LogIdentity("another", 4, IDENTITY.topics)
    elif other == "topic":
        broker.identity = LogIdentity("cluster", 4, {**IDENTITY.topics, "facts": "made again"})
    else:
        broker.differ[0] = "the record at 0 is another one"
    again = holdings(tmp_path)
    await again.take([0])
    assert again.held[0].positions == {}
    assert again.held[0].get("k") is None
    assert database.set_aside_count["another log"] == before + 1
    await again.close()


async def test_a_broker_that_is_away_is_asked_again_and_a_close_does_not_wait_for_it(
    tmp_path: Path, broker: Broker
) -> None:
    broker.away = True
    made = holdings(tmp_path)
    taking = asyncio.ensure_future(made.take([0]))
    async with asyncio.timeout(10):
        while broker.asked < 3:  # noqa: ASYNC110 - the stub has nobody to wake
            await asyncio.sleep(0.01)
        broker.away = False
        await taking
        broker.away = True
        taking = asyncio.ensure_future(made.take([0, 1]))
        await asyncio.sleep(0)
        await made.close()
    assert not made.held
    with pytest.raises(asyncio.CancelledError):
        await taking


async def test_a_cancelled_opening_ends_and_is_there_for_the_next_call(
    held: Holdings[Projected[list[str]]],
) -> None:
    taking = asyncio.ensure_future(held.take([0]))
    await asyncio.sleep(0)
    taking.cancel()
    await held.take([0])
    assert list(held.held) == [0]


async def test_a_standbys_follower_is_adopted_and_not_opened_again(
    held: Holdings[Projected[list[str]]], broker: Broker
) -> None:
    follower = await held.open(3)
    follower.apply("facts", [record(0)])
    assert not held.held

    async def adopt(partition: int) -> Follower | None:
        return follower if partition == 3 else None

    held.adopt = adopt
    await held.take([3])
    assert held.held[3] is follower
    assert held.held[3].positions == {"facts": 1}


def test_databases_of_an_earlier_layout_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "CURRENT").write_text("x")
    open_partitions.drop_other_layouts(tmp_path, ("books", "nothing"))
    assert not list(tmp_path.iterdir())
