"""A recorded log: a group of two, from PlaceOrder to capture."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from eventlog.records.traceparent import TraceContext
from services.orders.domain.ids import OrderName
from tests.unit.ops.trace.in_memory_system import InMemorySystem, LogRecord

REQUESTS = ("5b0d5b53-92a1-4b39-8d5c-0d2d5b8a3f11", "6b0d5b53-92a1-4b39-8d5c-0d2d5b8a3f11")
#: The trace of the second shopper's app.
CALLER = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True)


class Recorded(NamedTuple):
    """The log of a group and its orders: the leader's trace begins in orders, the member's in his app."""

    records: list[LogRecord]
    leader: OrderName
    member: OrderName


@pytest.fixture
async def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    return await record(InMemorySystem(monkeypatch))


async def record(system: InMemorySystem) -> Recorded:
    """Plays a group of two that completes."""
    leader = system.place(customer="ann", request_id=REQUESTS[0])
    await system.run()
    system.now_ms += 90_000
    member = system.place(CALLER, customer="bob", request_id=REQUESTS[1], group=f"groups/{leader.group}")
    await system.run()
    return Recorded(system.records(), leader, member)
