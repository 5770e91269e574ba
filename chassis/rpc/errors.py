"""Errors of the API: google.rpc.Status with ErrorInfo, BadRequest and RetryInfo, as in AIP-193.

Servicers raise ApiError. This module maps every other exception, and sends no text of an unexpected one: the text may
hold anything.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

import grpc
import structlog
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from groupbuy.errors.v1 import errors_pb2
from groupbuy.errors.v1.errors_pb2 import ErrorReason

from chassis.rpc.client_config.retry_policy import longest_pause_s
from chassis.rpc.trace_context import current_trace_id
from eventlog.core.errors import BrokerUnavailable, NotReady

log = structlog.stdlib.get_logger(__name__)

DOMAIN = "groupbuy"
PREFIX = "ERROR_REASON_"
#: Milliseconds after which a caller retries if the state is not ready.
NOT_READY_RETRY_MS = 500
#: Milliseconds for another attempt, and for the rounding of a timeout on its way.
_ATTEMPT_MS = 200
#: Milliseconds after which a caller retries if the broker does not answer.
BROKER_RETRY_MS = 1_000
#: Metadata of gRPC: the attempts before this one, from the client; the delay before the next one, from the server.
PREVIOUS_ATTEMPTS = "grpc-previous-rpc-attempts"
PUSHBACK = "grpc-retry-pushback-ms"
#: In place of a delay: gRPC's own retries stop.
NO_RETRY = "-1"
#: Fields in one error: a status travels in a header of at most 8 KiB, in base64.
MAX_FIELDS = 10
_MAX_TEXT = 200
_MAX_METADATA = 10


class ApiError(Exception):
    """An error that the caller receives.

    `reason` is a value of ErrorReason; `message` is for people. `fields` are pairs of field path and reason; the first
    MAX_FIELDS are kept. `retry_after_ms` above 0 is the delay before a retry.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: errors_pb2.ErrorReason.ValueType,
        message: str,
        *,
        fields: Sequence[tuple[str, str]] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after_ms: int = 0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.fields = tuple(fields[:MAX_FIELDS])
        self.metadata = dict(metadata or {})
        self.retry_after_ms = retry_after_ms

    @property
    def reason_name(self) -> str:
        """The reason as in ErrorInfo: without its prefix."""
        return ErrorReason.Name(self.reason).removeprefix(PREFIX)


def to_api_error(error: Exception, *, method: str = "") -> ApiError:
    """Maps an exception. An unexpected one is logged under the trace id that the caller receives."""
    match error:
        case ApiError():
            return error
        case NotReady():
            problem, delay_ms = "the service is starting or recovering; retry", NOT_READY_RETRY_MS
            return _unavailable(errors_pb2.ERROR_REASON_NOT_READY, problem, delay_ms)
        case BrokerUnavailable():
            problem, delay_ms = "the broker can't be reached; retry the same request", BROKER_RETRY_MS
            return _unavailable(errors_pb2.ERROR_REASON_BROKER_UNAVAILABLE, problem, delay_ms)
    trace = current_trace_id() or uuid.uuid4().hex
    log.error("a call failed", method=method, trace=trace, exc_info=error)
    return ApiError(
        grpc.StatusCode.INTERNAL,
        errors_pb2.ERROR_REASON_INTERNAL,
        f"internal error; the service's log has it under trace {trace}",
        metadata={"trace": trace},
    )


def _unavailable(reason: errors_pb2.ErrorReason.ValueType, problem: str, delay_ms: int) -> ApiError:
    return ApiError(grpc.StatusCode.UNAVAILABLE, reason, problem, retry_after_ms=delay_ms)


def to_status(error: ApiError) -> Status:
    """The error as google.rpc.Status, truncated to fit into a header."""
    code: int = error.code.value[0]
    status = Status(code=code, message=_cut(error.message))
    metadata = {_cut(name): _cut(value) for name, value in list(error.metadata.items())[:_MAX_METADATA]}
    _add(status, ErrorInfo(reason=error.reason_name, domain=DOMAIN, metadata=metadata))
    if error.fields:
        violations = [
            BadRequest.FieldViolation(field=_cut(field), description=_cut(description))
            for field, description in error.fields
        ]
        _add(status, BadRequest(field_violations=violations))
    if error.retry_after_ms:
        delay = Duration()
        delay.FromMilliseconds(error.retry_after_ms)
        _add(status, RetryInfo(retry_delay=delay))
    return status


def trailing_metadata(
    error: ApiError, left_s: float | None = None, previous_attempts: int = 0
) -> tuple[tuple[str, str | bytes], ...]:
    """Trailing metadata of the answer: the rich status, and the delay for gRPC's own retries.

    `left_s` is the time until the caller's deadline. If the delay leaves no time for another attempt, gRPC's retries
    are stopped: they would let the deadline pass, and the caller would not receive the error. UNAVAILABLE has no delay
    for gRPC otherwise: each one would start the back-off of the retry policy anew, and five attempts would be over
    before a service has recovered.
    """
    status = ("grpc-status-details-bin", to_status(error).SerializeToString())
    if not error.retry_after_ms:
        return (status,)
    delay_ms = float(error.retry_after_ms)
    if error.code is grpc.StatusCode.UNAVAILABLE:
        delay_ms = max(delay_ms, longest_pause_s(previous_attempts + 1) * 1_000)
    if not _in_time(delay_ms, left_s):
        return (status, (PUSHBACK, NO_RETRY))
    if error.code is grpc.StatusCode.UNAVAILABLE:
        return (status,)
    return (status, (PUSHBACK, str(error.retry_after_ms)))


class PreparedError:
    """An error that many calls receive, serialised once: that costs more than to send it."""

    __slots__ = ("_final", "_retried", "error")

    def __init__(self, error: ApiError) -> None:
        self.error = error
        self._retried = trailing_metadata(error)
        self._final = trailing_metadata(error, 0.0)

    def trailing_metadata(self, left_s: float | None) -> tuple[tuple[str, str | bytes], ...]:
        """As the function trailing_metadata."""
        return self._retried if _in_time(self.error.retry_after_ms, left_s) else self._final


def _in_time(delay_ms: float, left_s: float | None) -> bool:
    return left_s is None or delay_ms + _ATTEMPT_MS < left_s * 1_000


def _add(status: Status, detail: Message) -> None:
    packed: Any = status.details.add()
    packed.Pack(detail)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"
