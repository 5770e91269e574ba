"""A standby follows the assigned partitions, hands them over, and drops followers whose logs can't be folded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from eventlog.core.errors import InvariantViolation
from eventlog.processors.standby import followers
from eventlog.processors.standby.followers import MAX_UNWRITTEN, POLL_RECORDS
from tests.unit.eventlog.processors.standby_site import SECONDS, TOPIC, disk, logs, site, until
from tests.waiting import moment

__all__ = ["disk", "logs", "site"]


async def test_it_follows_exactly_the_assigned_partitions(site: Any) -> None:
    for partition in range(3):
        site.logs.append(partition, 300)
    site.run()
    site.host.followed = {0, 2}
    await until(lambda: site.standby.positions == {0: {TOPIC: 300}, 2: {TOPIC: 300}})
    site.logs.append(0, 5)
    await until(lambda: site.standby.positions[0] == {TOPIC: 305})
    assert site.standby.behind == {0: 0, 2: 0}
    site.host.followed = {1, 2}
    await until(lambda: site.standby.positions == {1: {TOPIC: 300}, 2: {TOPIC: 300}})
    # A follower is written before it is dropped.
    assert site.disk.written[0] == 305
    assert site.disk.open == {1, 2}
    assert len([one for one in site.host.followers if one.partition == 2]) == 1, (
        "a partition that stays is not opened again"
    )


async def test_no_consumer_is_open_while_no_partition_is_followed(site: Any) -> None:
    site.logs.append(0, 10)
    site.run()
    site.host.followed = set()
    await until(lambda: site.host.followed is not None)
    await asyncio.sleep(0)
    assert not site.logs.consumers
    site.host.followed = {0}
    await until(lambda: site.standby.positions == {0: {TOPIC: 10}})
    site.host.followed = set()
    await until(lambda: site.logs.consumers[-1].stopped)


async def test_writes_bound_the_memory(site: Any) -> None:
    site.logs.append(0, 3 * MAX_UNWRITTEN + 17)
    site.run()
    site.host.followed = {0}
    await until(lambda: site.standby.behind == {0: 0} and bool(site.standby.positions[0]))
    (follower,) = site.host.followers
    assert follower.most_unwritten <= MAX_UNWRITTEN + POLL_RECORDS
    assert site.disk.written[0] >= 2 * MAX_UNWRITTEN


async def test_old_changes_are_written_even_if_they_are_few(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers, "MAX_UNWRITTEN_S", 0.01)
    site.logs.append(0, 3)
    site.run()
    site.host.followed = {0}
    await until(lambda: site.disk.written.get(0) == 3)


async def test_an_adopted_follower_is_open_and_no_longer_touched(site: Any) -> None:
    site.logs.append(0, 50)
    site.logs.append(1, 50)
    site.run()
    site.host.followed = {0, 1}
    await until(lambda: site.standby.positions == {0: {TOPIC: 50}, 1: {TOPIC: 50}})
    site.host.owned = {0}
    site.host.followed = {1}
    follower = await site.standby.adopt(0)
    assert follower.positions == {TOPIC: 50}
    assert not follower.closed
    site.logs.append(0, 10)
    site.logs.append(1, 10)
    await until(lambda: site.standby.positions == {1: {TOPIC: 60}})
    assert follower.positions == {TOPIC: 50}, "it was folded after the hand-over"
    assert await site.standby.adopt(0) is None
    follower.close()


async def test_an_adoption_waits_for_a_write_in_progress(site: Any) -> None:
    release = asyncio.Event()
    site.logs.append(0, MAX_UNWRITTEN + 1)
    site.run()
    site.host.write = release.wait
    site.host.followed = {0}
    await until(lambda: any(one.writing for one in site.host.followers))
    site.host.owned = {0}
    adopting = asyncio.create_task(site.standby.adopt(0))
    await moment(0.01)
    assert not adopting.done()
    release.set()
    follower = await adopting
    assert not follower.writing
    follower.close()


async def test_an_adoption_waits_while_the_follower_is_opened(site: Any) -> None:
    release = asyncio.Event()
    site.host.opens = release.wait
    site.run()
    site.host.followed = {0}
    await until(lambda: bool(site.disk.open))
    adopting = asyncio.create_task(site.standby.adopt(0))
    await moment(0.01)
    assert not adopting.done()
    site.host.owned = {0}
    site.host.followed = set()
    release.set()
    follower = await adopting
    assert site.disk.open == {0}
    follower.close()


async def test_a_partition_is_not_opened_while_the_processor_closes_it(site: Any) -> None:
    site.logs.append(0, 5)
    site.host.open_here = {0}
    site.run()
    site.host.followed = {0}
    await moment(0.05)
    assert not site.host.followers
    site.host.open_here = set()
    await until(lambda: site.standby.positions == {0: {TOPIC: 5}})


async def test_a_record_that_can_not_be_folded_drops_only_its_follower(site: Any) -> None:
    site.host.poisoned[0] = 20
    for partition in range(2):
        site.logs.append(partition, 60)
    site.run()
    site.host.followed = {0, 1}
    await until(lambda: site.standby.positions == {1: {TOPIC: 60}})
    assert site.disk.open == {1}
    site.logs.append(1)
    await until(lambda: site.standby.positions == {1: {TOPIC: 61}})
    assert len(site.host.followers) == 2, "it is not retried while it is assigned"
    # Its next owner handles the record.
    assert await site.standby.adopt(0) is None
    # After the next assignment it is opened again.
    site.host.poisoned.clear()
    await until(lambda: site.standby.positions == {0: {TOPIC: 60}, 1: {TOPIC: 61}})


async def test_a_gap_in_the_log_drops_the_follower(site: Any) -> None:
    site.logs.append(0, 60)
    site.logs.begins[0] = 30
    site.run()
    site.host.followed = {0}
    await until(lambda: len(site.host.followers) == 1 and site.host.followers[0].closed)


async def test_a_log_that_ends_before_the_folded_offset_drops_the_follower(site: Any) -> None:
    site.logs.append(0, 60)
    site.run()
    site.host.followed = {0}
    await until(lambda: site.standby.positions == {0: {TOPIC: 60}})
    del site.logs.logs[0][30:]
    await until(lambda: site.host.followers[0].closed)


async def test_a_log_that_does_not_match_the_database_is_not_followed(site: Any) -> None:
    site.host.fails[0] = InvariantViolation("another log")
    site.logs.append(1, 5)
    site.run()
    site.host.followed = {0, 1}
    await until(lambda: site.standby.positions == {1: {TOPIC: 5}})


async def test_following_is_retried_while_the_broker_is_unavailable(site: Any) -> None:
    site.logs.append(0, 5)
    site.logs.broken = KafkaConnectionError("away")
    site.run()
    site.host.followed = {0}
    await until(lambda: len(site.logs.consumers) > 2)
    site.logs.broken = None
    await until(lambda: site.standby.positions == {0: {TOPIC: 5}})
    site.logs.broken = KafkaConnectionError("away again")
    site.logs.append(0)
    site.host.fails[1] = KafkaConnectionError("can't be verified")
    site.host.followed = {0, 1}
    site.logs.broken = None
    await moment(0.03)
    del site.host.fails[1]
    await until(lambda: site.standby.positions == {0: {TOPIC: 6}, 1: {}})


async def test_it_stops_while_opening_a_database_hangs(site: Any) -> None:
    site.host.opens = asyncio.Event().wait
    site.run()
    site.host.followed = {0}
    await until(lambda: bool(site.disk.open))
    async with asyncio.timeout(SECONDS):
        await site.standby.stop()
    assert not site.disk.open
