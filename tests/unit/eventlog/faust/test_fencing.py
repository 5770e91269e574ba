"""A process whose instance name another one has taken ends; one whose membership expired rejoins."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from aiokafka.consumer.group_coordinator import GroupCoordinator

from eventlog.faust.group.fencing import exit_when_fenced
from tests.unit.eventlog.support import run_python


class Coordinator:
    """aiokafka's coordinator with its own reset, and a stub of the join."""

    group_id = "g"
    _group_instance_id = "w0"
    generation = 7
    request_rejoin = staticmethod(lambda: None)

    def __init__(self, member_id: str) -> None:
        self.member_id = member_id
        self.joined_as: list[str] = []

    def reset_generation(self) -> None:
        GroupCoordinator.reset_generation(self)

    async def _do_rejoin_group(self, subscription: Any) -> bool:
        self.joined_as.append(self.member_id)
        if self.member_id:
            # UNKNOWN_MEMBER_ID: aiokafka resets during the join and returns False.
            self.reset_generation()
            return False
        self.member_id = "new"
        return True


async def test_an_expired_member_rejoins_under_its_old_id_first_and_then_as_a_new_one() -> None:
    stock = Coordinator("old")
    stock.reset_generation()
    assert stock.member_id == "", "the defect is gone: aiokafka keeps its member id"
    ours = Coordinator("old")
    exit_when_fenced(ours)
    ours.reset_generation()
    # Empty, so that its heartbeats stop.
    assert ours.member_id == ""
    assert not await ours._do_rejoin_group(SimpleNamespace())
    assert await ours._do_rejoin_group(SimpleNamespace())
    assert ours.joined_as == ["old", ""]
    assert ours.member_id == "new"


async def test_two_resets_before_a_join_keep_the_id() -> None:
    ours = Coordinator("old")
    exit_when_fenced(ours)
    ours.reset_generation()
    ours.reset_generation()
    await ours._do_rejoin_group(SimpleNamespace())
    assert ours.joined_as == ["old"]


def test_a_fenced_member_ends_its_process() -> None:
    done = run_python("""
        import asyncio
        from aiokafka.errors import KafkaError, for_code
        from eventlog.faust.group.fencing import exit_when_fenced
        class Coordinator:
            group_id, _group_instance_id, member_id = "g", "w0", "old"
            def reset_generation(self): self.member_id = ""
            async def _do_rejoin_group(self, subscription): raise KafkaError(repr(for_code(82)()))
        coordinator = Coordinator()
        exit_when_fenced(coordinator)
        asyncio.run(coordinator._do_rejoin_group(None))
    """)
    assert done.returncode == 70
    assert "another process has taken this instance's name instance=w0 group=g" in done.stderr
