"""Load shedding: when calls are refused because others wait too long, how many, and which are exempt."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from groupbuy.errors.v1 import errors_pb2
from groupbuy.orders.v1 import orders_pb2, orders_pb2_grpc

from chassis.admission.load_shedder import CUT_OFF_S, MAX_BURST, MAX_WAIT_S, REFUSALS, SAMPLES, LoadShedder
from chassis.routing.peer_calls import FORWARDED
from chassis.rpc.errors import ApiError, PreparedError, trailing_metadata
from tests.unit.chassis.support import NAME, SOON_S, Running, a_request, eventually, refusal, running


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def waited(load_shedder: LoadShedder, seconds: float) -> None:
    """Adds a sample: 100 calls wait, and at the rate of the event loop the last one waits for `seconds`."""
    load_shedder.record(100, 10, seconds / 10)


def test_a_lasting_wait_refuses_calls_and_a_short_one_does_not() -> None:
    clock = Clock()
    load_shedder = LoadShedder(clock)
    for _ in range(SAMPLES - 1):
        waited(load_shedder, MAX_WAIT_S * 2)
    assert not load_shedder.refuses()
    waited(load_shedder, MAX_WAIT_S * 2)
    assert load_shedder.refuses()
    waited(load_shedder, MAX_WAIT_S / 2)
    assert not load_shedder.refuses()


def test_nothing_is_refused_for_the_calls_of_a_flood_that_was_cut_off() -> None:
    clock = Clock()
    load_shedder = LoadShedder(clock)
    for _ in range(SAMPLES):
        load_shedder.record(MAX_BURST * 2, 10, MAX_WAIT_S)
    assert load_shedder.overloaded and load_shedder.refuses()
    load_shedder.flood_cut_off()
    for _ in range(SAMPLES):
        assert not load_shedder.overloaded and not load_shedder.refuses()
        load_shedder.record(MAX_BURST * 2, 10, MAX_WAIT_S)
    # A queue that is as long later is another one.
    clock.now_s += CUT_OFF_S
    for _ in range(SAMPLES):
        load_shedder.record(MAX_BURST * 2, 10, MAX_WAIT_S)
    assert load_shedder.overloaded and load_shedder.refuses()


def test_a_blocked_loop_counts_as_a_wait_and_an_idle_one_does_not() -> None:
    load_shedder = LoadShedder(Clock())
    for _ in range(SAMPLES):
        load_shedder.record(1, 0, MAX_WAIT_S * 2)
    assert load_shedder.refuses()
    load_shedder.record_idle()
    assert not load_shedder.refuses()
    for _ in range(SAMPLES):
        # No call waits, however long the loop was blocked.
        load_shedder.record(0, 0, MAX_WAIT_S * 2)
    assert not load_shedder.refuses()


def test_refusals_are_limited_in_a_flood() -> None:
    clock = Clock()
    load_shedder = LoadShedder(clock)
    for _ in range(SAMPLES):
        waited(load_shedder, MAX_WAIT_S * 2)
    refused = [load_shedder.refuses() for _ in range(REFUSALS.burst * 2)]
    assert sum(refused) == REFUSALS.burst
    assert refused[0]
    clock.now_s += 1
    assert sum(load_shedder.refuses() for _ in range(REFUSALS.burst * 2)) == int(REFUSALS.calls_per_second)


def test_a_prepared_error_equals_one_built_for_the_call() -> None:
    error = ApiError(
        grpc.StatusCode.RESOURCE_EXHAUSTED, errors_pb2.ERROR_REASON_OVERLOADED, "later", retry_after_ms=300
    )
    prepared = PreparedError(error)
    for left_s in (None, 0.1, 0.49, 0.51, 10.0):
        assert prepared.trailing_metadata(left_s) == trailing_metadata(error, left_s)


class Pressed(LoadShedder):
    """Refuses every call that may be refused."""

    def refuses(self) -> bool:
        super().refuses()
        return True


def press(run: Running) -> None:
    run.server.pipeline.load_shedder.refuses = Pressed().refuses  # type: ignore[method-assign]


async def test_a_refused_call_has_a_reason_and_a_delay_and_is_not_checked_further() -> None:
    async with running() as run:
        press(run)
        call: Any = run.channel.unary_unary("/groupbuy.orders.v1.OrderService/PlaceOrder", None, None)
        got = await refusal(call(b"\xff\xff\xff no message at all", timeout=SOON_S))
        assert got.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert got.info.reason == "OVERLOADED"
        assert got.retry_after_ms > 0
        assert got.trailing["grpc-retry-pushback-ms"] == str(got.retry_after_ms)
        # A call without a deadline would be refused with another reason if it were checked further.
        got = await refusal(run.place(within_s=None))
        assert got.info.reason == "OVERLOADED"
        assert run.fake.seen == []
        assert len(run.server.pipeline.unary) == 0


async def test_health_streams_and_forwarded_calls_are_not_refused_for_load() -> None:
    async with running() as run:
        press(run)
        await run.status_of()
        watch = run.orders.WatchOrder(orders_pb2.WatchOrderRequest(name=NAME))
        assert (await watch.read()).revision == 1
        placing = run.orders.PlaceOrders()
        await placing.write(orders_pb2.PlaceOrdersRequest(requests=[a_request()]))
        assert len((await placing.read()).results) == 1
        assert (await run.place(metadata=((FORWARDED, "1"),))).consistency_token == "1:2"
        watch.cancel()
        placing.cancel()


async def test_the_queue_of_grpc_is_measured_by_channelz() -> None:
    """The unfinished calls of channelz less the calls in our handlers are the calls that wait in gRPC."""
    calls = 40

    async def hang() -> None:
        await run.fake.release.wait()

    async with running(max_calls=calls // 2) as run:
        run.fake.place = hang
        counters, load_shedder = run.server._counters, run.server.pipeline.load_shedder
        assert counters.unfinished() == 0
        under_way = [asyncio.ensure_future(run.place()) for _ in range(calls)]
        # All slots are taken and the other calls are refused, so none waits.
        await eventually(lambda: load_shedder.active == calls // 2 and counters.unfinished() == calls // 2)
        # This thread blocks the event loop, so that calls stay in gRPC's queue.
        taken, caller = load_shedder.taken, _Elsewhere(run.port, calls)
        caller.start()
        until = time.monotonic() + SOON_S
        while (counters.unfinished() or 0) - load_shedder.active < calls:
            assert time.monotonic() < until
        assert load_shedder.taken == taken
        run.fake.release.set()
        await asyncio.gather(*under_way, return_exceptions=True)
        await eventually(lambda: not caller.is_alive())
        await eventually(lambda: counters.unfinished() == 0 and load_shedder.active == 0)


class _Elsewhere(threading.Thread):
    """Makes concurrent calls from a thread, and waits for their answers."""

    def __init__(self, port: int, calls: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._calls = calls

    def run(self) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{self._port}") as channel:
            stub: Any = orders_pb2_grpc.OrderServiceStub(channel)
            made = [stub.GetOrder.future(orders_pb2.GetOrderRequest(name=NAME), timeout=60) for _ in range(self._calls)]
            for one in made:
                one.exception()


def test_a_process_listens_on_its_port_only() -> None:
    """Compares the kernel's tables of listening sockets, of any family, before and after a server starts."""
    if not Path("/proc/net/unix").exists():
        pytest.skip("Linux alone shows its sockets")

    async def listening() -> set[str]:
        async with running():
            return _sockets()

    before = _sockets()
    with_server = asyncio.run(listening())
    assert len(with_server - before) == 1


def _sockets() -> set[str]:
    """The listening sockets of this process, by inode."""
    mine = {str(one.readlink()).removeprefix("socket:[").rstrip("]") for one in _descriptors()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                found.add(fields[9])
    for line in Path("/proc/self/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[3], 16) & 0x10000:
            found.add(fields[6])
    return found & mine


def _descriptors() -> list[Path]:
    found = []
    for one in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if str(one.readlink()).startswith("socket:"):
                found.append(one)
    return found


async def test_a_call_without_its_request_is_refused() -> None:
    async with running() as run:
        call: Any = run.channel.stream_unary("/groupbuy.orders.v1.OrderService/PlaceOrder", None, None)
        got = await refusal(call([], timeout=SOON_S))
        assert got.info.reason == "INVALID_FIELDS"
