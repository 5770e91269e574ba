"""The provider's gRPC face, and the provider as a whole: checks requests and hands them to the desk.

It decides nothing about money. Faults befall the merchant's calls alone; confirming, exporting and configuring are the
test's own hands and always work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from itertools import islice
from typing import Any, NoReturn, TypeAlias

import grpc
import protovalidate
import structlog
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped, unused-ignore]
from groupbuy.simprovider.v1 import simprovider_pb2 as pb
from groupbuy.simprovider.v1 import simprovider_pb2_grpc as pb_grpc
from grpc_channelz.v1 import _async as channelz
from grpc_channelz.v1 import channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health  # type: ignore[attr-defined, unused-ignore]
from grpc_reflection.v1alpha import _async as reflection
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from chassis.identity import authorizer, tls
from chassis.rpc.request_pipeline import Handler, RequestPipeline, implemented
from simulators.psp.accounts import Ledger, Request
from simulators.psp.http_server import Web
from simulators.psp.request_handler import Desk, TooMany, Unavailable, behaviour_of
from simulators.psp.rules import KeyReused, NotConfirmable, NotFound, Refusal
from simulators.psp.settings import Settings
from simulators.psp.stream import answered
from simulators.psp.writer import Writer

log = structlog.get_logger(__name__)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

SERVICE = pb.DESCRIPTOR.services_by_name["SimProviderService"].full_name
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
DOMAIN = "simprovider"
#: The name of its identity in the table of who may call what.
NAME = "provider"
#: Five hundred calls in one message, with the longest of names.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
#: Calls and streams in flight. The desk has limits of its own.
MAX_CALLS = 50_000
#: Seconds between two looks at whether the callers of calls in flight still have access.
WITHDRAW_S = 1.0
STATEMENT_CHUNK = 500
MAX_TEXT = 500
CODES = {code.value[0]: code for code in grpc.StatusCode}

#: Status and ErrorInfo reason of each refusal.
REFUSALS: dict[type[Refusal], tuple[grpc.StatusCode, str]] = {
    KeyReused: (grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED"),
    NotFound: (grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
    NotConfirmable: (grpc.StatusCode.FAILED_PRECONDITION, "NOT_CONFIRMABLE"),
}

OPTIONS = (
    # Two providers on one port would share its calls in silence.
    ("grpc.so_reuseport", 0),
    # grpc.aio refuses bursts of over about a thousand pending calls otherwise.
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 40_000),
    # Clients look every few seconds whether we are still there.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
)


def system_clock_ms() -> int:
    """The time, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class SimProvider(pb_grpc.SimProviderServiceServicer):
    """The service."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def Authorise(self, request: pb.AuthoriseRequest, context: Context) -> pb.CallResult:
        """Holds money, or takes it at once."""
        return await self._call(request, context)

    async def Capture(self, request: pb.CaptureRequest, context: Context) -> pb.CallResult:
        """Takes held money."""
        return await self._call(request, context)

    async def Void(self, request: pb.VoidRequest, context: Context) -> pb.CallResult:
        """Lets a hold go."""
        return await self._call(request, context)

    async def Refund(self, request: pb.RefundRequest, context: Context) -> pb.CallResult:
        """Gives taken money back."""
        return await self._call(request, context)

    async def MakeCalls(
        self, requests: AsyncIterator[pb.MakeCallsRequest], context: Context
    ) -> AsyncIterator[pb.MakeCallsResponse]:
        """Many calls at once, each answered as it would be alone."""
        async with aclosing(answered(requests, self._one)) as found:
            async for answers in found:
                yield pb.MakeCallsResponse(answers=answers)

    async def LookUp(self, request: pb.LookUpRequest, context: Context) -> pb.CallResult:
        """What came of a call. It has no effect, so it can't fail after one."""
        return await self._call(request, context, effect=False)

    async def Confirm(self, request: pb.ConfirmRequest, context: Context) -> pb.CallResult:
        """Confirms a payment in the owner's place."""
        try:
            _check(request)
            return await self._desk.submit(request)
        except _Refused as refused:
            await _abort(context, refused.status)
        except Refusal as refusal:
            await _abort(context, _refusal(refusal))

    async def ExportStatement(
        self, request: pb.ExportStatementRequest, context: Context
    ) -> AsyncIterator[pb.StatementEntry]:
        """The books, hold by hold."""
        entries = self._desk.ledger.statement()

        def chunk() -> list[pb.StatementEntry]:
            return list(islice(entries, STATEMENT_CHUNK))

        while some := await asyncio.to_thread(chunk):
            for entry in some:
                yield entry

    async def Configure(self, request: pb.ConfigureRequest, context: Context) -> pb.Behaviour:
        """Sets how it behaves, until it is set again or the process ends."""
        try:
            _check(request)
        except _Refused as refused:
            await _abort(context, refused.status)
        if request.behaviour.latency_min_ms > request.behaviour.latency_max_ms:
            await _abort(context, _bad_fields([("behaviour.latency_min_ms", "must not be above latency_max_ms")]))
        self._desk.behave(request.behaviour)
        return request.behaviour

    async def _one(self, call: pb.Call) -> pb.Answer:
        """One call of several: its result, or the status that it would have been refused with."""
        kind = call.WhichOneof("body")
        if kind is None:
            return pb.Answer(number=call.number, status=_bad_fields([("body", "a call without a body")]))
        request: Request = getattr(call, kind)
        try:
            return pb.Answer(number=call.number, result=await self._make(request))
        except _Refused as refused:
            return pb.Answer(number=call.number, status=refused.status)
        except Exception:
            log.exception("a call failed")
            status = status_pb2.Status(code=grpc.StatusCode.INTERNAL.value[0], message="failed; nothing was written")
            return pb.Answer(number=call.number, status=status)

    async def _call(self, request: Request, context: Context, *, effect: bool = True) -> pb.CallResult:
        try:
            return await self._make(request, effect=effect)
        except _Refused as refused:
            await _abort(context, refused.status)

    async def _make(self, request: Request, *, effect: bool = True) -> pb.CallResult:
        """Makes one of the merchant's calls. Raises _Refused."""
        _check(request)
        try:
            return await self._desk.call(request, effect=effect)
        except Unavailable as failed:
            raise _Refused(_status(grpc.StatusCode.UNAVAILABLE, str(failed))) from failed
        except TooMany as failed:
            raise _Refused(_status(grpc.StatusCode.RESOURCE_EXHAUSTED, str(failed))) from failed
        except Refusal as refusal:
            raise _Refused(_refusal(refusal)) from refusal


class _Refused(Exception):
    """A call is answered with an error."""

    def __init__(self, status: Any) -> None:
        super().__init__(status.message)
        self.status = status


def _refusal(refusal: Refusal) -> Any:
    code, reason = REFUSALS[type(refusal)]
    return _status(code, str(refusal), error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))


def _check(request: Message) -> None:
    """Raises _Refused for a request that breaks its rules."""
    if violations := protovalidate.collect_violations(request):
        raise _Refused(_bad_fields([(_path(one.proto.field), one.proto.message) for one in violations]))


def _path(field: protovalidate.FieldPathPb | None) -> str:
    return ".".join(element.field_name for element in field.elements) if field is not None else ""


def _bad_fields(fields: list[tuple[str, str]]) -> Any:
    bad = error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
            for field, description in fields
        ]
    )
    message = "; ".join(f"{field}: {description}" for field, description in fields)
    return _status(grpc.StatusCode.INVALID_ARGUMENT, message, bad)


def _status(code: grpc.StatusCode, message: str, detail: Message | None = None) -> Any:
    """A google.rpc.Status. It travels in headers, which are small."""
    status = status_pb2.Status(code=code.value[0], message=message[:MAX_TEXT])
    if detail is not None:
        status.details.add().Pack(detail)
    return status


async def _abort(context: Context, status: Any) -> NoReturn:
    details = (("grpc-status-details-bin", status.SerializeToString()),) if status.details else ()
    await context.abort(CODES[status.code], status.message, details)


class Server:
    """The provider, running: ledger, writer, gRPC server, health, reflection, and where it is wanted HTTP."""

    def __init__(self, settings: Settings, clock_ms: Callable[[], int] = system_clock_ms) -> None:
        """Opens the books. Raises LedgerUnusable, BadCertificates, PolicyError."""
        self._settings = settings
        self._files = tls.files(settings)
        self._access = authorizer.access(settings, NAME, self._files)
        self._guard = RequestPipeline(
            max_calls=MAX_CALLS, max_streams=MAX_CALLS, access=self._access, max_bytes=MAX_MESSAGE_BYTES
        )
        self._withdrawing: asyncio.Task[None] | None = None
        self._ledger = Ledger(settings.database, clock_ms, settings.hold_life_ms)
        self._writer = Writer(self._ledger)
        self._health = health.HealthServicer()
        self._desk = Desk(self._ledger, self._writer, clock_ms, behaviour_of(settings))
        self._grpc: grpc.aio.Server | None = None
        self._web = Web(settings, self._desk, self._writer)
        #: host:port of HTTP, once started; empty where there is none.
        self.http_address = ""

    async def start(self) -> str:
        """Serves; returns host:port. Raises RuntimeError when a port is taken."""
        server = grpc.aio.server(options=OPTIONS)
        guarded: Any = _Guarded(server, self._guard)
        pb_grpc.add_SimProviderServiceServicer_to_server(SimProvider(self._desk), guarded)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, guarded)
        channelz_pb2_grpc.add_ChannelzServicer_to_server(channelz.ChannelzServicer(), guarded)
        names = (SERVICE, HEALTH, reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflection.ReflectionServicer(names), guarded)
        server.add_generic_rpc_handlers((self._guard.others(),))
        self._access.check(self._guard.methods)
        host = self._settings.listen.rpartition(":")[0]
        if self._files is None:
            port = server.add_insecure_port(self._settings.listen)
        else:
            port = server.add_secure_port(self._settings.listen, tls.server_credentials(self._files))
        self._writer.start()
        self.http_address = await self._web.start()
        await server.start()
        self._grpc = server
        self._withdrawing = asyncio.create_task(self._withdraw(), name="who may go on calling")
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        return f"{host}:{port}"

    async def stop(self, drain_seconds: float) -> None:
        """Takes no more calls, lets those under way end, and closes the books."""
        await self._health.enter_graceful_shutdown()
        if self._withdrawing is not None:
            self._withdrawing.cancel()
        if self._grpc is not None:
            await self._grpc.stop(drain_seconds)
        await self._web.stop()
        await self._writer.stop()
        self._ledger.close()

    async def _withdraw(self) -> None:
        while True:
            await asyncio.sleep(WITHDRAW_S)
            self._access.refresh()
            self._guard.withdraw()


class _Guarded:
    """Stands in for the server while a generated function adds a servicer to it: each call's caller is known first."""

    def __init__(self, server: Any, guard: RequestPipeline) -> None:
        self._server = server
        self._guard = guard

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """The same handlers come again, by name, in the next call."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Handler]) -> None:
        """Adds them, wrapped."""
        wrapped = {
            name: self._guard.operational(f"/{service}/{name}", handler)
            for name, handler in handlers.items()
            if implemented(handler)
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))
        self._server.add_registered_method_handlers(service, wrapped)
