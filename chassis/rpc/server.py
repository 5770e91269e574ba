"""The gRPC server of a service process: its servicers behind the request pipeline, health, reflection and channelz.

Reports NOT_SERVING until `set_serving(True)`. Does not share its port with another process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import structlog
from google.protobuf import descriptor_pool
from google.protobuf.message_factory import GetMessageClass
from grpc_channelz.v1 import _async as channelz
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import _async as health
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from chassis.admission.closed_peers import ClosedPeers
from chassis.admission.connections import MAX_STREAMS, Connections, max_connections
from chassis.admission.connections import POLL_INTERVAL_S as CONNECTIONS_S
from chassis.admission.load_shedder import ChannelzCounters, measure_queue
from chassis.admission.thread_priority import SERVING, ThreadPriorities, apply_thread_priorities
from chassis.identity.authorizer import Authorizer
from chassis.identity.tls import CertificateFiles, server_credentials
from chassis.lifecycle.settings import host_and_port
from chassis.rpc import validation
from chassis.rpc.gate import gated_server
from chassis.rpc.reflection import CommentedReflection
from chassis.rpc.request_pipeline import Handler, RequestPipeline, implemented
from eventlog.runtime.abort import abort
from eventlog.runtime.cancellation import cancel_requested

log = structlog.stdlib.get_logger(__name__)

#: Bytes of any message. A message above the pipeline's limit is still read, to be answered with a reason.
MAX_RECEIVE_BYTES = 4 * 1024 * 1024
#: Calls waiting in each of gRPC's queues from which it drops some, and from which it drops all. A dropped call ends
#: with CANCELLED, without a reason, at next to no cost: the last resort against a flood that would take all our time to
#: refuse (chassis/rpc/gate.py). Calls that were reset stay in the queue, so a longer one helps who resets calls.
MAX_PENDING = 2_000
MAX_PENDING_HARD = 2_050
#: Seconds between two checks of the access of calls in flight.
WITHDRAW_S = 1.0
#: Seconds in which gRPC sends the last responses, after every call was ended.
SHUTDOWN_GRACE_S = 1.0

OPTIONS: tuple[tuple[str, int], ...] = (
    # Otherwise a second process could bind the port and get half of the calls, without an error.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    ("grpc.server.max_pending_requests", MAX_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_HARD),
    ("grpc.enable_channelz", 1),
    # In an encoding that the caller accepts; the request pipeline exempts small messages.
    ("grpc.default_compression_level", 2),
    # Detects a watcher without a network within a minute. Clients may ping every 10 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # A silent peer has 10 s for the handshake. A connection without calls is closed after five minutes; a gRPC client
    # reconnects by itself.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
)
#: Additional options where callers have certificates. Access ends with the certificate, its authority or the policy's
#: row (chassis/identity/authorizer.py). A connection ends within an hour, and its streams five minutes later;
#: certificates of intermediate authorities that are not in the bundle depend on that.
ENCRYPTED_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 300_000),
)


def _only_service(file: Any) -> str:
    """Full name of the one service of a generated module."""
    (service,) = file.DESCRIPTOR.services_by_name.values()
    return str(service.full_name)


#: Health's name for the partitions of the process: NOT_SERVING while one is quarantined. The process itself stays
#: SERVING, for its other partitions.
PARTITIONS = "groupbuy.partitions"

#: Full names of the services that every process serves in addition to its own.
OPERATIONS = tuple(_only_service(file) for file in (health_pb2, channelz_pb2, reflection_pb2))


@dataclass(frozen=True, slots=True)
class Servicer:
    """One service: the generated function that adds it, the object that serves it, its full name."""

    add: Callable[[Any, Any], None]
    servicer: object
    full_name: str
    #: People call it, a few times a day: the time of its calls is not measured.
    for_people: bool = False


class PortTaken(Exception):
    """The address can't be listened on. The message has the reason."""


class Server:
    """Serves until drained. Call all methods but `bind` on the event loop."""

    def __init__(
        self,
        servicers: Sequence[Servicer],
        *,
        max_calls: int,
        max_streams: int,
        authorizer: Authorizer,
        files: CertificateFiles | None,
        thread_priorities: ThreadPriorities = SERVING,
    ) -> None:
        """Without `files` nothing is encrypted. Raises PolicyError unless the policy of `authorizer` has exactly the
        methods that are served."""
        self.pipeline = RequestPipeline(max_calls=max_calls, max_streams=max_streams, authorizer=authorizer)
        self._files = files
        self._thread_priorities = thread_priorities
        self._authorizer = authorizer
        # addFilter ignores a filter that is already there.
        logging.getLogger("grpc._cython.cygrpc").addFilter(_WITHOUT_RESETS)
        self._counters = ChannelzCounters()
        closed_peers = ClosedPeers()
        limit = ("grpc.max_allowed_incoming_connections", max_connections())
        self._server, self.gate = gated_server(
            (*OPTIONS, limit, *(() if files is None else ENCRYPTED_OPTIONS)),
            self.pipeline.load_shedder,
            lambda: self.pipeline.limits,
            closed_peers,
        )
        self._counters.find_server()
        self._connections = Connections(self._counters.server_id, closed_peers)
        self.pipeline.limits.floods.on_flood = self._cut_off
        self._names = tuple(one.full_name for one in servicers)
        #: Full names of its own services that other services call.
        self.measured = frozenset(one.full_name for one in servicers if not one.for_people)
        self._health = health.HealthServicer()
        self._serving: bool | None = None
        self._all_partitions: bool | None = None
        self._background: list[asyncio.Task[None]] = []
        for one in servicers:
            # Streams have their own queues, so that they don't wait behind a flood of calls.
            wrapping = WrappingServer(self._server, self.pipeline.business, lambda handler: handler.response_streaming)
            one.add(one.servicer, wrapping)
            if wrapping.added != [one.full_name]:
                raise ValueError(f"the service named {one.full_name} is {wrapping.added}")
            _prepare(one.full_name)
        self._add_operations()
        authorizer.check(self.pipeline.methods)

    def bind(self, listen: str) -> int:
        """Binds `host:port` and returns the port, chosen by the system if it is 0. Raises PortTaken."""
        _try_out(listen)
        try:
            if self._files is not None:
                port = int(self._server.add_secure_port(listen, server_credentials(self._files)))
            else:
                port = int(self._server.add_insecure_port(listen))
        except RuntimeError as error:
            raise PortTaken(f"can't listen on {listen}: {error}") from error
        self._connections.port = port
        return port

    async def start(self) -> None:
        """Starts to answer, with health NOT_SERVING."""
        await self.set_serving(False)
        await self.set_all_partitions(True)
        await self._server.start()
        background: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "thread priorities": partial(apply_thread_priorities, self._thread_priorities),
            "load shedder": partial(measure_queue, self.pipeline.load_shedder, self._counters),
            "access of calls in flight": self._withdraw,
            "connections": self._sweep_connections,
        }
        self._background = [asyncio.create_task(_supervised(work, name)) for name, work in background.items()]

    @property
    def names(self) -> tuple[str, ...]:
        """Full names of its own services."""
        return self._names

    @property
    def serving(self) -> bool:
        """Whether health reports SERVING."""
        return bool(self._serving)

    async def set_serving(self, serving: bool) -> None:
        """Sets the health of the process and of each service."""
        if serving == self._serving:
            return
        self._serving = serving
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, status)

    @property
    def all_partitions(self) -> bool:
        """Whether health reports that no partition is quarantined."""
        return bool(self._all_partitions)

    async def set_all_partitions(self, healthy: bool) -> None:
        """Sets the health of the partitions."""
        self._all_partitions = healthy
        status = health_pb2.HealthCheckResponse
        await self._health.set(PARTITIONS, status.SERVING if healthy else status.NOT_SERVING)

    async def drain(self, seconds: float) -> None:
        """Stops accepting calls, ends the streams, waits `seconds` for the unary calls, then ends those too."""
        await self.set_serving(False)
        await self._health.enter_graceful_shutdown()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        stopping = asyncio.ensure_future(self._server.stop(seconds + SHUTDOWN_GRACE_S))
        # The watchers of health receive NOT_SERVING before their streams end.
        await asyncio.wait([stopping], timeout=0.05)
        self.pipeline.operations.end_all()
        self.pipeline.streams.end_all()
        try:
            await asyncio.wait_for(self.pipeline.unary.wait_idle(), seconds)
        except TimeoutError:
            self.pipeline.unary.end_all()
        # The responses that are left are on their way to callers, which may not be reading.
        await self._server.stop(SHUTDOWN_GRACE_S)
        await stopping

    async def _withdraw(self) -> None:
        """Every second, ends overdue calls and those of callers that lost access."""
        while True:
            await asyncio.sleep(WITHDRAW_S)
            self.sweep()
            self._authorizer.refresh()
            ended = self.pipeline.withdraw()
            if ended:
                log.warning("calls in flight were ended: their callers lost access", calls=ended)

    def sweep(self) -> None:
        """Ends overdue calls, and the connections of peers that leave responses unread."""
        limits = self.pipeline.limits
        stalled = limits.sweep()
        if stalled:
            log.warning("calls were ended: their peers neither sent nor read in time", calls=stalled)
        if limits.unresponsive_peers:
            self._connections.close(limits.unresponsive_peers, "responses were not read")
            limits.unresponsive_peers.clear()

    def _cut_off(self, peer: str) -> None:
        self._connections.close_flood(peer)
        self.pipeline.load_shedder.flood_cut_off()

    async def _sweep_connections(self) -> None:
        while True:
            await asyncio.sleep(CONNECTIONS_S)
            self.pipeline.limits.floods.next_window()
            self._connections.sweep()

    def _add_operations(self) -> None:
        names = (*self._names, *OPERATIONS)
        # Health has its own queue: a probe that waits behind a flood reports that the process is dead.
        own_queue = WrappingServer(self._server, self.pipeline.operational, lambda _: True)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, own_queue)
        wrapping = WrappingServer(self._server, self.pipeline.operational, lambda _: False)
        channelz_pb2_grpc.add_ChannelzServicer_to_server(channelz.ChannelzServicer(), wrapping)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(CommentedReflection(names), wrapping)
        self._server.add_generic_rpc_handlers((self.pipeline.unserved(),))


class _WithoutResets(logging.Filter):
    """Drops gRPC's log lines about calls that were reset while they were answered.

    A peer can cause thousands of such lines at will, each with a traceback.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is about anything else."""
        return not (record.exc_info and isinstance(record.exc_info[1], grpc.aio.BaseError))


_WITHOUT_RESETS = _WithoutResets()


async def _supervised(work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
    """Ends the process if a background task fails or is cancelled from inside a call: nobody awaits the task."""
    try:
        await work()
    except asyncio.CancelledError as error:
        if cancel_requested():
            raise
        abort("a task ended", error, task=name)
    except Exception as error:  # noqa: BLE001 - the process ends here
        abort("a task ended", error, task=name)


class WrappingServer:
    """Stands in for the server while a generated function adds a servicer to it, and wraps each handler."""

    def __init__(
        self, server: Any, wrap: Callable[[str, Handler], Handler], own_queue: Callable[[Handler], bool]
    ) -> None:
        """`own_queue`: whether a handler's calls get their own queue in gRPC. Each queue adds a cost to every call."""
        self._server = server
        self._wrap = wrap
        self._own_queue = own_queue
        #: Full names of the services added so far.
        self.added: list[str] = []

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Ignores the handlers: the generated function passes them again, by name, in the next call."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        """Adds the wrapped handlers, and registers those with their own queue."""
        wrapped = {
            name: self._wrap(f"/{service}/{name}", handler)
            for name, handler in handlers.items()
            if implemented(handler)
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))
        own_queue = {name: handler for name, handler in wrapped.items() if self._own_queue(handler)}
        self._server.add_registered_method_handlers(service, own_queue)
        self.added.append(service)


def _prepare(full_name: str) -> None:
    """Compiles the rules of every request, so that the first call of a method is as fast as the next."""
    for method in descriptor_pool.Default().FindServiceByName(full_name).methods:
        validation.prepare(GetMessageClass(method.input_type))


def _try_out(listen: str) -> None:
    """Listens for a moment, because gRPC does not report why it can't. Raises PortTaken."""
    host, port = host_and_port(listen)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            trial.listen()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise PortTaken(f"can't listen on {listen}: {reason.lower()}") from error
