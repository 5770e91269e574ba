"""Peers that do not send, do not read or set no deadline lose their call in a bounded time, and delay no other."""

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
from chassis.admission.reset_floods import MAX_DEAD
from chassis.rpc import server
from chassis.rpc.caller import IDENTITY
from chassis.rpc.errors import ApiError
from chassis.rpc.steps import time_limits
from tests.attack.http2 import Peer
from tests.unit.chassis.fake_orders import ORDERS
from tests.unit.chassis.support import NAME, SOON_S, Running, a_request, eventually, refusal, running

GET = f"/{ORDERS}/GetOrder"


@asynccontextmanager
async def short_limits(monkeypatch: pytest.MonkeyPatch, **more: Any) -> AsyncIterator[Running]:
    """A server with time limits of 50 ms; the test sweeps."""
    for name in ("REQUEST_S", "UNREAD_S", "MAX_S"):
        monkeypatch.setattr(time_limits, name, 0.05)
    async with running(**more) as run:
        yield run


async def swept_by_server(run: Running, over: Callable[[], bool]) -> None:
    """Sweeps as the server does every second, until the condition holds."""

    def sweep() -> bool:
        run.server.sweep()
        run.server._connections.sweep()
        return over()

    await eventually(sweep)


async def swept(run: Running, over: Callable[[], bool]) -> None:
    def sweep() -> bool:
        run.server.pipeline.limits.sweep()
        return over()

    await eventually(sweep)


async def silent(run: Running, method: str = GET) -> Any:
    """A call without a request."""
    calling: Any = run.channel.stream_unary(method, None, None)
    call = calling(timeout=600)
    await call.wait_for_connection()
    return call


async def test_a_call_without_a_request_is_ended_whatever_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with short_limits(monkeypatch) as run:
        monkeypatch.setattr(time_limits, "MAX_S", 600.0)
        call = await silent(run)
        await eventually(lambda: len(run.server.pipeline.limits.reading) == 1)
        await swept(run, lambda: not run.server.pipeline.limits.reading)
        got = await refusal(call)
        assert got.info.reason == "INVALID_FIELDS"
        await eventually(lambda: run.server.pipeline.load_shedder.active == 0)


async def test_calls_without_requests_take_no_slot_and_the_oldest_is_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(max_calls=5) as run:
        calls = [await silent(run) for _ in range(5)]
        await eventually(lambda: len(run.server.pipeline.limits.reading) == 5)
        assert len(run.server.pipeline.unary) == 0
        assert (await run.place()).consistency_token == "1:2"
        got = await refusal(calls[0])
        assert got.info.reason == "INVALID_FIELDS"
        for one in calls:
            one.cancel()


async def test_the_connection_of_an_unread_response_is_closed_and_delays_no_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running() as run:
        held = run.server.pipeline
        monkeypatch.setattr(held.limits, "unread_responses", CallPhase(100, 0.05, held.limits._response_unread))
        request = orders_pb2.GetOrderRequest(name=NAME).SerializeToString()
        # The flow-control window is 0.
        async with await Peer.connect(f"127.0.0.1:{run.port}", window=0) as peer:
            for _ in range(3):
                await peer.call(GET, request)
            await eventually(lambda: len(held.limits.unread_responses) == 3)
            # They do not wait for the event loop, so no call is refused for them.
            assert held.load_shedder.active == 3
            assert len(held.unary) == 0
            closed = asyncio.ensure_future(peer.closed())
            await swept_by_server(run, lambda: not held.limits.unread_responses)
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

    async with short_limits(monkeypatch, add=add) as run:
        watch = run.orders.WatchOrder(orders_pb2.WatchOrderRequest(name=NAME))
        await watch.read()
        await swept(run, lambda: not run.server.pipeline.streams)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:
                await watch.read()
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_long_deadline_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    async with short_limits(monkeypatch) as run:
        run.fake.place = run.fake.hang
        placing = asyncio.ensure_future(refusal(run.place(within_s=86_400)))
        await run.fake.inside.wait()
        await swept(run, lambda: not run.server.pipeline.unary)
        got = await placing
        assert (got.code, got.info.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "ANSWER_PENDING")


async def test_one_identity_does_not_take_all_slots() -> None:
    calls: CallsInFlight[str] = CallsInFlight(10)
    release = asyncio.Event()

    async def hold(name: str) -> None:
        IDENTITY.set(name)
        with calls.slot(name):
            await release.wait()

    held = [asyncio.create_task(hold("shop")) for _ in range(9)]
    await asyncio.wait(held, timeout=0)
    refused = [one for one in held if one.done()]
    assert len(refused) == 1
    error = refused[0].exception()
    assert isinstance(error, ApiError)
    assert error.metadata["identity"] == "shop"
    others: list[Awaitable[None]] = [asyncio.create_task(hold(name)) for name in ("support", "")]
    await asyncio.sleep(0)
    assert len(calls) == 10
    release.set()
    await asyncio.gather(*held, *others, return_exceptions=True)
    assert calls._by_identity == {"shop": 0, "support": 0}


def test_a_phase_evicts_the_oldest_call_first() -> None:
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


async def test_an_ordinary_call_leaves_no_state() -> None:
    async with running() as run:
        for _ in range(20):
            await run.place(a_request())
        await eventually(lambda: run.server.pipeline.load_shedder.active == 0)
        limits = run.server.pipeline.limits
        assert not any((limits.reading, limits.handling, limits.unread_responses, limits.unread_messages))
        assert not limits.overdue_requests


async def test_a_flood_of_resets_is_disconnected_and_no_call_is_refused() -> None:
    """gRPC's counters keep calls that were reset before they were taken. Without a recount all calls are refused."""
    # The limits are high enough that the streams do not reach them.
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
            # Enough calls for the counters to be read.
            while not (await answered() and held.load_shedder.wait_s == 0.0 and held.load_shedder.taken > 200):
                pass
        async with asyncio.timeout(SOON_S):
            # A count is not exact while calls end, such as those of the flood that gRPC still drops.
            while abs(run.server._counters.unfinished() or 0) >= 50:
                await run.server._counters.recount()


async def test_a_flood_is_found_by_its_dead_calls_and_the_rest_is_not_handled() -> None:
    async with running(max_calls=10_000, max_streams=10_000) as run:
        # The timer finds nothing.
        run.server._connections._id = 0
        async with await Peer.connect(f"127.0.0.1:{run.port}") as peer:
            closed = asyncio.ensure_future(peer.closed())
            await peer.open_and_reset(GET, 2_000)
            async with asyncio.timeout(SOON_S):
                await closed
        assert run.server._connections.closed == 1
        # The flood's calls stand in the queue before this one.
        assert (await run.place()).consistency_token == "1:2"
        assert run.server.pipeline.load_shedder.taken < 1_000


async def test_calls_that_are_cancelled_in_their_handlers_are_no_flood() -> None:
    async with running(max_calls=1_000) as run:
        run.fake.place = run.fake.hang
        held = run.server.pipeline.unary
        for _ in range(2):
            calls = [run.orders.PlaceOrder(a_request(), timeout=SOON_S) for _ in range(200)]
            # On a busy machine some are refused.
            await eventually(lambda sent=calls: len(held) + sum(one.done() for one in sent) == 200)  # type: ignore[misc]
            assert len(held) > MAX_DEAD
            for call in calls:
                call.cancel()
            await eventually(lambda: len(held) == 0)
        assert run.server._connections.closed == 0


async def test_the_connections_of_an_address_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as run:
        await run.place()
        monkeypatch.setattr(connections, "RECOUNT_AFTER", 0)
        peers = [await Peer.connect(f"127.0.0.1:{run.port}") for _ in range(40)]
        ends = [asyncio.ensure_future(peer.closed()) for peer in peers]
        try:
            # All must be accepted before they are counted: they are counted again only after further connections.
            await eventually(lambda: len(list(run.server._connections._all(connections._numbers()))) == 41)
            run.server._connections.max_per_address = 20
            await swept_by_server(run, lambda: sum(one.done() for one in ends) >= 20)
            # The channel's own connection is the first and stays open.
            assert (await run.place()).consistency_token == "1:2"
        finally:
            for peer in peers:
                peer.close()
            await asyncio.gather(*ends)


async def test_calls_that_are_reset_during_the_answer_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    request = orders_pb2.GetOrderRequest(name=NAME).SerializeToString()
    async with running() as run:
        for _ in range(10):
            async with await Peer.connect(f"127.0.0.1:{run.port}", window=0) as peer:
                taken = run.server.pipeline.load_shedder.taken
                for _ in range(20):
                    await peer.call(GET, request)
                # The connection ends during the answers to the first calls.
                await eventually(lambda before=taken: run.server.pipeline.load_shedder.taken > before)  # type: ignore[misc]
        await eventually(lambda: run.server.pipeline.load_shedder.active == 0)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("grpc")] == []


def test_other_errors_of_grpc_are_logged() -> None:
    def is_logged(error: Exception) -> bool:
        record = logging.LogRecord("grpc", logging.ERROR, "", 0, "failed", None, (type(error), error, None))
        return server._WITHOUT_RESETS.filter(record)

    assert is_logged(ValueError("a bug"))
    assert not is_logged(grpc.aio.InternalError("reset"))
    assert server._WITHOUT_RESETS.filter(logging.LogRecord("grpc", logging.ERROR, "", 0, "plain", None, None))
