"""State directories are opened with the log's identity, verified against the log, and set aside if they don't match."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest

from eventlog.core.state_store import CheckpointPosition
from eventlog.records.codec import Codec
from eventlog.records.log_position import LogIdentity, SourcePosition
from eventlog.state import database
from eventlog.state.rocksdb_store import RocksDBStore
from eventlog.state.verified_open import open_verified
from tests.unit.eventlog.counting import Counter
from tests.unit.eventlog.state.stub_broker import StubBroker
from tests.unit.eventlog.state.test_rocksdb_store import aggregate

A = LogIdentity("cluster-a", 2, {"inbox": "1", "log": "2"})
#: The same topics, deleted and created again.
B = LogIdentity("cluster-a", 2, {"inbox": "3", "log": "4"})
RECORD = b"the decision at offset 7"


class Broker(StubBroker):
    """A broker whose log has `record` at offset 7."""

    record = RECORD

    def difference(self, partition: int, sources: Mapping[str, SourcePosition]) -> str | None:
        same = sources["log"].digest == sha256(self.record).digest()
        return None if same else "another record"


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    monkeypatch.setattr(database, "set_aside_count", {})
    return Broker(A, monkeypatch)


def make(path: Path, identity: LogIdentity) -> RocksDBStore[Counter]:
    return RocksDBStore(path, Codec.of("counting-1", Counter), 64, log_topic="log", identity=identity)


async def open_all(directory: Path) -> dict[int, RocksDBStore[Counter]]:
    paths = {partition: directory / str(partition) for partition in range(2)}
    opens = open_verified("kafka", ("inbox", "log"), paths, lambda one, identity: make(paths[one], identity))
    return {partition: states async for partition, states in opens}


async def write_states(directory: Path) -> None:
    for states in (await open_all(directory)).values():
        states.changed(aggregate(1), None)
        states.save_folded(CheckpointPosition(7, 7, sha256(RECORD).digest()))
        states.close()


def close(found: Mapping[int, RocksDBStore[Counter]]) -> None:
    for states in found.values():
        states.close()


async def test_matching_states_are_used_after_one_query_for_the_identity(tmp_path: Path, broker: Broker) -> None:
    await write_states(tmp_path)
    broker.queries = broker.connections = 0
    found = await open_all(tmp_path)
    assert [states.checkpoint_position.applied for states in found.values()] == [7, 7]
    assert (broker.queries, broker.connections) == (1, 1)
    close(found)


@pytest.mark.parametrize("other", ["topics", "record", "cluster"])
async def test_states_of_another_log_are_set_aside(tmp_path: Path, broker: Broker, other: str) -> None:
    await write_states(tmp_path)
    if other == "topics":
        broker.identity = B
    elif other == "cluster":
        broker.identity = LogIdentity("cluster-b", 2, A.topics)
    else:
        broker.record = b"another decision"
    found = await open_all(tmp_path)
    assert [states.checkpoint_position.applied for states in found.values()] == [-1, -1]
    assert [states.get("k00001") for states in found.values()] == [None, None]
    assert [len(states) for states in found.values()] == [0, 0]
    assert database.set_aside_count == {"another log": 2}
    close(found)


async def test_it_retries_until_the_broker_answers(tmp_path: Path, broker: Broker) -> None:
    await write_states(tmp_path)
    broker.failures = 3
    async with asyncio.timeout(20):
        found = await open_all(tmp_path)
    assert [states.checkpoint_position.applied for states in found.values()] == [7, 7]
    assert database.set_aside_count == {}
    close(found)


async def test_a_partition_that_comes_back_during_its_checkpoint_is_opened_after_it(
    tmp_path: Path, broker: Broker
) -> None:
    found = await open_all(tmp_path)
    lost = found[0]
    lost.changed(aggregate(1), None)
    for _ in lost.begin_checkpoint():
        continue
    close(found)
    regained = asyncio.create_task(open_all(tmp_path))
    await asyncio.sleep(0.05)
    assert not regained.done()
    await asyncio.to_thread(lost.finish_checkpoint, CheckpointPosition(7, 7, sha256(RECORD).digest()))
    lost.end_checkpoint()
    async with asyncio.timeout(20):
        again = await regained
    assert again[0].checkpoint_position.applied == 7
    close(again)
