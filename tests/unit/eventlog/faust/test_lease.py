"""Reads are answered until another process may own the partition, counted from the last renewal request."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.protocol.group import HeartbeatRequest, LeaveGroupRequest, SyncGroupRequest
from faust.types import TP

from eventlog.core.errors import NotReady
from eventlog.faust.group.lease import Lease
from eventlog.faust.table_store import FoldStore
from eventlog.processors.decider import Decider
from eventlog.processors.projection import Projection

SESSION_S = 10.0
OK, REBALANCING, UNKNOWN_MEMBER, OLD_GENERATION, NO_COORDINATOR = 0, 27, 25, 22, 15

HEARTBEAT = HeartbeatRequest("g", 7, "m")
SYNC = SyncGroupRequest("g", 7, "m", None, [])


class Broker:
    """Responds to a coordinator's requests after `delay_s`, and provides the clock."""

    _session_timeout_ms = SESSION_S * 1000

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.delay_s = 0.0
        self.lease = Lease(lambda: self.now_s)
        self.lease.observe(self)

    async def _send_req(self, request: Any) -> Any:
        self.now_s += self.delay_s
        if isinstance(self._answer, Exception):
            raise self._answer
        return SimpleNamespace(error_code=self._answer)

    async def answer(self, request: Any, answer: int | Exception) -> bool:
        """Whether the lease holds after this response."""
        self._answer = answer
        await self._send_req(request)
        return self.lease.holds


async def test_it_holds_for_a_session_time_out_after_the_first_response() -> None:
    broker = Broker()
    assert not broker.lease.holds
    assert await broker.answer(SYNC, OK)
    broker.now_s += SESSION_S - 0.001
    assert broker.lease.holds
    broker.now_s += 0.001
    assert not broker.lease.holds
    assert await broker.answer(HEARTBEAT, OK)


async def test_it_counts_from_the_request_since_the_response_may_have_waited() -> None:
    broker = Broker()
    broker.delay_s = SESSION_S - 1
    assert await broker.answer(HEARTBEAT, OK)
    broker.now_s += 1
    assert not broker.lease.holds
    broker.delay_s = SESSION_S + 2
    assert not await broker.answer(HEARTBEAT, OK)


@pytest.mark.parametrize(
    ("request_", "answer", "renewed"),
    [
        (HEARTBEAT, REBALANCING, True),
        (SYNC, REBALANCING, False),
        (HEARTBEAT, NO_COORDINATOR, False),
        (LeaveGroupRequest("g", "m"), OK, False),
    ],
)
async def test_only_requests_that_restart_the_session_time_out_renew_it(
    request_: Any, answer: int, renewed: bool
) -> None:
    broker = Broker()
    await broker.answer(SYNC, OK)
    broker.now_s += SESSION_S / 2
    assert await broker.answer(request_, answer)
    broker.now_s += SESSION_S / 2
    assert broker.lease.holds is renewed


@pytest.mark.parametrize("answer", [UNKNOWN_MEMBER, OLD_GENERATION])
async def test_it_ends_at_once_when_the_group_no_longer_has_the_member(answer: int) -> None:
    broker = Broker()
    assert await broker.answer(SYNC, OK)
    assert not await broker.answer(HEARTBEAT, answer)


async def test_a_failed_request_changes_nothing() -> None:
    broker = Broker()
    await broker.answer(SYNC, OK)
    with pytest.raises(ConnectionError):
        await broker.answer(HEARTBEAT, ConnectionError())
    assert broker.lease.holds


class States:
    """State of a partition in which every key has a value."""

    partition = 0
    poisoned = None

    def get(self, key: str) -> str:
        return f"{key}'s"


def reader(kind: type[Decider[Any]] | type[Projection[Any]]) -> tuple[Any, Any]:
    """A processor that answers reads of partition 0 in epoch 3, and its consumer."""
    made: Any = kind.__new__(kind)
    made.group, made.partitions, made.quarantined = "g", 1, {}
    consumer = SimpleNamespace(epoch=3, leased=True, assignment=lambda: {TP("inbox", 0)})
    made.app = SimpleNamespace(consumer=consumer)
    if kind is Decider:
        store: Any = FoldStore.__new__(FoldStore)
        store._states, store._epochs = {0: States()}, {0: 3}
        made._table, made._inbox = SimpleNamespace(data=store), SimpleNamespace(name="inbox")
    else:
        held = SimpleNamespace(epoch=3, caught_up=True, get=States().get)
        made._open_partitions = SimpleNamespace(held={0: held})
    return made, consumer


@pytest.mark.parametrize("kind", [Decider, Projection])
def test_reads_fail_from_the_end_of_the_lease_until_its_renewal(kind: Any) -> None:
    made, consumer = reader(kind)
    assert (made.get("k"), made.ready) == ("k's", True)
    consumer.leased = False
    with pytest.raises(NotReady):
        made.get("k")
    assert not made.ready
    consumer.leased = True
    assert (made.get("k"), made.ready) == ("k's", True)
    consumer.epoch = 4
    with pytest.raises(NotReady):
        made.get("k")
