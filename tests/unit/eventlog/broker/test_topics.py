"""A broker may not know yet of topics that it has just said it made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventlog.broker.topics import until_known

UNKNOWN = 3


class Admin:
    """Knows of its topics only when asked for the third time."""

    def __init__(self) -> None:
        self.asked = 0

    async def describe_topics(self, names: Sequence[str]) -> list[dict[str, Any]]:
        self.asked += 1
        return [{"topic": name, "error_code": UNKNOWN if self.asked < 3 else 0} for name in names]


async def test_topics_just_made_are_waited_for() -> None:
    admin = Admin()
    await until_known(admin, ["a", "b"])
    assert admin.asked == 3


async def test_topics_that_never_come_are_left_to_the_check() -> None:
    admin = Admin()
    await until_known(admin, ["a"], within_s=0.0)
    assert admin.asked == 0
