"""The gRPC server of a service process: its servicers behind the guard, and beside them health, reflection, channelz.

Must say NOT_SERVING until it is told otherwise, and must never share its port with another process.
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
from grpc_reflection.v1alpha import _async as reflection
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from chassis.admission.connections import MAX_STREAMS, Connections, most_connections
from chassis.admission.connections import POLL_INTERVAL_S as CONNECTIONS_S
from chassis.admission.load_shedder import Counters, measure
from chassis.admission.thread_priority import ANSWERS, ThreadPriorities, apply_thread_priorities
from chassis.identity.authorizer import Access
from chassis.identity.tls import Files, server_credentials
from chassis.lifecycle.settings import host_and_port
from chassis.rpc import validation
from chassis.rpc.request_pipeline import Handler, RequestPipeline, implemented
from eventlog.processors.lanes import cancelled_by_us
from eventlog.runtime.abort import abort

log = structlog.stdlib.get_logger(__name__)

#: Bytes of any message at most; what is larger than the guard allows is still read, to be answered with a reason.
MAX_RECEIVE_BYTES = 4 * 1024 * 1024
#: Calls that gRPC itself keeps waiting, of each of its queues, before it drops some and before it drops all. What it
#: drops is CANCELLED, without a reason, and costs us next to nothing: the last resort against a flood that would take
#: all our time to refuse (chassis/admission/load_shedder.py). So many may come at once; in a flood, whoever is let in
#: waits for as long as it takes to get to so many: a second where 1,200 a second are got to.
MAX_PENDING = 1_200
MAX_PENDING_HARD = 1_250
#: Seconds between two looks at whether the callers of calls in flight still have access.
WITHDRAW_S = 1.0
#: Seconds that gRPC gets to send the last answers, after every call was told to end.
SHUTDOWN_GRACE_S = 1.0

OPTIONS: tuple[tuple[str, int], ...] = (
    # Two processes on one port would each get half of the calls, and no error.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    ("grpc.server.max_pending_requests", MAX_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING_HARD),
    ("grpc.enable_channelz", 1),
    # By what the caller can read; what is not worth it is exempted by the guard.
    ("grpc.default_compression_level", 2),
    # A watcher whose network went away is noticed within a minute; clients may ping as often as every 10 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # A peer that says nothing has 10 s for the handshake, and a connection without calls is closed after five minutes:
    # a client of gRPC connects again by itself.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
)
#: On top of these where callers have certificates. Access ends with the certificate, its authority or the table
#: (chassis/identity/authorizer.py). A connection ends within an hour, and its streams five minutes later: a certificate
#: of an intermediate authority depends on that, where the bundle has no certificate of that authority.
ENCRYPTED: tuple[tuple[str, int], ...] = (
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 300_000),
)


def _only_service(file: Any) -> str:
    """Full name of the one service of a generated module."""
    (service,) = file.DESCRIPTOR.services_by_name.values()
    return str(service.full_name)


#: Health's name for the partitions of the process: NOT_SERVING while one of them is quarantined. The process itself
#: stays SERVING, for its other partitions.
PARTITIONS = "groupbuy.partitions"

#: Full names of what every process serves beside its own services.
OPERATIONS = tuple(_only_service(file) for file in (health_pb2, channelz_pb2, reflection_pb2))


@dataclass(frozen=True, slots=True)
class Servicer:
    """One service: the generated function that adds it, the object that serves it, its full name."""

    add: Callable[[Any, Any], None]
    servicer: object
    full_name: str


class PortTaken(Exception):
    """The address can't be listened on. The message says why."""


class Server:
    """Serves until drained. All methods but `bind` are to be called on the event loop."""

    def __init__(
        self,
        servicers: Sequence[Servicer],
        *,
        max_calls: int,
        max_streams: int,
        access: Access,
        files: Files | None,
        ranks: ThreadPriorities = ANSWERS,
    ) -> None:
        """Without `files` nothing is encrypted. Raises PolicyError where `access` is not about what is served."""
        self.guard = RequestPipeline(max_calls=max_calls, max_streams=max_streams, access=access)
        self._files = files
        self._ranks = ranks
        self._access = access
        # Added once, however many servers there are.
        logging.getLogger("grpc._cython.cygrpc").addFilter(_NOT_RESETS)
        self._counters = Counters()
        limit = ("grpc.max_allowed_incoming_connections", most_connections())
        self._server = grpc.aio.server(options=(*OPTIONS, limit, *(() if files is None else ENCRYPTED)))
        self._counters.found()
        self._connections = Connections(self._counters.server_id)
        self._names = tuple(one.full_name for one in servicers)
        self._health = health.HealthServicer()
        self._serving: bool | None = None
        self._all_partitions: bool | None = None
        self._beside: list[asyncio.Task[None]] = []
        for one in servicers:
            # Streams have queues of their own, so that they don't wait behind a flood of calls.
            wrapping = _Wrapping(self._server, self.guard.business, lambda handler: handler.response_streaming)
            one.add(one.servicer, wrapping)
            if wrapping.added != [one.full_name]:
                raise ValueError(f"the service named {one.full_name} is {wrapping.added}")
            _prepare(one.full_name)
        self._add_operations()
        access.check(self.guard.methods)

    def bind(self, listen: str) -> int:
        """Takes `host:port` and returns the port, chosen by the system if it was 0. Raises PortTaken."""
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
        """Begins to answer, NOT_SERVING."""
        await self.set_serving(False)
        await self.set_all_partitions(True)
        await self._server.start()
        self._beside = [
            asyncio.create_task(_supervised(partial(apply_thread_priorities, self._ranks), "ranks of threads")),
            asyncio.create_task(
                _supervised(partial(measure, self.guard.pressure, self._counters), "how long calls wait")
            ),
            asyncio.create_task(_supervised(self._withdraw, "who may go on calling")),
            asyncio.create_task(_supervised(self._sweep_connections, "connections")),
        ]

    @property
    def serving(self) -> bool:
        """What health says."""
        return bool(self._serving)

    async def set_serving(self, serving: bool) -> None:
        """Sets health, overall and of each service."""
        if serving == self._serving:
            return
        self._serving = serving
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._names):
            await self._health.set(name, status)

    @property
    def all_partitions(self) -> bool:
        """What health says of the partitions: that none stands still."""
        return bool(self._all_partitions)

    async def set_all_partitions(self, well: bool) -> None:
        """Sets health of the partitions."""
        self._all_partitions = well
        status = health_pb2.HealthCheckResponse
        await self._health.set(PARTITIONS, status.SERVING if well else status.NOT_SERVING)

    async def drain(self, seconds: float) -> None:
        """Stops taking calls, ends the streams, gives unary calls so many seconds, then ends these too."""
        await self.set_serving(False)
        await self._health.enter_graceful_shutdown()
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        stopping = asyncio.ensure_future(self._server.stop(seconds + SHUTDOWN_GRACE_S))
        # Health's watchers hear of it before their streams end.
        await asyncio.wait([stopping], timeout=0.05)
        self.guard.operations.tell()
        self.guard.streams.tell()
        try:
            await asyncio.wait_for(self.guard.unary.idle(), seconds)
        except TimeoutError:
            self.guard.unary.tell()
        # What is left now is only on its way to the caller, who may not be reading.
        await self._server.stop(SHUTDOWN_GRACE_S)
        await stopping

    async def _withdraw(self) -> None:
        """Ends access as it ends: with the certificate, its authority, or the line in the table."""
        while True:
            await asyncio.sleep(WITHDRAW_S)
            self._sweep()
            self._access.refresh()
            ended = self.guard.withdraw()
            if ended:
                log.warning("calls in flight were ended: their callers lost access", calls=ended)

    def _sweep(self) -> None:
        """Ends what peers let stand, and the connections of those that misbehave."""
        stalled = self.guard.sweep()
        if stalled:
            log.warning("calls were ended: their peers neither sent nor read in time", calls=stalled)
        if self.guard.deaf:
            self._connections.close(self.guard.deaf, "answers were not read")
            self.guard.deaf.clear()

    async def _sweep_connections(self) -> None:
        while True:
            await asyncio.sleep(CONNECTIONS_S)
            self._connections.sweep()

    def _add_operations(self) -> None:
        names = (*self._names, *OPERATIONS)
        # As streams: a probe that waits behind shoppers says that the process is dead.
        apart = _Wrapping(self._server, self.guard.operational, lambda _: True)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, apart)
        wrapping = _Wrapping(self._server, self.guard.operational, lambda _: False)
        channelz_pb2_grpc.add_ChannelzServicer_to_server(channelz.ChannelzServicer(), wrapping)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflection.ReflectionServicer(names), wrapping)
        self._server.add_generic_rpc_handlers((self.guard.others(),))


class _NotResets(logging.Filter):
    """Leaves out that a call was reset while it was answered: a peer can cause thousands of such lines at will, each
    with a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether gRPC's line is about anything else."""
        return not (record.exc_info and isinstance(record.exc_info[1], grpc.aio.BaseError))


_NOT_RESETS = _NotResets()


async def _supervised(work: Callable[[], Coroutine[Any, Any, None]], what: str) -> None:
    """Ends the process where a task fails, or is cancelled from inside a call: nobody would be told."""
    try:
        await work()
    except asyncio.CancelledError as error:
        if cancelled_by_us():
            raise
        abort("a task ended", error, task=what)
    except Exception as error:  # noqa: BLE001 - the process ends here
        abort("a task ended", error, task=what)


class _Wrapping:
    """Stands in for the server while a generated function adds a servicer to it, and wraps each handler."""

    def __init__(self, server: Any, wrap: Callable[[str, Handler], Handler], apart: Callable[[Handler], bool]) -> None:
        """`apart`: whether calls of a handler get a queue of their own in gRPC. Each queue makes every call dearer."""
        self._server = server
        self._wrap = wrap
        self._apart = apart
        #: Full names of the services that were added.
        self.added: list[str] = []

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """The same handlers come again, by name, in the next call."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        """Adds them, wrapped; a handler's name is what gRPC looks for where it has no queue of its own."""
        wrapped = {
            name: self._wrap(f"/{service}/{name}", handler)
            for name, handler in handlers.items()
            if implemented(handler)
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))
        apart = {name: handler for name, handler in wrapped.items() if self._apart(handler)}
        self._server.add_registered_method_handlers(service, apart)
        self.added.append(service)


def _prepare(full_name: str) -> None:
    """Compiles the rules of every request now: the first call of a method is as quick as the next."""
    for method in descriptor_pool.Default().FindServiceByName(full_name).methods:
        validation.prepare(GetMessageClass(method.input_type))


def _try_out(listen: str) -> None:
    """Listens for a moment, because gRPC does not say why it could not. Raises PortTaken."""
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
