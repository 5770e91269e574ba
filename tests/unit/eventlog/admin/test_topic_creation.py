"""Creation of topics: nothing changes if an existing topic differs; the wait until the broker lists new topics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from eventlog.admin.topic_creation import create_topics, wait_until_listed
from eventlog.core.errors import TopicsDiffer
from eventlog.records.topic_spec import DAY_MS, FOR_EVER, TopicSpec
from tests.unit.eventlog.admin.fake_broker import FakeBroker

UNKNOWN = 3
INBOX = TopicSpec("inbox", None, "k", "w", ("reader",), 7 * DAY_MS)
LOG = TopicSpec("log", None, "k", "w", ("reader",), FOR_EVER)


class SlowAdmin:
    """An admin client whose broker lists its topics only at the third request."""

    def __init__(self) -> None:
        self.requests = 0

    async def describe_topics(self, names: Sequence[str]) -> list[dict[str, Any]]:
        self.requests += 1
        return [{"topic": name, "error_code": UNKNOWN if self.requests < 3 else 0} for name in names]


async def test_it_waits_until_the_broker_lists_the_topics() -> None:
    admin = SlowAdmin()
    await wait_until_listed(admin, ["a", "b"])
    assert admin.requests == 3


async def test_it_returns_after_the_time_limit_without_an_error() -> None:
    admin = SlowAdmin()
    await wait_until_listed(admin, ["a"], within_s=0.0)
    assert admin.requests == 0


async def test_missing_topics_are_created_and_readers_begin_at_offset_0(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = FakeBroker(monkeypatch)
    broker.has(LOG, 2)
    assert await create_topics("h:1", [INBOX, LOG], partitions=2, replication=1) == ["inbox"]
    commits = [f"commit {name}-{partition}" for name in ("inbox", "log") for partition in range(2)]
    assert broker.changes == ["create inbox", *commits]


@pytest.mark.parametrize("requested", [1, 3])
async def test_another_number_of_partitions_changes_nothing(requested: int, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = FakeBroker(monkeypatch)
    broker.has(LOG, 2)
    with pytest.raises(TopicsDiffer, match="log has 2 partitions"):
        await create_topics("h:1", [INBOX, LOG], partitions=requested, replication=1)
    assert broker.changes == []


async def test_a_topic_with_another_setting_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = FakeBroker(monkeypatch)
    broker.has(LOG, 2, retention_ms="1")
    with pytest.raises(TopicsDiffer, match=r"log: retention\.ms is 1, should be -1"):
        await create_topics("h:1", [INBOX, LOG], partitions=2, replication=1)
    assert broker.changes == []
