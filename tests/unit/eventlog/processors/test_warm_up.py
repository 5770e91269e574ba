"""A warm-up folds partitions before the process joins its group: which ones, in which order, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from eventlog.broker.group_members import Member
from eventlog.processors.standby import warm_up
from eventlog.processors.standby.followers import NEAR_RECORDS
from eventlog.processors.standby.warm_up import next_log
from tests.unit.eventlog.processors.standby_site import SECONDS, TOPIC, CountingFollower, Logs, disk, logs, site, until

__all__ = ["disk", "logs", "site"]


async def test_all_partitions_are_warmed_up_while_others_serve(site: Any) -> None:
    for partition in range(4):
        site.logs.append(partition, NEAR_RECORDS + 500)
    site.logs.members = [Member("w0", {TOPIC: [0, 1, 2, 3]})]
    await site.standby.warm_up(4)
    assert set(site.standby.positions) == {0, 1, 2, 3}
    assert set(site.standby.behind.values()) == {0}
    # All are followed until there is an assignment; then those that are neither owned nor followed are dropped.
    site.run()
    site.logs.append(0, 5)
    await until(lambda: site.standby.positions[0] == {TOPIC: NEAR_RECORDS + 505})
    site.host.owned, site.host.followed = {0}, {1}
    await until(lambda: set(site.standby.positions) == {0, 1})
    assert site.disk.open == {0, 1}, "an owned partition waits for its adoption"
    follower = await site.standby.adopt(0)
    assert follower.positions == {TOPIC: NEAR_RECORDS + 505}
    follower.close()


async def test_the_only_member_joins_at_once(site: Any) -> None:
    site.logs.append(0, 5)
    await site.standby.warm_up(1)
    site.logs.members = [Member("w1", {TOPIC: [0]})]
    await site.standby.warm_up(1)
    assert not site.host.followers
    assert not site.logs.consumers


async def test_a_restart_within_the_session_warms_up_only_the_assigned_partitions(site: Any) -> None:
    for partition in range(4):
        site.logs.append(partition, 5)
    site.logs.members = [Member("w0", {TOPIC: [0, 1]}), Member("w1", {TOPIC: [2, 3]})]
    await site.standby.warm_up(4)
    assert set(site.standby.positions) == {2, 3}


async def test_a_restart_during_a_rebalance_warms_up_the_partitions_on_disk(site: Any) -> None:
    site.disk.written_at = {1: 10.0}
    site.logs.members = [Member("w0", {}), Member("w1", {})]
    await site.standby.warm_up(4)
    assert set(site.standby.positions) == {1}


async def test_a_restart_during_a_rebalance_without_state_warms_up_all_partitions(site: Any) -> None:
    site.logs.members = [Member("w0", {}), Member("w1", {})]
    await site.standby.warm_up(4)
    assert set(site.standby.positions) == {0, 1, 2, 3}


async def test_a_warm_up_ends_when_the_other_members_leave(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm_up, "REPORT_S", 0.0)
    site.standby._warm_s = 10 * SECONDS
    site.logs.append(0, 10)
    monkeypatch.setattr(Logs, "end", lambda *_: 10**9)
    site.logs.members = [Member("w0", {}), Member("w1", {})]
    warming = asyncio.create_task(site.standby.warm_up(1))
    await until(lambda: site.standby.positions == {0: {TOPIC: 10}})
    assert not warming.done()
    del site.logs.members[0]
    async with asyncio.timeout(SECONDS):
        await warming


async def test_a_warm_up_starts_with_the_newest_state_and_has_a_time_limit(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[int] = []
    site.standby._warm_s = 0.2
    for partition in range(3):
        site.logs.append(partition, NEAR_RECORDS + 1)
    site.disk.written_at = {1: 10.0, 2: 20.0}
    site.logs.members = [Member("w0", {})]
    fold = CountingFollower.apply

    def slowly(self: CountingFollower, topic: str, records: Sequence[Any]) -> None:
        order.append(self.partition)
        fold(self, topic, records[:1] if self.partition == 1 else records)

    monkeypatch.setattr(CountingFollower, "apply", slowly)
    # Partition 1 meets a gap, so its follower is dropped. The end of partition 0 is never reached.
    end = Logs.end
    monkeypatch.setattr(Logs, "end", lambda self, partition: end(self, partition) if partition else 10**9)
    began = asyncio.get_running_loop().time()
    await site.standby.warm_up(3)
    assert asyncio.get_running_loop().time() - began < SECONDS / 2
    assert list(dict.fromkeys(order)) == [2, 1, 0]


async def test_a_process_joins_without_a_warm_up_if_it_is_off_or_the_broker_is_unavailable(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> list[Member]:
        raise KafkaConnectionError("away")

    monkeypatch.setattr(warm_up, "members_of", away)
    await site.standby.warm_up(1)
    site.standby._warm_s = 0.0
    await site.standby.warm_up(1)


async def test_it_stops_during_a_warm_up_and_again_afterwards(site: Any) -> None:
    for partition in range(2):
        site.logs.append(partition, 10**6)
    site.logs.members = [Member("w0", {})]
    warming = asyncio.create_task(site.standby.warm_up(2))
    await until(lambda: len(site.host.followers) == 2 and site.standby.folded > 0)
    async with asyncio.timeout(SECONDS):
        await site.standby.stop()
        await warming
        await site.standby.stop()
    assert site.disk.written[0] == site.host.followers[0].next, "the folded records are written"


def test_a_warm_up_folds_the_logs_of_a_partition_in_order_of_time() -> None:
    topics = ("facts", "decisions")
    following: Any = SimpleNamespace(reached={"facts": 5, "decisions": 9}, times={"facts": 700, "decisions": 650})
    facts, decisions = TopicPartition("facts", 0), TopicPartition("decisions", 0)
    ends = {facts: 10, decisions: 10}
    assert next_log({0: following}, topics, ends, [0]) == decisions
    following.times["decisions"] = 710
    assert next_log({0: following}, topics, ends, [0]) == facts
    following.times["facts"] = 720
    following.reached["decisions"] = 10
    assert next_log({0: following}, topics, ends, [0]) == facts
    following.reached["facts"] = 10
    assert next_log({0: following}, topics, ends, [0]) is None
