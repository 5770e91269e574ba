"""Adapter to the simulated provider, over gRPC.

The simulated provider honours idempotency keys for ever, so a call is sent again until its result is known, and ABSENT
is not reported. An error becomes a result only if the provider reports that it did nothing.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped, unused-ignore]
from groupbuy.payments.v1 import decisions_pb2 as decisions
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import (
    OUTCOME_ORIGIN_CALL,
    OUTCOME_ORIGIN_LOOKUP,
    OutcomeOrigin,
    ProviderOutcome,
)
from groupbuy.simprovider.v1 import simprovider_pb2 as pb
from groupbuy.simprovider.v1 import simprovider_pb2_grpc as pb_grpc

from chassis.identity.tls import CertificateFiles, RotatingChannel
from chassis.outside.call_errors import CallError, KeyReused, NotPossibleNow, ResultUnknown
from chassis.outside.circuit_breaker import CircuitBreaker
from chassis.outside.resolve import RetryPolicy
from services.payments.providers.port import ResolvingProvider, idempotency_key, outcome_of
from services.payments.providers.simulator_client.call_stream import DETAILS, CallStream
from services.payments.providers.simulator_client.mapping import set_result

# Not those of chassis/rpc/client_config/channel_options.py: a provider is somebody else's server, with pings and limits
# of its own.
CHANNEL_OPTIONS = (
    # Detect a provider that vanished without closing the connection, and reconnect within a second of its return.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # chassis.outside.resolve alone counts attempts.
    ("grpc.enable_retries", 0),
)

#: Codes after which the call may have taken effect, or may still take effect.
UNKNOWN_AFTER = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"


class SimulatedProvider(ResolvingProvider):
    """The simulated provider at `target`, host:port. Bound to the event loop of its first call.

    With `files` the connection uses mutual TLS, and the server has to have the SPIFFE id `expect`.
    """

    name = "simulated"

    def __init__(
        self,
        target: str,
        policy: RetryPolicy | None = None,
        breaker: CircuitBreaker | None = None,
        files: CertificateFiles | None = None,
        expect: str = "",
        environment: str = "",
    ) -> None:
        """`environment`: id of this deployment."""
        super().__init__(policy, breaker)
        self._environment = environment
        self._dialing = RotatingChannel(target, files, expect, CHANNEL_OPTIONS)
        self._channel: grpc.aio.Channel | None = None
        self._stub: pb_grpc.SimProviderServiceAsyncStub | None = None
        self._calls: CallStream | None = None

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        """Makes a call and returns its outcome. See Provider."""
        stub, calls = self._connected()
        if call.operation == decisions.OPERATION_CHECK:
            return await self._check(call, stub)
        kind, request = _request(call, group, self._environment)

        async def send(timeout_s: float) -> ProviderOutcome:
            try:
                result = await calls.call(timeout_s, **{kind: request})
            except grpc.aio.AioRpcError as error:
                return _declined_or_raise(call, error)
            return _outcome(call, result, OUTCOME_ORIGIN_CALL)

        async def look_up(timeout_s: float) -> ProviderOutcome | None:
            try:
                result = await stub.LookUp(pb.LookUpRequest(key=request.key), timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:
                    return None
                raise _call_error(error) from error
            return _outcome(call, result, OUTCOME_ORIGIN_LOOKUP)

        return await self.resolve(call, send, look_up)

    async def _check(self, call: ProviderCall, stub: pb_grpc.SimProviderServiceAsyncStub) -> ProviderOutcome:
        """The state of a hold. A look-up has no effect, so it may be sent as often as needed."""
        request = pb.LookUpRequest(key=idempotency_key(call), hold=call.hold)

        async def look_up(timeout_s: float) -> ProviderOutcome:
            try:
                result = await stub.LookUp(request, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                raise _call_error(error) from error
            return _outcome(call, result, OUTCOME_ORIGIN_LOOKUP)

        return await self.resolve(call, look_up, look_up)

    async def close(self) -> None:
        """Closes the connection. Calls in flight are cut off."""
        if self._calls is not None:
            await self._calls.close()
        await self._dialing.close()

    def _connected(self) -> tuple[pb_grpc.SimProviderServiceAsyncStub, CallStream]:
        # A channel is bound to the event loop it is made on, and the process may be wired before a loop runs.
        channel = self._dialing.channel()
        if self._stub is None or self._calls is None or channel is not self._channel:
            self._channel = channel
            self._stub = pb_grpc.SimProviderServiceStub(channel)
            # Calls on the previous stream end there, or are cut off with its channel and retried.
            self._calls = CallStream(self._stub)
        return self._stub, self._calls


def _request(call: ProviderCall, group: str, environment: str) -> tuple[str, Any]:
    """The field of a Call to set, and its value. Raises ValueError for an unknown operation."""
    key, amount_minor = idempotency_key(call), call.amount_minor
    match call.operation:
        case decisions.OPERATION_AUTHORISE | decisions.OPERATION_SALE:
            return "authorise", pb.AuthoriseRequest(
                key=key,
                order=call.order,
                group=group,
                payment_method=call.payment_method,
                amount_minor=amount_minor,
                currency=call.currency,
                sale=call.operation == decisions.OPERATION_SALE,
                environment=environment,
            )
        case decisions.OPERATION_CAPTURE:
            return "capture", pb.CaptureRequest(key=key, hold=call.hold, amount_minor=amount_minor)
        case decisions.OPERATION_VOID:
            return "void", pb.VoidRequest(key=key, hold=call.hold)
        case decisions.OPERATION_REFUND:
            return "refund", pb.RefundRequest(key=key, hold=call.hold, amount_minor=amount_minor)
    raise ValueError(f"{key}: unknown operation")


def _outcome(call: ProviderCall, result: pb.CallResult, origin: OutcomeOrigin.ValueType) -> ProviderOutcome:
    """Outcome with a result. Raises NotPossibleNow for an unknown status."""
    outcome = outcome_of(call, origin)
    set_result(outcome, result)
    return outcome


def _declined_or_raise(call: ProviderCall, error: grpc.aio.AioRpcError) -> ProviderOutcome:
    """DECLINED if the provider did nothing and never will for this call; otherwise raises CallError."""
    failed = _call_error(error)
    # NOT_FOUND is no decline: a hold that we know of is missing only in another account.
    if isinstance(failed, KeyReused) or error.code() != grpc.StatusCode.INVALID_ARGUMENT:
        raise failed from error
    outcome = outcome_of(call, OUTCOME_ORIGIN_CALL)
    outcome.declined.reason = error.details() or error.code().name
    return outcome


def _call_error(error: grpc.aio.AioRpcError) -> CallError:
    text = f"{error.code().name}: {error.details()}"
    if error.code() in UNKNOWN_AFTER:
        return ResultUnknown(text)
    return KeyReused(text) if _reason(error) == KEY_REUSED else NotPossibleNow(text)


def _reason(error: grpc.aio.AioRpcError) -> str:
    """The reason in the error's ErrorInfo; empty if there is none or it is malformed."""
    packed: Any = next((value for name, value in tuple[Any, ...](error.trailing_metadata()) if name == DETAILS), b"")
    info = error_details_pb2.ErrorInfo()
    try:
        details = status_pb2.Status.FromString(packed).details
        return str(info.reason) if any(detail.Unpack(info) for detail in details) else ""
    except DecodeError:
        return ""
