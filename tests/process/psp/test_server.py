"""The simulator over gRPC: machine-readable errors, injected faults, health, reflection. Method: the whole server in
this process; a process of its own for start and stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped, unused-ignore]
from groupbuy.simprovider.v1 import simprovider_pb2 as pb
from groupbuy.simprovider.v1 import simprovider_pb2_grpc as pb_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from chassis.identity.tls import expecting
from devstack.certificates.credentials import Credentials
from simulators.psp.server import SERVICE, Server
from simulators.psp.settings import Settings
from tests.unit.psp.account_books import HOLD, authorise, capture

PREFIX = "GROUPBUY_SIMPROVIDER_"


@asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[tuple[grpc.aio.Channel, pb_grpc.SimProviderServiceAsyncStub]]:
    server = Server(Settings(listen="127.0.0.1:0", database=tmp_path / "books.sqlite"))
    address = await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        stub: pb_grpc.SimProviderServiceAsyncStub = pb_grpc.SimProviderServiceStub(channel)
        yield channel, stub
    await server.stop(1)


def detail(error: grpc.aio.AioRpcError, kind: type) -> object:
    """The error's only detail."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # the stubs know synchronous calls alone
    assert status is not None
    (packed,) = status.details
    read = kind()
    assert packed.Unpack(read)
    return read


async def test_a_reused_key_is_named_in_error_info(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, stub):
        await stub.Authorise(authorise(), timeout=5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Authorise(authorise(minor=101), timeout=5)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        expected = error_details_pb2.ErrorInfo(reason="IDEMPOTENCY_KEY_REUSED", domain="simprovider")
        assert detail(caught.value, error_details_pb2.ErrorInfo) == expected


async def test_bad_fields_are_named_in_bad_request(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, stub):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Authorise(
                pb.AuthoriseRequest(key="k", order="o", payment_method="card", currency="Y"), timeout=5
            )
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        bad = detail(caught.value, error_details_pb2.BadRequest)
        assert [one.field for one in bad.field_violations] == ["amount_minor", "currency"]  # type: ignore[attr-defined]
        with pytest.raises(grpc.aio.AioRpcError, match="not be above"):
            await stub.Configure(pb.ConfigureRequest(behaviour=pb.Behaviour(latency_min_ms=2)), timeout=5)


async def test_unknown_and_unconfirmable_calls_have_their_status(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, stub):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.LookUp(pb.LookUpRequest(key="unknown" * 10_000), timeout=5)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        await stub.Authorise(authorise(), timeout=5)
        await stub.Authorise(authorise("b:authorise:1", "card_declined"), timeout=5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Confirm(pb.ConfirmRequest(key="b:authorise:1"), timeout=5)
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION


async def test_the_statement_streams_all_holds(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, stub):
        await asyncio.gather(*(stub.Authorise(authorise(f"{n}:authorise:1"), timeout=10) for n in range(1100)))
        entries = [entry async for entry in stub.ExportStatement(pb.ExportStatementRequest(), timeout=10)]
        assert len({entry.hold for entry in entries}) == 1100
        assert {entry.open_minor for entry in entries} == {100}


async def test_a_failure_before_the_effect_leaves_no_trace_and_one_after_it_does(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, stub):
        for behaviour in (pb.Behaviour(fail_before_per_mille=1000), pb.Behaviour(fail_after_per_mille=1000)):
            assert await stub.Configure(pb.ConfigureRequest(behaviour=behaviour), timeout=5) == behaviour
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Authorise(authorise(), timeout=5)
            assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
            entries = [entry async for entry in stub.ExportStatement(pb.ExportStatementRequest(), timeout=5)]
            assert len(entries) == (1 if behaviour.fail_after_per_mille else 0)
        assert (await stub.LookUp(pb.LookUpRequest(key="a:authorise:1"), timeout=5)).hold == HOLD


async def test_holds_live_as_long_as_configured(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, stub):
        await stub.Configure(pb.ConfigureRequest(behaviour=pb.Behaviour(hold_life_ms=1)), timeout=5)
        held = await stub.Authorise(authorise(), timeout=5)
        assert held.status == pb.STATUS_AUTHORISED
        async with asyncio.timeout(5):
            for attempt in count(1):
                # Above the held amount: the hold stays open until it expires.
                answer = await stub.Capture(capture(101, f"a:capture:{attempt}"), timeout=5)
                if answer.status == pb.STATUS_HOLD_GONE:
                    break


async def test_latency_can_exceed_a_deadline_before_or_after_the_effect(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, stub):
        slow = pb.Behaviour(latency_min_ms=3_000, latency_max_ms=3_000)
        await stub.Configure(pb.ConfigureRequest(behaviour=slow), timeout=5)
        calls = [stub.Authorise(authorise(f"{n}:authorise:1"), timeout=1.5) for n in range(100)]
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        entries = [entry async for entry in stub.ExportStatement(pb.ExportStatementRequest(), timeout=5)]
        assert 0 < len(entries) < 100


async def test_health_and_reflection_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as (channel, _):
        health: health_pb2_grpc.HealthStub = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        async for response in reflection.ServerReflectionInfo(iter([request]), timeout=5):
            assert SERVICE in {one.name for one in response.list_services_response.service}


# As a process


@contextmanager
def process(**settings: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, **{PREFIX + name.upper(): value for name, value in settings.items()}}
    command = [sys.executable, "-m", "simulators.psp"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def log_line(started: subprocess.Popen[str]) -> dict[str, str]:
    """The next line of the process's log."""
    assert started.stdout is not None
    line: dict[str, str] = json.loads(started.stdout.readline())
    return line


def test_sigterm_drains_and_exits_with_zero_and_the_port_can_not_be_shared(tmp_path: Path) -> None:
    database = str(tmp_path / "books.sqlite")
    with process(listen="127.0.0.1:0", database=database, latency_min_ms="300", latency_max_ms="300") as first:
        listening = log_line(first)
        assert listening["message"] == "listening"
        with process(listen=listening["address"], database=database) as second:
            assert log_line(second)["message"] == "can't listen"
            assert second.wait(10) == 2
        with grpc.insecure_channel(listening["address"]) as channel:
            stub = pb_grpc.SimProviderServiceStub(channel)
            in_flight = stub.Authorise.future(authorise(), timeout=10, wait_for_ready=True)
            _serving(channel)
            first.send_signal(signal.SIGTERM)
            assert log_line(first)["message"] == "draining"
            assert in_flight.result().hold == HOLD
        assert first.wait(10) == 0


def _serving(channel: grpc.Channel) -> None:
    """Returns once a call sent before has reached the server: both share a connection, in order."""
    health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"listen": "nowhere"}, "LISTEN"), ({"latency_min_ms": "-1"}, "LATENCY_MIN_MS"), ({"latency_min_ms": "9"}, "*")],
)
def test_bad_settings_are_named_and_exit_with_two(tmp_path: Path, settings: dict[str, str], named: str) -> None:
    with process(database=str(tmp_path / "books.sqlite"), **settings) as started:
        assert log_line(started)["name"] == PREFIX + named
        assert started.wait(10) == 2


#: Kind of each method, and the identities that may call it.
ALLOWED = {
    "/groupbuy.simprovider.v1.SimProviderService/Authorise": ("unary_unary", {"payments"}),
    "/groupbuy.simprovider.v1.SimProviderService/LookUp": ("unary_unary", {"payments"}),
    "/groupbuy.simprovider.v1.SimProviderService/MakeCalls": ("stream_stream", {"payments"}),
    "/groupbuy.simprovider.v1.SimProviderService/ExportStatement": ("unary_stream", {"operator"}),
    "/groupbuy.simprovider.v1.SimProviderService/Configure": ("unary_unary", {"operator"}),
    "/grpc.health.v1.Health/Check": ("unary_unary", {"payments", "operator", "shop", "monitor"}),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": ("stream_stream", {"operator"}),
}


async def test_with_certificates_each_identity_may_call_what_the_policy_allows(tmp_path: Path) -> None:
    credentials = Credentials(tmp_path / "credentials")
    own = credentials.issued["provider"]
    settings = Settings(
        listen="127.0.0.1:0",
        database=tmp_path / "books.sqlite",
        insecure=False,
        tls_certificate=own.certificate,
        tls_key=own.key,
        tls_ca=own.ca,
    )
    server = Server(settings)
    address = await server.start()
    wrong = []
    for name in ("payments", "operator", "shop", "monitor", "kafka"):
        issued = credentials.issued[name]
        pem = [one.read_bytes() for one in (issued.ca, issued.key, issued.certificate)]
        options = [("grpc.use_local_subchannel_pool", 1), *expecting(credentials.identities["provider"])]
        async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(*pem), options=options) as channel:
            for path, (kind, allowed) in ALLOWED.items():
                call = getattr(channel, kind)(path, None, None)
                made = call(iter([b""]) if kind.startswith("stream") else b"", timeout=30)
                code = await made.code()
                if (code is grpc.StatusCode.PERMISSION_DENIED) == (name in allowed):
                    wrong.append((name, path, code))
    await server.stop(0)
    assert wrong == []
