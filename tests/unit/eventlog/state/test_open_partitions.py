"""Goal: a partition that stays is not touched, one that moves away is written and closed, one that comes back goes on
from its database, and a database of another log is set aside. Method: real databases and a stub broker."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventlog.records.log_position import LogIdentity
from eventlog.state import database, open_partitions
from eventlog.state.database import Database
from eventlog.state.follower import Follower
from eventlog.state.open_partitions import OpenPartitions
from eventlog.state.projection_store import ProjectionStore
from tests.unit.eventlog.state.stub_broker import StubBroker
from tests.unit.eventlog.state.test_projection_store import TOPICS, Seen, record

IDENTITY = LogIdentity("cluster", 4, dict.fromkeys(TOPICS, "id"))


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> StubBroker:
    return StubBroker(IDENTITY, monkeypatch)


def partitions_in(directory: Path) -> OpenPartitions[ProjectionStore[list[str]]]:
    def make(partition: int, opened: Database) -> ProjectionStore[list[str]]:
        return ProjectionStore(partition, opened, Seen(), TOPICS, 100)

    return OpenPartitions("localhost:1", TOPICS, directory, Seen.stamp, make)


@pytest.fixture
async def partitions(tmp_path: Path, broker: StubBroker) -> AsyncIterator[OpenPartitions[ProjectionStore[list[str]]]]:
    made = partitions_in(tmp_path)
    yield made
    await made.close()


async def test_a_partition_that_stays_is_the_same_object_without_a_query_to_the_broker(
    partitions: OpenPartitions[ProjectionStore[list[str]]], broker: StubBroker
) -> None:
    await partitions.take([0, 1])
    first = partitions.held[0]
    first.apply("facts", [record(0)])
    await partitions.take([0])
    await partitions.release_others([0])
    assert list(partitions.held) == [0]
    assert partitions.held[0] is first
    assert first.get("k") == ["facts 0"]
    assert broker.queries == 1


async def test_a_partition_that_moves_away_is_written_and_resumes_when_it_comes_back(
    partitions: OpenPartitions[ProjectionStore[list[str]]],
) -> None:
    await partitions.take([0, 1])
    gone = partitions.held[1]
    gone.apply("facts", [record(0), record(1)])
    # It comes back while it is being written, and once it is closed.
    leaving = asyncio.ensure_future(partitions.release_others([0]))
    await asyncio.sleep(0)
    await partitions.take([0, 1])
    await leaving
    assert partitions.held[1].get("k") == ["facts 0", "facts 1"]
    await partitions.release_others([0])
    assert gone.closed
    await partitions.take([0, 1])
    assert partitions.held[1].positions == {"facts": 2}
    assert partitions.held[1].get("k") == ["facts 0", "facts 1"]


async def test_close_writes_and_the_next_start_resumes_there(tmp_path: Path, broker: StubBroker) -> None:
    first = partitions_in(tmp_path)
    await first.take([2])
    first.held[2].apply("decisions", [record(0)])
    await first.close()
    again = partitions_in(tmp_path)
    await again.take([2])
    assert again.held[2].positions == {"decisions": 1}
    await again.close()


@pytest.mark.parametrize("other", ["cluster", "topic", "record"])
async def test_a_database_of_another_log_is_set_aside(
    tmp_path: Path, broker: StubBroker, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = partitions_in(tmp_path)
    await first.take([0])
    first.held[0].apply("facts", [record(0)])
    await first.close()
    before = database.set_aside_count.get("another log", 0)
    if other == "cluster":
        broker.identity = LogIdentity("another", 4, IDENTITY.topics)
    elif other == "topic":
        broker.identity = LogIdentity("cluster", 4, {**IDENTITY.topics, "facts": "made again"})
    else:
        monkeypatch.setattr(broker, "difference", lambda *_: "the record at 0 is another one")
    again = partitions_in(tmp_path)
    await again.take([0])
    assert again.held[0].positions == {}
    assert again.held[0].get("k") is None
    assert database.set_aside_count["another log"] == before + 1
    await again.close()


async def test_queries_are_retried_and_a_close_does_not_wait_for_them(tmp_path: Path, broker: StubBroker) -> None:
    broker.failures = sys.maxsize
    made = partitions_in(tmp_path)
    taking = asyncio.ensure_future(made.take([0]))
    async with asyncio.timeout(10):
        while broker.queries < 3:  # noqa: ASYNC110 - the stub has no event
            await asyncio.sleep(0.01)
        broker.failures = 0
        await taking
        broker.failures = sys.maxsize
        taking = asyncio.ensure_future(made.take([0, 1]))
        await asyncio.sleep(0)
        await made.close()
    assert not made.held
    with pytest.raises(asyncio.CancelledError):
        await taking


async def test_a_cancelled_take_completes_for_the_next_call(
    partitions: OpenPartitions[ProjectionStore[list[str]]],
) -> None:
    taking = asyncio.ensure_future(partitions.take([0]))
    await asyncio.sleep(0)
    taking.cancel()
    await partitions.take([0])
    assert list(partitions.held) == [0]


async def test_a_standbys_follower_is_adopted_without_opening_its_database_again(
    partitions: OpenPartitions[ProjectionStore[list[str]]], broker: StubBroker
) -> None:
    follower = await partitions.open(3)
    follower.apply("facts", [record(0)])
    assert not partitions.held

    async def adopt(partition: int) -> Follower | None:
        return follower if partition == 3 else None

    partitions.adopt = adopt
    await partitions.take([3])
    assert partitions.held[3] is follower
    assert partitions.held[3].positions == {"facts": 1}


def test_databases_of_an_earlier_layout_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "CURRENT").write_text("x")
    open_partitions.drop_other_layouts(tmp_path, ("books", "nothing"))
    assert not list(tmp_path.iterdir())
