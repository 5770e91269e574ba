"""Calls from one replica of a service to another: the same method, marked as forwarded; its answer or refusal as it is.

Nothing is retried here. A refusal of the other replica is passed on unchanged, and a call makes one hop at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from typing import Any, Protocol

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from groupbuy.errors.v1 import errors_pb2

from chassis.identity import tls
from chassis.identity.access_settings import SecuritySettings
from chassis.rpc.call_deadline import UNLIMITED_S
from chassis.rpc.errors import PREFIX, ApiError
from chassis.rpc.validation import invalid_fields
from eventlog.core.errors import NotReady

#: Marks a call that another replica has passed on: it is answered here or refused, never passed on again.
FORWARDED = "groupbuy-forwarded"
#: Partitions that a part of a list is asked of, by number.
PARTITIONS = "groupbuy-partitions"
_OURS = frozenset({FORWARDED, PARTITIONS})
#: Seconds from one look at whether a call's owner is still the owner to the next.
POLL_INTERVAL_S = 0.25
#: Seconds that the other replica has less than we have, so that its answer still reaches our caller.
HOP_S = 0.02

OPTIONS: tuple[tuple[str, Any], ...] = (
    # A replica that comes back is met at once, not after gRPC's pause of a second and more.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A machine that is gone without a word is noticed; servers of ours allow a ping every ten seconds.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
)
_EOF: Any = vars(grpc.aio)["EOF"]  # unknown to the stubs
_NOT_READY = errors_pb2.ErrorReason.Name(errors_pb2.ERROR_REASON_NOT_READY).removeprefix(PREFIX)
# Said by no servicer of ours: the connection broke, or the process ended.
_BROKEN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    }
)


class Context(Protocol):
    """What is needed of a call's context."""

    def invocation_metadata(self) -> Any:
        """Pairs of name and value that came with the call."""
        ...

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None: there is none."""
        ...


class Channel(Protocol):
    """A channel that is made anew when it has to be; chassis.identity.tls.Dialing is one."""

    def channel(self) -> grpc.aio.Channel:
        """The channel to use for the next call."""
        ...

    async def close(self) -> None:
        """Ends its connections."""
        ...


#: Makes the channel to host:port. All that is forwarded goes through what it makes.
Dial = Callable[[str], Channel]


def dial(settings: SecuritySettings) -> Dial:
    """Channels as the settings of the process have them, to servers with the identity of this process and no other.

    The certificates are read with the first channel.
    """
    made: list[Callable[[str, tls.Options], Channel]] = []

    def to(address: str) -> Channel:
        if not made:
            made.append(tls.replica_dialler(settings))
        return made[0](address, OPTIONS)

    return to


class Peers:
    """The other replicas of one gRPC service, by address. On the event loop only."""

    def __init__(self, service: str, to: Dial) -> None:
        """`service` is the full name of a service."""
        self._service = service
        self._dial = to
        self._channels: dict[str, Channel] = {}
        self._methods = descriptor_pool.Default().FindServiceByName(service).methods_by_name

    async def close(self) -> None:
        """Ends all calls and connections."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()

    async def ask(
        self,
        address: str,
        method: str,
        request: Any,
        context: Context,
        still: Callable[[], bool],
        partitions: Collection[int] | None = None,
    ) -> Any:
        """The answer of another replica. Raises ApiError as it refused, and NotReady where it can't be had there:
        also as soon as `still` says that this replica is not the one to ask any more."""
        call = self._callable(address, method, "unary_unary")
        remaining = context.time_remaining()
        # Also where our caller set no deadline, as on a stream: unary calls need one.
        timeout = max((UNLIMITED_S if remaining is None else remaining) - HOP_S, 0.001)
        asked = asyncio.ensure_future(_answer(call(request, timeout=timeout, metadata=_marks(context, partitions))))
        try:
            while not (await asyncio.wait({asked}, timeout=POLL_INTERVAL_S))[0]:
                if not still():
                    raise NotReady(f"{address} is not the owner any more")
            return asked.result()
        finally:
            asked.cancel()

    async def watch(
        self, address: str, method: str, request: Any, context: Context, still: Callable[[], bool]
    ) -> AsyncGenerator[Any]:
        """What another replica streams. Raises as `ask`.

        Reads no further than its reader has got: the other replica holds back, and sends the newest when it may.
        """
        call = self._callable(address, method, "unary_stream")(request, metadata=_marks(context, None))
        try:
            while True:
                coming = asyncio.ensure_future(_answer(call.read()))
                try:
                    while not (await asyncio.wait({coming}, timeout=POLL_INTERVAL_S))[0]:
                        if not still():
                            raise NotReady(f"{address} is not the owner any more")
                    answer = coming.result()
                finally:
                    coming.cancel()
                if answer is _EOF:
                    return
                yield answer
        finally:
            call.cancel()

    def _callable(self, address: str, method: str, kind: str) -> Any:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._dial(address)
        kinds = self._methods[method]
        return getattr(channel.channel(), kind)(
            f"/{self._service}/{method}",
            request_serializer=_serialised,
            response_deserializer=GetMessageClass(kinds.output_type).FromString,
        )


def forwarded(context: Context) -> bool:
    """Whether another replica has passed this call on."""
    return any(name == FORWARDED for name, _ in context.invocation_metadata() or ())


def passed_on(context: Context) -> bool:
    """Whether a call comes with anything that replicas alone say to each other."""
    return any(name in _OURS for name, _ in context.invocation_metadata() or ())


def asked_partitions(context: Context) -> frozenset[int] | None:
    """Partitions that another replica asks for; None: the call is not such a part. Raises ApiError INVALID_FIELDS."""
    for name, value in context.invocation_metadata() or ():
        if name == PARTITIONS:
            try:
                return frozenset(int(one) for one in value.split(","))
            except ValueError:
                raise invalid_fields([("", f"{PARTITIONS} is not numbers with commas between")]) from None
    return None


def _marks(context: Context, partitions: Collection[int] | None) -> Sequence[tuple[str, str]]:
    marks = [(FORWARDED, "1")]
    if partitions is not None:
        marks.append((PARTITIONS, ",".join(map(str, sorted(partitions)))))
    marks += [(name, value) for name, value in context.invocation_metadata() or () if name == "traceparent"]
    return marks


def _serialised(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


async def _answer(call: Any) -> Any:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise refused(error) from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Not we but the channel was told to end.
        raise NotReady("the connection to another replica was closed") from None


def is_not_ready(status: Status) -> bool:
    """Whether one item of a batch was refused because its partition was not ready there."""
    info = ErrorInfo()
    return any(packed.Unpack(info) and info.reason == _NOT_READY for packed in status.details)


def refused(error: grpc.aio.AioRpcError) -> Exception:
    """What a call that another replica refused is to be refused with; NotReady: it is to be asked for again."""
    code = error.code()
    info, wrong, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for packed in _details(error):
        for known in (info, wrong, retry):
            if packed.Is(known.DESCRIPTOR):
                packed.Unpack(known)
    try:
        reason = errors_pb2.ErrorReason.Value(PREFIX + info.reason)
    except ValueError:
        reason = errors_pb2.ERROR_REASON_UNSPECIFIED
    # UNAUTHENTICATED concerns our certificate, not the caller's: it expired on a connection that is being replaced.
    ours = code is grpc.StatusCode.UNAUTHENTICATED
    if reason == errors_pb2.ERROR_REASON_NOT_READY or ours or (not info.reason and code in _BROKEN):
        return NotReady(f"another replica could not answer: {code.name} {error.details()}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and not info.reason:
        reason = errors_pb2.ERROR_REASON_ANSWER_PENDING
    return ApiError(
        code,
        reason or errors_pb2.ERROR_REASON_INTERNAL,
        error.details() or "another replica gave no reason",
        fields=[(one.field, one.description) for one in wrong.field_violations],
        metadata=dict(info.metadata),
        retry_after_ms=retry.retry_delay.ToMilliseconds(),
    )


def _details(error: grpc.aio.AioRpcError) -> Sequence[Any]:
    trailing: Any = error.trailing_metadata() or ()
    for name, value in trailing:
        if name == "grpc-status-details-bin":
            try:
                return tuple(Status.FromString(value if isinstance(value, bytes) else value.encode()).details)
            except DecodeError:
                return ()
    return ()
