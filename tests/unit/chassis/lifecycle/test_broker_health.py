"""Waiting for the broker and its topics: missing ones are waited for, wrong ones fail the start."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from chassis.lifecycle import backoff
from chassis.lifecycle import broker_health as module
from chassis.lifecycle.broker_health import FAILED_PROBES, BrokerHealth
from eventlog.core.errors import TopicsDiffer
from shared_kernel.topics import BUSINESS, GROUPS_DECIDER, GROUPS_ROUTER, GROUPS_SEQUENCER
from tests.unit.chassis.support import SOON_S, eventually


class Cluster:
    """The state of the broker, set by each test."""

    def __init__(self) -> None:
        self.down = 0
        self.topics = {topic.name for topic in BUSINESS}
        self.committed = {topic.name for topic in BUSINESS}
        self.declared: int | None = 4
        self.differs = ""
        self.checks = 0
        self.connections = 0
        self.named: list[str] = []

    def answer(self) -> None:
        if self.down:
            self.down -= 1
            raise KafkaConnectionError("gone")

    async def check(self, _kafka: str, _topics: Any, *, partitions: int) -> int:
        self.checks += 1
        if self.differs:
            raise TopicsDiffer(self.differs)
        return partitions

    async def number(self, _kafka: str) -> int | None:
        self.answer()
        return self.declared


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    found = Cluster()

    class Admin:
        def __init__(self, **_: object) -> None:
            pass

        async def start(self) -> None:
            found.answer()
            found.connections += 1

        async def close(self) -> None:
            pass

        async def list_topics(self) -> list[str]:
            found.answer()
            return sorted(found.topics)

        async def describe_topics(self, names: list[str]) -> list[object]:
            found.named += names
            found.answer()
            return []

        async def list_consumer_group_offsets(self, _group: str) -> dict[TopicPartition, Any]:
            return {TopicPartition(name, 0): SimpleNamespace(offset=0) for name in found.committed}

    monkeypatch.setattr(module, "AIOKafkaAdminClient", Admin)
    monkeypatch.setattr(module, "check_topics", found.check)
    monkeypatch.setattr(module, "declared", found.number)
    monkeypatch.setattr(backoff, "MAX_WAIT_S", 0.0)
    monkeypatch.setattr(module, "PROBE_INTERVAL_S", 0.001)
    return found


def groups_broker() -> BrokerHealth:
    return BrokerHealth("b:1", BUSINESS, "groups")


async def test_each_failed_attempt_logs_one_line(cluster: Cluster) -> None:
    cluster.down = 3
    with structlog.testing.capture_logs() as logs:
        assert await groups_broker().wait() == 4
    warnings = [log["event"] for log in logs if log["log_level"] != "debug"]
    assert warnings == ["broker b:1 is unavailable; retrying in 0.0 s"] * 3


async def test_missing_topics_are_waited_for_and_not_described_by_name(cluster: Cluster) -> None:
    cluster.topics = set()
    broker = groups_broker()
    with structlog.testing.capture_logs() as logs:
        waiting = asyncio.ensure_future(broker.wait())
        await eventually(lambda: len(logs) > 2)
        assert not broker.available
        cluster.topics = {topic.name for topic in BUSINESS}
        assert await asyncio.wait_for(waiting, SOON_S) == 4
    assert broker.available
    assert cluster.named == []
    assert "has no topics orders.order.v1, groups.campaign.v1, groups.inbox.v1 and 9 more" in logs[0]["event"]
    assert "groupbuy-ops topics create" in logs[0]["event"]


async def test_an_undeclared_number_of_partitions_is_waited_for(cluster: Cluster) -> None:
    cluster.declared = None
    with structlog.testing.capture_logs() as logs:
        waiting = asyncio.ensure_future(groups_broker().wait())
        await eventually(lambda: len(logs) > 2)
        cluster.declared = 4
        assert await asyncio.wait_for(waiting, SOON_S) == 4
    assert "`groupbuy-ops topics create` must end first" in logs[0]["event"]


async def test_a_number_of_partitions_that_stays_undeclared_fails_the_start(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.declared = None
    monkeypatch.setattr(module, "DECLARED_GRACE_S", -1.0)
    with pytest.raises(TopicsDiffer, match="no number of partitions is declared"):
        await groups_broker().wait()


async def test_forgotten_offsets_are_logged_and_do_not_delay_the_start(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.committed = set()
    monkeypatch.setattr(module, "DECLARED_GRACE_S", -1.0)
    with structlog.testing.capture_logs() as logs:
        assert await groups_broker().wait() == 4
    (entry,) = logs
    # Readers of other services are not logged.
    assert entry["groups"] == [GROUPS_SEQUENCER, GROUPS_DECIDER, GROUPS_ROUTER]


async def test_topics_that_differ_fail_the_start(cluster: Cluster) -> None:
    cluster.differs = "orders.order.v1 has 3 partitions"
    with pytest.raises(TopicsDiffer, match="3 partitions"):
        await groups_broker().wait()
    assert cluster.checks == 1


async def test_the_broker_is_unavailable_after_some_failed_probes_and_available_after_one_success(
    cluster: Cluster,
) -> None:
    broker = groups_broker()
    await broker.wait()
    watching = asyncio.ensure_future(broker.watch())
    cluster.down = FAILED_PROBES - 1
    await eventually(lambda: cluster.down == 0 and len(cluster.named) > FAILED_PROBES)
    assert broker.available
    cluster.down = 1_000_000
    await eventually(lambda: not broker.available)
    cluster.down = 0
    await eventually(lambda: broker.available)
    assert cluster.connections > 1, "the broker may come back at another address"
    watching.cancel()
    await broker.close()
    assert not broker.available
