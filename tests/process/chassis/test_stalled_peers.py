"""Peers that do not send, do not read or set no end: each loses its call in a bounded time, and nobody else waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest
from groupbuy.orders.v1 import orders_pb2

from chassis.admission import connections
from chassis.admission.call_phases import CallPhase
from chassis.admission.calls_in_flight import CallsInFlight
from chassis.rpc import server
from chassis.rpc.caller import IDENTITY
from chassis.rpc.errors import ApiError
from chassis.rpc.steps import time_limits
from tests.attack.http2 import Peer
from tests.unit.chassis.fake_orders import ORDERS
from tests.unit.chassis.support import NAME, SOON_S, Running, a_request, eventually, refusal, running

GET = f"/{ORDERS}/GetOrder"


@asynccontextmanager
async def impatient(monkeypatch: pytest.MonkeyPatch, **more: Any) -> AsyncIterator[Running]:
    """A server whose limits are a moment; the test looks at them as often as it likes."""
    for name in ("REQUEST_S", "UNREAD_S", "MAX_S"):
        monkeypatch.setattr(time_limits, name, 0.05)
    async with running(**more) as run:
        yield run


async def looked(run: Running, over: Callable[[], bool]) -> None:
    """As the server does every second."""

    def look() -> bool:
        run.server.sweep()
        run.server._connections.sweep()
        return over()

    await eventually(look)


async def swept(run: Running, over: Callable[[], bool]) -> None:
    def look() -> bool:
        run.server.pipeline.limits.sweep()
        return over()

    await eventually(look)


async def silent(run: Running, method: str = GET) -> Any:
    """A call whose request never comes."""
    calling: Any = run.channel.stream_unary(method, None, None)
    call = calling(timeout=600)
    await call.wait_for_connection()
    return call


async def test_a_request_that_does_not_come_ends_its_call_whatever_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with impatient(monkeypatch) as run:
        monkeypatch.setattr(time_limits, "MAX_S", 600.0)
        call = await silent(run)
        await eventually(lambda: len(run.server.pipeline.limits.reading) == 1)
        await swept(run, lambda: not run.server.pipeline.limits.reading)
        got = await refusal(call)
        assert got.info.reason == "INVALID_FIELDS"
        await eventually(lambda: run.server.pipeline.load_shedder.active == 0)


async def test_calls_without_requests_take_no_place_and_the_oldest_makes_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(max_calls=5) as run:
        calls = [await silent(run) for _ in range(5)]
        await eventually(lambda: len(run.server.pipeline.limits.reading) == 5)
        assert len(run.server.pipeline.unary) == 0
        assert (await run.place()).consistency_token == "1:2"
        got = await refusal(calls[0])
        assert got.info.reason == "INVALID_FIELDS"
        for one in calls:
            one.cancel()


async def test_an_answer_that_is_not_read_is_given_up_and_makes_nobody_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as run:
        held = run.server.pipeline
        monkeypatch.setattr(held.limits, "unread_responses", CallPhase(100, 0.05, held.limits._response_unread))
        request = orders_pb2.GetOrderRequest(name=NAME).SerializeToString()
        # The server may send nothing at all.
        async with await Peer.connect(f"127.0.0.1:{run.port}", window=0) as peer:
            for _ in range(3):
                await peer.call(GET, request)
            await eventually(lambda: len(held.limits.unread_responses) == 3)
            # They are no calls that wait for the event loop: nobody is refused for them.
            assert held.load_shedder.active == 3
            assert len(held.unary) == 0
            closed = asyncio.ensure_future(peer.closed())
            await looked(run, lambda: not held.limits.unread_responses)
            await closed
            await eventually(lambda: held.load_shedder.active == 0 and run.server._counters.unfinished() == 0)
            assert (await run.place()).consistency_token == "1:2"


async def test_a_stream_that_is_not_read_is_ended_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    async def flood(_request: Any, _context: Any) -> AsyncIterator[orders_pb2.Order]:
        while True:
            yield orders_pb2.Order(name="n" * 100_000)

    def add(_servicer: Any, server: Any) -> None:
        handler = grpc.unary_stream_rpc_method_handler(
            flood,
            request_deserializer=orders_pb2.WatchOrderRequest.FromString,
            response_serializer=orders_pb2.Order.SerializeToString,
        )
        server.add_registered_method_handlers(ORDERS, {"WatchOrder": handler})

    async with impatient(monkeypatch, add=add) as run:
        watch = run.orders.WatchOrder(orders_pb2.WatchOrderRequest(name=NAME))
        await watch.read()
        await swept(run, lambda: not run.server.pipeline.streams)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:
                await watch.read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_deadline_far_away_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    async with impatient(monkeypatch) as run:
        run.fake.place = run.fake.hang
        placing = asyncio.ensure_future(refusal(run.place(within_s=86_400)))
        await run.fake.inside.wait()
        await swept(run, lambda: not run.server.pipeline.unary)
        got = await placing
        assert (got.code, got.info.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "ANSWER_PENDING")


async def test_one_identity_leaves_places_to_the_others() -> None:
    places: CallsInFlight[str] = CallsInFlight(10)
    let_go = asyncio.Event()

    async def hold(name: str) -> None:
        IDENTITY.set(name)
        with places.slot(name):
            await let_go.wait()

    held = [asyncio.create_task(hold("shop")) for _ in range(9)]
    await asyncio.wait(held, timeout=0)
    refused = [one for one in held if one.done()]
    assert len(refused) == 1
    error = refused[0].exception()
    assert isinstance(error, ApiError)
    assert error.metadata["identity"] == "shop"
    others: list[Awaitable[None]] = [asyncio.create_task(hold(name)) for name in ("support", "")]
    await asyncio.sleep(0)
    assert len(places) == 10
    let_go.set()
    await asyncio.gather(*held, *others, return_exceptions=True)
    assert places._by_identity == {"shop": 0, "support": 0}


def test_a_phase_ends_the_oldest_first() -> None:
    now = 0.0
    ended: list[Any] = []
    phase = CallPhase(2, 10.0, lambda task, _: ended.append(task), lambda: now)
    tasks: list[Any] = ["a", "b", "c"]
    for task in tasks:
        phase.enter(task)
        now += 4.0
    assert ended == ["a"]
    assert phase.sweep() == 0
    now = 14.5
    assert phase.sweep() == 1
    assert ended == ["a", "b"]
    phase.leave(tasks[2])
    assert (len(phase), phase.ended) == (0, 2)


async def test_an_ordinary_call_leaves_no_trace() -> None:
    async with running() as run:
        for _ in range(20):
            await run.place(a_request())
        await eventually(lambda: run.server.pipeline.load_shedder.active == 0)
        limits = run.server.pipeline.limits
        assert not any((limits.reading, limits.handling, limits.unread_responses, limits.unread_messages))
        assert not limits.overdue_requests


async def test_a_flood_of_resets_loses_its_connection_and_refuses_nobody() -> None:
    """gRPC's counters keep the calls that were reset before they were taken. All calls were refused for them."""
    # With so many places the streams themselves fill none.
    async with running(max_calls=10_000, max_streams=10_000) as run:
        held = run.server.pipeline
        async with await Peer.connect(f"127.0.0.1:{run.port}") as peer:
            closed = asyncio.ensure_future(peer.closed())
            async with asyncio.timeout(SOON_S):
                while not closed.done():
                    with suppress(ConnectionError):
                        await peer.open_and_reset(GET, 1_000)
                    await asyncio.wait([closed], timeout=0.05)
        assert run.server._connections.closed >= 1

        async def answered() -> bool:
            calls = [run.place() for _ in range(20)]
            done = await asyncio.gather(*calls, return_exceptions=True)
            return not any(isinstance(one, Exception) for one in done)

        async with asyncio.timeout(SOON_S):
            # More than a few calls, so that the counters are looked at.
            while not (await answered() and held.load_shedder.wait_s == 0.0 and held.load_shedder.taken > 200):
                pass
        await run.server._counters.recount()
        # As exact as a count of what goes on meanwhile can be.
        assert abs(run.server._counters.unfinished() or 0) < 50


async def test_an_address_has_so_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as run:
        await run.place()
        run.server._connections.max_per_address = 20
        monkeypatch.setattr(connections, "RECOUNT_AFTER", 0)
        peers = [await Peer.connect(f"127.0.0.1:{run.port}") for _ in range(40)]
        ends = [asyncio.ensure_future(peer.closed()) for peer in peers]
        try:
            await looked(run, lambda: sum(one.done() for one in ends) >= 20)
            # The first of all is the channel's, and was not closed.
            assert (await run.place()).consistency_token == "1:2"
        finally:
            for peer in peers:
                peer.close()
            await asyncio.gather(*ends)


def test_peers_are_known_by_the_names_that_grpc_gives_them() -> None:
    names = {
        "ipv4:127.0.0.1:5000": ("127.0.0.1", 5000),
        "ipv6:%5B::1%5D:5000": ("::1", 5000),
        "ipv6:[::ffff:10.0.0.1]:7": ("10.0.0.1", 7),
        "unix:": ("", 0),
    }
    assert {peer: connections._address_of_peer(peer) for peer in names} == names


async def test_calls_that_are_reset_while_they_are_answered_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    request = orders_pb2.GetOrderRequest(name=NAME).SerializeToString()
    async with running() as run:
        for _ in range(10):
            async with await Peer.connect(f"127.0.0.1:{run.port}", window=0) as peer:
                taken = run.server.pipeline.load_shedder.taken
                for _ in range(20):
                    await peer.call(GET, request)
                # The connection ends while the first of them are answered.
                await eventually(lambda before=taken: run.server.pipeline.load_shedder.taken > before)  # type: ignore[misc]
        await eventually(lambda: run.server.pipeline.load_shedder.active == 0)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("grpc")] == []


def test_other_errors_of_grpc_are_logged_as_before() -> None:
    def said(error: Exception) -> bool:
        record = logging.LogRecord("grpc", logging.ERROR, "", 0, "failed", None, (type(error), error, None))
        return server._WITHOUT_RESETS.filter(record)

    assert said(ValueError("a bug"))
    assert not said(grpc.aio.InternalError("reset"))
    assert server._WITHOUT_RESETS.filter(logging.LogRecord("grpc", logging.ERROR, "", 0, "plain", None, None))
