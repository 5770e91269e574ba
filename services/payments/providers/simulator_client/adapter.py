"""The adapter to the simulated provider, over gRPC.

That provider honours keys for ever, so a call is simply sent again until its result is known (see resolve.py), and
ABSENT is never reported. It must never turn an error into a result unless the provider said that nothing was done.
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

from chassis.identity.tls import Dialing, Files
from services.payments.providers.circuit_breaker import Breaker, State
from services.payments.providers.port import (
    KeyTaken,
    NotPossibleNow,
    ProviderError,
    ResultUnknown,
    idempotency_key,
    outcome_of,
)
from services.payments.providers.resolve import Limits, resolve
from services.payments.providers.simulator_client.call_stream import DETAILS, CallStream

CHANNEL_OPTIONS = (
    # A provider that went away without a word is noticed; one that comes back is found within a second.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Tries are counted in resolve.py alone.
    ("grpc.enable_retries", 0),
)

#: After these the call may have taken effect, or may be taken a moment later.
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


class SimulatedProvider:
    """The simulated provider at `target`, host:port; with `files`, over mutual TLS, and only where the server has the
    SPIFFE id `expect`. Belongs to the event loop of its first call."""

    name = "simulated"

    def __init__(
        self,
        target: str,
        limits: Limits | None = None,
        breaker: Breaker | None = None,
        files: Files | None = None,
        expect: str = "",
    ) -> None:
        self._limits = limits or Limits()
        self._breaker = breaker or Breaker(self.name)
        self._dialing = Dialing(target, files, expect, CHANNEL_OPTIONS)
        self._channel: grpc.aio.Channel | None = None
        self._stub: pb_grpc.SimProviderServiceAsyncStub | None = None
        self._calls: CallStream | None = None

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        """Makes a call and says what came of it. See Provider."""
        stub, calls = self._connected()
        kind, request = _request(call, group)

        async def send(timeout_s: float) -> ProviderOutcome:
            try:
                result = await calls.call(timeout_s, **{kind: request})
            except grpc.aio.AioRpcError as error:
                return _refused(call, error)
            return _outcome(call, result, OUTCOME_ORIGIN_CALL)

        async def look_up(timeout_s: float) -> ProviderOutcome | None:
            try:
                result = await stub.LookUp(pb.LookUpRequest(key=request.key), timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:
                    return None
                raise _raised(error) from error
            return _outcome(call, result, OUTCOME_ORIGIN_LOOKUP)

        return await resolve(call, send, look_up, self._limits, self._breaker)

    @property
    def well(self) -> bool:
        """Whether it is asked at present."""
        return self._breaker.state is State.CLOSED

    async def close(self) -> None:
        """Ends the connection. Calls under way are cut off."""
        if self._calls is not None:
            await self._calls.close()
        await self._dialing.close()

    def _connected(self) -> tuple[pb_grpc.SimProviderServiceAsyncStub, CallStream]:
        # A channel belongs to the loop it is made on, and whoever wires a process may have none yet.
        channel = self._dialing.channel()
        if self._stub is None or self._calls is None or channel is not self._channel:
            self._channel = channel
            self._stub = pb_grpc.SimProviderServiceStub(channel)
            # Calls on a stream before it end there, or are cut off with its channel and made again.
            self._calls = CallStream(self._stub)
        return self._stub, self._calls


def _request(call: ProviderCall, group: str) -> tuple[str, Any]:
    """The field of a Call that says what to do, and its value. Raises ValueError for an unknown operation."""
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
            )
        case decisions.OPERATION_CAPTURE:
            return "capture", pb.CaptureRequest(key=key, hold=call.hold, amount_minor=amount_minor)
        case decisions.OPERATION_VOID:
            return "void", pb.VoidRequest(key=key, hold=call.hold)
        case decisions.OPERATION_REFUND:
            return "refund", pb.RefundRequest(key=key, hold=call.hold, amount_minor=amount_minor)
    raise ValueError(f"{key}: unknown operation")


def _outcome(call: ProviderCall, result: pb.CallResult, origin: OutcomeOrigin.ValueType) -> ProviderOutcome:
    """What the provider's answer says. Raises NotPossibleNow for a status that this adapter doesn't know."""
    outcome = outcome_of(call, origin)
    tell(outcome, result)
    return outcome


def tell(outcome: ProviderOutcome, result: pb.CallResult) -> None:
    """Puts what the provider says into an outcome. Raises NotPossibleNow for a status that is not known here."""
    match result.status:
        case pb.STATUS_AUTHORISED:
            outcome.authorised.hold = result.hold
            outcome.authorised.amount_minor = result.amount_minor
            outcome.authorised.currency = result.currency
            outcome.authorised.capturable_until_ms = result.capturable_until_ms
        case pb.STATUS_ACTION_REQUIRED:
            outcome.action_required.hold = result.hold
            outcome.action_required.action_url = result.action_url
        case pb.STATUS_DECLINED:
            outcome.declined.reason = result.reason
        case pb.STATUS_CAPTURED:
            outcome.captured.hold = result.hold
            outcome.captured.amount_minor = result.amount_minor
        case pb.STATUS_VOIDED:
            outcome.voided.hold = result.hold
        case pb.STATUS_REFUNDED:
            outcome.refunded.hold = result.hold
            outcome.refunded.amount_minor = result.amount_minor
        case pb.STATUS_HOLD_GONE:
            outcome.hold_gone.hold = result.hold
        case _:
            raise NotPossibleNow(f"the provider answered with status {result.status}, which is not known here")


def _refused(call: ProviderCall, error: grpc.aio.AioRpcError) -> ProviderOutcome:
    """DECLINED where the provider says that it did nothing and never will for this call; else raises ProviderError."""
    failed = _raised(error)
    # No such hold. An authorisation names none, so there it would come from something else on the way.
    no_hold = error.code() == grpc.StatusCode.NOT_FOUND and bool(call.hold)
    final = no_hold or error.code() == grpc.StatusCode.INVALID_ARGUMENT
    if isinstance(failed, KeyTaken) or not final:
        raise failed from error
    outcome = outcome_of(call, OUTCOME_ORIGIN_CALL)
    outcome.declined.reason = error.details() or error.code().name
    return outcome


def _raised(error: grpc.aio.AioRpcError) -> ProviderError:
    text = f"{error.code().name}: {error.details()}"
    if error.code() in UNKNOWN_AFTER:
        return ResultUnknown(text)
    return KeyTaken(text) if _reason(error) == KEY_REUSED else NotPossibleNow(text)


def _reason(error: grpc.aio.AioRpcError) -> str:
    """The reason of the error's ErrorInfo; empty without one that can be read."""
    packed: Any = next((value for name, value in tuple[Any, ...](error.trailing_metadata()) if name == DETAILS), b"")
    info = error_details_pb2.ErrorInfo()
    try:
        details = status_pb2.Status.FromString(packed).details
        return str(info.reason) if any(detail.Unpack(info) for detail in details) else ""
    except DecodeError:
        return ""
