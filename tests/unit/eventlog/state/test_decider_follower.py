"""A decider's partition as a follower: a later owner goes on from what it wrote, and it refuses a broken log."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eventlog.core.errors import InvariantViolation
from eventlog.core.partition_state import PartitionState
from eventlog.records.codec import Codec
from eventlog.state.decider_follower import DeciderFollower
from eventlog.state.rocksdb_store import RocksDBStore
from tests.unit.eventlog.counting import Counter, Counting, add

LOG = "shop.log.v1"


def decisions(count: int, keys: int = 7) -> list[Any]:
    """A decision log, written by another decider."""
    decider: PartitionState[Counter] = PartitionState(Counting(), 0)
    log: list[Any] = []
    for offset in range(10 * count):
        key = f"k{offset % keys}-{offset // 40}".encode()
        value = decider.decide(SimpleNamespace(offset=offset, timestamp=offset, key=key, value=add(2, str(offset))))
        if value is not None and len(log) < count:
            log.append(SimpleNamespace(offset=len(log), timestamp=offset, key=key, value=value))
    return log


def opened(path: Path) -> DeciderFollower[Counter]:
    states: RocksDBStore[Counter] = RocksDBStore(path / "0", Codec.of("counting-1", Counter), log_topic=LOG)
    return DeciderFollower(PartitionState(Counting(), 0, states), LOG)


async def test_the_next_owner_goes_on_from_the_last_write(tmp_path: Path) -> None:
    log = decisions(100)
    follower = opened(tmp_path)
    assert follower.positions == {}
    follower.apply(LOG, log[:60])
    await follower.persist()
    follower.apply(LOG, log[60:80])
    assert follower.positions == {LOG: 80}
    follower.close()
    follower.close()
    assert follower.closed
    again = opened(tmp_path)
    assert again.positions == {LOG: 60}
    # An owner may read records that are folded already.
    again.apply(LOG, log[50:])
    assert again.positions == {LOG: 100}
    whole: PartitionState[Counter] = PartitionState(Counting(), 0)
    for record in log:
        whole.apply(record)
    for key in {record.key.decode() for record in log}:
        assert again.state.get(key) == whole.get(key)
    assert again.state.checkpoint_position == whole.checkpoint_position
    assert again.state.fully_acknowledged
    again.close()


async def test_a_close_during_a_write_waits_for_it(tmp_path: Path) -> None:
    follower = opened(tmp_path)
    follower.apply(LOG, decisions(50))
    writing = asyncio.create_task(follower.persist())
    await asyncio.sleep(0)
    follower.close()
    await writing
    again = opened(tmp_path)
    assert again.positions == {LOG: 50}
    again.close()


@pytest.mark.parametrize("broken", ["hole", "fork", "undecodable"])
async def test_a_broken_log_is_refused(tmp_path: Path, broken: str) -> None:
    log = decisions(20)
    follower = opened(tmp_path)
    follower.apply(LOG, log[:10])
    if broken == "hole":
        rest = log[11:]
    elif broken == "fork":
        # Another decision of a version that is folded already, by the last key.
        rest = [SimpleNamespace(**{**vars(log[9]), "offset": 10, "value": log[9].value.replace(b"2", b"3", 1)})]
    else:
        rest = [SimpleNamespace(**{**vars(log[10]), "value": b"\xff"})]
    with pytest.raises(InvariantViolation):
        follower.apply(LOG, rest)
    follower.close()
