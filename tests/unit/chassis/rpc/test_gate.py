"""The gate keeps the order of calls and refuses only what an overloaded event loop has no room for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chassis.admission.closed_peers import ClosedPeers
from chassis.admission.load_shedder import MAX_BURST, OVERLOADED_S, LoadShedder
from chassis.admission.rate_limit import RateLimit
from chassis.rpc import gate as gates
from chassis.rpc.gate import MAX_WAITING, Gate
from tests.unit.chassis.support import running


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def overloaded() -> tuple[LoadShedder, Clock]:
    clock = Clock()
    shedder = LoadShedder(clock)
    shedder.record(MAX_BURST + 1, 100, 0.25)
    return shedder, clock


async def filled(shedder: LoadShedder) -> Gate:
    gate = Gate(shedder, ClosedPeers())
    for number in range(MAX_WAITING):
        assert not gate.refuses()
        await gate.put(number)
    return gate


async def test_calls_leave_in_their_order_and_wait_for_room() -> None:
    gate = await filled(LoadShedder())
    late = asyncio.create_task(gate.put(MAX_WAITING))
    await asyncio.wait([late], timeout=0)
    assert not late.done()
    assert [await gate.get() for _ in range(MAX_WAITING + 1)] == list(range(MAX_WAITING + 1))
    await late


async def test_only_an_overloaded_loop_without_room_refuses() -> None:
    assert not (await filled(LoadShedder())).refuses()
    shedder, _ = overloaded()
    gate = await filled(shedder)
    assert gate.refuses()
    await gate.get()
    assert not gate.refuses()
    assert gate.refused == 1


async def test_a_short_queue_is_no_overload() -> None:
    shedder = LoadShedder(Clock())
    shedder.record(MAX_BURST, 10_000, 0.25)
    assert not shedder.overloaded


async def test_the_overload_goes_on_while_calls_are_refused_and_then_ends() -> None:
    shedder, clock = overloaded()
    gate = await filled(shedder)
    for _ in range(5):
        clock.now += OVERLOADED_S * 0.9
        assert gate.refuses()
    clock.now += OVERLOADED_S * 1.1
    assert not gate.refuses()


async def test_refusals_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "REFUSALS", RateLimit(0.001, 10))
    shedder, _ = overloaded()
    gate = await filled(shedder)
    assert [gate.refuses() for _ in range(11)] == [True] * 10 + [False]


async def test_calls_of_closed_connections_are_dropped() -> None:
    closed = ClosedPeers()
    gate = Gate(LoadShedder(), closed)
    named: list[str] = []

    def drops(peer: str) -> bool:
        def name() -> str:
            named.append(peer)
            return peer

        return gate.drops(name)

    assert not drops("ipv4:10.0.0.1:5")
    assert named == [], "without closed connections no call is looked at"
    closed.add(("10.0.0.1", 5))
    assert drops("ipv4:10.0.0.1:5")
    assert not drops("ipv4:10.0.0.1:6")
    assert gate.dropped == 1


async def test_the_end_of_the_server_ends_the_wait_for_a_call() -> None:
    gate = Gate(LoadShedder(), ClosedPeers())
    waiting: asyncio.Task[Any] = asyncio.create_task(gate.get())
    await asyncio.wait([waiting], timeout=0)
    gate.fail(RuntimeError("stopped"))
    with pytest.raises(RuntimeError, match="stopped"):
        await waiting


async def test_this_grpcio_has_what_the_gate_needs() -> None:
    async with running() as run:
        assert run.server.gate is not None
        assert (await run.place()).consistency_token
