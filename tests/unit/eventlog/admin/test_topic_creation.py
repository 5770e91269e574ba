"""Waiting for a broker to list the topics that it has just created."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventlog.admin.topic_creation import wait_until_listed

UNKNOWN = 3


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
