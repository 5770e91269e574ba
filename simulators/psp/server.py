"""The simulated provider as a process: account book, gRPC server with health and reflection, and HTTP server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from groupbuy.simprovider.v1 import simprovider_pb2 as pb
from groupbuy.simprovider.v1 import simprovider_pb2_grpc as pb_grpc
from grpc_channelz.v1 import _async as channelz
from grpc_channelz.v1 import channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health  # type: ignore[attr-defined, unused-ignore]
from grpc_reflection.v1alpha import _async as reflection
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from chassis.identity import authorizer, tls
from chassis.rpc.request_pipeline import RequestPipeline
from chassis.rpc.server import WrappingServer
from eventlog.runtime.wall_clock import wall_clock_ms
from simulators.psp.accounts.account_book import AccountBook
from simulators.psp.accounts.group_commit import GroupCommit
from simulators.psp.grpc_api.servicer import SimProviderServicer
from simulators.psp.http_server import HttpServer
from simulators.psp.request_handler import RequestHandler, behaviour_of
from simulators.psp.settings import Settings

SERVICE = pb.DESCRIPTOR.services_by_name["SimProviderService"].full_name
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
#: Name of this process in the access policy.
NAME = "provider"
#: Holds a message of five hundred calls with the longest names.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
#: Calls in flight, and streams. Each stream limits its own calls.
MAX_CALLS = 50_000
#: Seconds between checks that the callers of calls in flight still have access.
WITHDRAW_S = 1.0

OPTIONS = (
    # Without it, two providers on one port would share its calls unnoticed.
    ("grpc.so_reuseport", 0),
    # By default grpc.aio rejects bursts of more than about a thousand pending calls.
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 40_000),
    # Clients send keepalive pings every few seconds.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
)


class Server:
    """The running provider."""

    def __init__(self, settings: Settings, clock_ms: Callable[[], int] = wall_clock_ms) -> None:
        """Opens the account book. Raises AccountBookUnusable, BadCertificates, PolicyError."""
        self._settings = settings
        self._files = tls.certificate_files(settings)
        self._access = authorizer.create_authorizer(settings, NAME, self._files)
        self._pipeline = RequestPipeline(
            max_calls=MAX_CALLS, max_streams=MAX_CALLS, authorizer=self._access, max_bytes=MAX_MESSAGE_BYTES
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._book = AccountBook(settings.database, clock_ms, settings.hold_life_ms)
        self._group_commit = GroupCommit(self._book)
        self._health = health.HealthServicer()
        self._handler = RequestHandler(self._book, self._group_commit, clock_ms, behaviour_of(settings))
        self._grpc: grpc.aio.Server | None = None
        self._http = HttpServer(settings, self._handler, self._group_commit)
        #: host:port of HTTP once started; empty if none is configured.
        self.http_address = ""

    async def start(self) -> str:
        """Starts serving. Returns host:port. Raises RuntimeError if a port is taken."""
        server = grpc.aio.server(options=OPTIONS)
        guarded: Any = WrappingServer(server, self._pipeline.operational, lambda _: True)
        pb_grpc.add_SimProviderServiceServicer_to_server(SimProviderServicer(self._handler), guarded)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, guarded)
        channelz_pb2_grpc.add_ChannelzServicer_to_server(channelz.ChannelzServicer(), guarded)
        names = (SERVICE, HEALTH, reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflection.ReflectionServicer(names), guarded)
        server.add_generic_rpc_handlers((self._pipeline.unserved(),))
        self._access.check(self._pipeline.methods)
        host = self._settings.listen.rpartition(":")[0]
        if self._files is None:
            port = server.add_insecure_port(self._settings.listen)
        else:
            port = server.add_secure_port(self._settings.listen, tls.server_credentials(self._files))
        self._group_commit.start()
        self.http_address = await self._http.start()
        await server.start()
        self._grpc = server
        self._tasks = [
            asyncio.create_task(self._withdraw(), name="withdraw access"),
            asyncio.create_task(self._handler.live(), name="provider life"),
        ]
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return f"{host}:{port}"

    async def stop(self, drain_seconds: float) -> None:
        """Stops serving, drains the calls in flight, and closes the account book."""
        await self._health.enter_graceful_shutdown()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._grpc is not None:
            await self._grpc.stop(drain_seconds)
        await self._http.stop()
        await self._group_commit.stop()
        self._book.close()

    async def _withdraw(self) -> None:
        while True:
            await asyncio.sleep(WITHDRAW_S)
            self._access.refresh()
            self._pipeline.withdraw()
