"""Calls to real servicers behind the real request pipeline, without a network: bytes in, status and bytes out.

An error that the contract does not allow is a failure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from groupbuy.errors.v1.errors_pb2 import ErrorReason

from chassis.identity.authorizer import Authorizer
from chassis.rpc.errors import DOMAIN, PREFIX
from chassis.rpc.request_pipeline import Handler, RequestPipeline

#: Codes of errors in the service itself.
SERVER_ERRORS = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS})
REASONS = frozenset(ErrorReason.keys())
#: Seconds after which a call counts as hung: far beyond every deadline here.
HUNG_S = 60.0
#: Seconds for which a watch is read.
WATCHED_S = 0.002
#: Bytes of the trailing metadata of an error.
MAX_TRAILING = 8_192


class Failure(Exception):
    """The service failed, or answered with an error that the contract does not allow."""


class Aborted(Exception):
    """Raised by `abort`."""


class Context:
    """The part of a call's context that pipeline and servicers use."""

    def __init__(self, seconds: float | None) -> None:
        self._until = None if seconds is None else time.monotonic() + seconds
        self.answers: list[Any] = []
        #: The request of a call without a request stream, for `read`.
        self.request: Any = None
        self.status: tuple[grpc.StatusCode, str, Mapping[str, str | bytes]] | None = None

    def time_remaining(self) -> float | None:
        return None if self._until is None else self._until - time.monotonic()

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def disable_next_message_compression(self) -> None:
        """Does nothing: there is no compression."""

    async def read(self) -> Any:
        return self.request

    async def write(self, answer: Any) -> None:
        self.answers.append(answer)

    def code(self) -> grpc.StatusCode | None:
        return self.status[0] if self.status is not None else None

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing: Any = ()) -> None:
        self.status = code, details, dict(trailing)
        raise Aborted


class Outcome(NamedTuple):
    """The result of a call."""

    code: grpc.StatusCode
    reason: str
    #: The serialised responses.
    answers: list[bytes]


class Method:
    """One RPC with its wrapped handler."""

    def __init__(self, descriptor: MethodDescriptor, handler: Handler) -> None:
        self.descriptor = descriptor
        self.name = f"{descriptor.containing_service.full_name}/{descriptor.name}"
        self._handler = handler

    async def call(self, requests: Sequence[bytes], seconds: float | None) -> Outcome:
        """Calls it. Raises Failure."""
        context = Context(seconds)
        task = asyncio.ensure_future(self._run(requests, context))
        endless = self.descriptor.server_streaming
        done, _ = await asyncio.wait({task}, timeout=WATCHED_S if endless else HUNG_S)
        if not done:
            task.cancel()
            await asyncio.wait({task})
            if not endless:
                raise Failure(f"it hung for {HUNG_S:g} s")
            if task.cancelled():
                return self._outcome(context)
        error = task.exception()
        if isinstance(error, Aborted) and context.status is not None:
            code, details, trailing = context.status
            return Outcome(code, checked(code, details, trailing), [])
        if error is not None:
            raise Failure(f"{error!r} was raised") from error
        return self._outcome(context)

    async def _run(self, requests: Sequence[bytes], context: Any) -> None:
        parse: Any = self._handler.request_deserializer
        behaviour: Any = (
            self._handler.unary_unary
            or self._handler.unary_stream
            or self._handler.stream_unary
            or self._handler.stream_stream
        )
        if not self.descriptor.client_streaming:
            context.request = parse(requests[0])
        given = _each(parse, requests) if self.descriptor.client_streaming else context.request
        answer = await behaviour(given, context)
        if not self.descriptor.server_streaming:
            context.answers.append(answer)

    def _outcome(self, context: Context) -> Outcome:
        serialise: Any = self._handler.response_serializer
        return Outcome(grpc.StatusCode.OK, "", [serialise(answer) for answer in context.answers])


async def _each(parse: Callable[[bytes], Any], requests: Sequence[bytes]) -> AsyncIterator[Any]:
    for data in requests:
        yield parse(data)


def checked(code: grpc.StatusCode, details: str, trailing: Mapping[str, str | bytes]) -> str:
    """The reason of an error. Raises Failure for server errors, and without the details that the contract promises."""
    try:
        status = Status.FromString(bytes(trailing["grpc-status-details-bin"]))  # type: ignore[arg-type]
    except (KeyError, DecodeError):
        raise Failure(f"{code.name} without a status: {details}") from None
    info, wrong = ErrorInfo(), BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(wrong)
    if code in SERVER_ERRORS:
        raise Failure(f"{code.name}: {details}")
    if info.domain != DOMAIN or f"{PREFIX}{info.reason}" not in REASONS:
        raise Failure(f"{code.name} with a reason outside the contract: {info.reason!r}")
    if info.reason == "INVALID_FIELDS" and not wrong.field_violations:
        raise Failure("INVALID_FIELDS without fields")
    if sum(len(name) + len(value) for name, value in trailing.items()) > MAX_TRAILING * 3 // 4:
        raise Failure("the details do not fit into a header")
    return str(info.reason)


class _CollectingServer:
    """Stands in for a server and collects the wrapped handlers."""

    def __init__(self, pipeline: RequestPipeline) -> None:
        self._pipeline = pipeline
        self.methods: list[Method] = []

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Ignores the handlers: they are passed again, by name."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        described = descriptor_pool.Default().FindServiceByName(service)
        for name, handler in handlers.items():
            wrapped = self._pipeline.business(f"/{service}/{name}", handler)
            self.methods.append(Method(described.methods_by_name[name], wrapped))


def methods(servicers: Sequence[tuple[Callable[[Any, Any], None], object]]) -> list[Method]:
    """Every RPC of these servicers, wrapped as in a server without authorisation."""
    collecting = _CollectingServer(RequestPipeline(max_calls=1_000, max_streams=1_000, authorizer=Authorizer(None)))
    for add, servicer in servicers:
        add(servicer, collecting)
    return collecting.methods
