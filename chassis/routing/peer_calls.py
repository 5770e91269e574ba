"""Calls from one replica of a service to another: the same method, marked as forwarded.

The answer or error of the other replica is passed on unchanged. A call makes at most one hop, and nothing is retried
here.
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
from chassis.rpc.caller import current_identity
from chassis.rpc.client_config import channel_options
from chassis.rpc.errors import PREFIX, ApiError
from chassis.rpc.streaming.call_deadline import UNLIMITED_S
from chassis.rpc.validation import invalid_field
from eventlog.core.errors import NotReady

#: Metadata of a call that another replica forwarded. It is answered here or refused, and not forwarded again.
FORWARDED = "groupbuy-forwarded"
#: Metadata with the partitions, by number, of a part of a list.
PARTITIONS = "groupbuy-partitions"
#: Metadata with the name of the identity for which a replica forwards. Without encryption, where every caller is
#: `local`, any caller may name itself.
CALLER = "groupbuy-caller"
MAX_CALLER = 100
_PEER_METADATA = frozenset({FORWARDED, PARTITIONS, CALLER})
#: Seconds between two checks that the replica is still the owner.
POLL_INTERVAL_S = 0.25
#: Seconds by which the other replica's deadline is shorter, so that its answer still reaches our caller.
HOP_MARGIN_S = 0.02

OPTIONS = (*channel_options.options(retries=False), ("grpc.max_receive_message_length", -1))
#: The end of a stream, as grpc.aio returns it; not in the stubs.
_EOF: Any = vars(grpc.aio)["EOF"]
_NOT_READY = errors_pb2.ErrorReason.Name(errors_pb2.ERROR_REASON_NOT_READY).removeprefix(PREFIX)
# Without an ErrorInfo of ours these mean that the connection broke or the process ended.
_BROKEN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
    }
)


class Context(Protocol):
    """The part of a call's context that forwarding needs."""

    def invocation_metadata(self) -> Any:
        """The call's metadata, pairs of name and value."""
        ...

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None without one."""
        ...


class Channel(Protocol):
    """A channel that may be replaced; chassis.identity.tls.RotatingChannel implements it."""

    def channel(self) -> grpc.aio.Channel:
        """The channel for the next call."""
        ...

    async def close(self) -> None:
        """Closes the connections."""
        ...


#: Opens the channel to host:port.
ChannelFactory = Callable[[str], Channel]


def channel_factory(settings: SecuritySettings) -> ChannelFactory:
    """Opens channels by the process's settings, to servers with this process's own identity only.

    The certificates are read with the first channel.
    """
    made: list[Callable[[str, tls.Options], Channel]] = []

    def open_channel(address: str) -> Channel:
        if not made:
            made.append(tls.replica_channels(settings))
        return made[0](address, OPTIONS)

    return open_channel


class PeerClient:
    """Calls the other replicas of one gRPC service, by address. Used on the event loop only."""

    def __init__(self, service: str, channels: ChannelFactory) -> None:
        """`service` is the full name of a service."""
        self._service = service
        self._open_channel = channels
        self._channels: dict[str, Channel] = {}
        self._methods = descriptor_pool.Default().FindServiceByName(service).methods_by_name

    async def close(self) -> None:
        """Cancels all calls and closes the connections."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()

    async def call(
        self,
        address: str,
        method: str,
        request: Any,
        context: Context,
        still: Callable[[], bool],
        partitions: Collection[int] | None = None,
    ) -> Any:
        """Returns the answer of another replica. Raises ApiError as the replica does.

        Raises NotReady if the replica can't answer, or once `still` returns False: it is no longer the owner.
        """
        call = self._callable(address, method, "unary_unary")
        remaining = context.time_remaining()
        # Unary calls need a deadline; a caller with a stream may have none.
        timeout = max((UNLIMITED_S if remaining is None else remaining) - HOP_MARGIN_S, 0.001)
        answer = asyncio.ensure_future(
            _answer(call(request, timeout=timeout, metadata=_forwarding_metadata(context, partitions)))
        )
        try:
            return await _result_while(answer, address, still)
        finally:
            answer.cancel()

    async def watch(
        self, address: str, method: str, request: Any, context: Context, still: Callable[[], bool]
    ) -> AsyncGenerator[Any]:
        """The stream of another replica. Raises as `call`.

        Reads no further than its own reader, so that back-pressure reaches the other replica, which then sends the
        newest state.
        """
        metadata = _forwarding_metadata(context, None)
        call = self._callable(address, method, "unary_stream")(request, metadata=metadata)
        try:
            while True:
                reading = asyncio.ensure_future(_answer(call.read()))
                try:
                    answer = await _result_while(reading, address, still)
                finally:
                    reading.cancel()
                if answer is _EOF:
                    return
                yield answer
        finally:
            call.cancel()

    def _callable(self, address: str, method: str, kind: str) -> Any:
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._open_channel(address)
        output_type = self._methods[method].output_type
        return getattr(channel.channel(), kind)(
            f"/{self._service}/{method}",
            request_serializer=_serialised,
            response_deserializer=GetMessageClass(output_type).FromString,
        )


def forwarded(context: Context) -> bool:
    """Whether another replica forwarded this call."""
    return any(name == FORWARDED for name, _ in context.invocation_metadata() or ())


def has_peer_metadata(context: Context) -> bool:
    """Whether a call has metadata that only replicas send to each other."""
    return any(name in _PEER_METADATA for name, _ in context.invocation_metadata() or ())


def caller_of(context: Context) -> str:
    """Name of the identity that made the call, also if a replica forwarded it; empty if it named none.

    The authorizer refuses the metadata from everybody but this service's replicas, except without encryption.
    """
    if identity := current_identity():
        return identity
    return next((value[:MAX_CALLER] for name, value in context.invocation_metadata() or () if name == CALLER), "")


def requested_partitions(context: Context) -> frozenset[int] | None:
    """The partitions that another replica requests; None for all. Raises ApiError INVALID_FIELDS."""
    for name, value in context.invocation_metadata() or ():
        if name == PARTITIONS:
            try:
                return frozenset(int(one) for one in value.split(","))
            except ValueError:
                raise invalid_field("", f"{PARTITIONS} is no comma-separated list of numbers") from None
    return None


def _forwarding_metadata(context: Context, partitions: Collection[int] | None) -> Sequence[tuple[str, str]]:
    metadata = [(FORWARDED, "1")]
    if partitions is not None:
        metadata.append((PARTITIONS, ",".join(map(str, sorted(partitions)))))
    if caller := caller_of(context):
        metadata.append((CALLER, caller))
    metadata += [(name, value) for name, value in context.invocation_metadata() or () if name == "traceparent"]
    return metadata


def _serialised(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


async def _result_while(future: asyncio.Future[Any], address: str, still: Callable[[], bool]) -> Any:
    """The future's result. Raises NotReady once `still` returns False."""
    while not (await asyncio.wait({future}, timeout=POLL_INTERVAL_S))[0]:
        if not still():
            raise NotReady(f"{address} is no longer the owner")
    return future.result()


async def _answer(call: Any) -> Any:
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise to_exception(error) from error
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # The channel was closed; this task was not cancelled.
        raise NotReady("the connection to another replica was closed") from None


def is_not_ready(status: Status) -> bool:
    """Whether an item of a batch failed because its partition was not ready."""
    info = ErrorInfo()
    return any(packed.Unpack(info) and info.reason == _NOT_READY for packed in status.details)


def to_exception(error: grpc.aio.AioRpcError) -> Exception:
    """Maps the error of another replica: NotReady if the call is to be retried, else ApiError."""
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
    # UNAUTHENTICATED is about our certificate, not the caller's: it expired on a channel that is being replaced.
    ours = code is grpc.StatusCode.UNAUTHENTICATED
    if reason == errors_pb2.ERROR_REASON_NOT_READY or ours or (not info.reason and code in _BROKEN):
        return NotReady(f"another replica failed to answer: {code.name} {error.details()}")
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
