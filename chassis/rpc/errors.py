"""What an API call is answered when it is refused: google.rpc.Status with ErrorInfo, BadRequest and RetryInfo.

Servicers raise ApiError; everything else that they let out is mapped here, in one place. Must never let the text of an
unexpected exception out of the process: it may hold anything.

AIP-193 (errors) has the shape.
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

from eventlog.core.errors import BrokerUnavailable, NotReady

log = structlog.stdlib.get_logger(__name__)

DOMAIN = "groupbuy"
PREFIX = "ERROR_REASON_"
#: Milliseconds after which to call again when state is not ready to be read.
NOT_READY_RETRY_MS = 500
#: Milliseconds that another attempt needs at least, and by which a timeout may have been rounded on its way.
_ATTEMPT_MS = 200
#: Milliseconds after which to call again when the broker does not answer.
BROKER_RETRY_MS = 1_000
#: In the place of a delay: gRPC's own retries are not to call again.
NO_RETRY = "-1"
#: Fields that one error names at most: a status travels in a header of 8 KiB at most, in base64.
MAX_FIELDS = 10
_MOST_TEXT = 200
_MOST_METADATA = 10


class ApiError(Exception):
    """A call is refused, and the caller is told why.

    `reason` is a value of ErrorReason; `message` is for people. `fields` are pairs of field path and what is wrong
    there; the first MOST_FIELDS are kept. `retry_after_ms` above 0 says when to call again.
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
        """The reason as ErrorInfo has it: without its prefix."""
        return ErrorReason.Name(self.reason).removeprefix(PREFIX)


def to_api_error(error: Exception, *, method: str = "", traceparent: str = "") -> ApiError:
    """What an exception means to the caller. One that nobody foresaw is logged, under the trace the caller is given."""
    match error:
        case ApiError():
            return error
        case NotReady():
            return ApiError(
                grpc.StatusCode.UNAVAILABLE,
                errors_pb2.ERROR_REASON_NOT_READY,
                "the service is starting or recovering; call again",
                retry_after_ms=NOT_READY_RETRY_MS,
            )
        case BrokerUnavailable():
            return ApiError(
                grpc.StatusCode.UNAVAILABLE,
                errors_pb2.ERROR_REASON_BROKER_UNAVAILABLE,
                "the broker can't be reached; send the same request again",
                retry_after_ms=BROKER_RETRY_MS,
            )
    trace = _trace_id(traceparent)
    log.error("a call failed", method=method, trace=trace, exc_info=error)
    return ApiError(
        grpc.StatusCode.INTERNAL,
        errors_pb2.ERROR_REASON_INTERNAL,
        f"internal error; the service's log has it under trace {trace}",
        metadata={"trace": trace},
    )


def to_status(error: ApiError) -> Status:
    """The error as google.rpc.Status, cut to what fits into a header."""
    code: int = error.code.value[0]
    status = Status(code=code, message=_cut(error.message))
    metadata = {_cut(name): _cut(value) for name, value in list(error.metadata.items())[:_MOST_METADATA]}
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


def trailing_metadata(error: ApiError, left_s: float | None = None) -> tuple[tuple[str, str | bytes], ...]:
    """Trailing metadata of the answer: the rich status, and the delay in the form that gRPC's own retries obey.

    `left_s` is the time until the caller's deadline. Where the delay leaves no time for another attempt, gRPC's retries
    are told not to try: they would let the deadline pass, and the caller would not learn what was the matter.
    """
    status = ("grpc-status-details-bin", to_status(error).SerializeToString())
    if error.retry_after_ms:
        again = str(error.retry_after_ms) if _in_time(error, left_s) else NO_RETRY
        return (status, ("grpc-retry-pushback-ms", again))
    return (status,)


class Prepared:
    """A refusal that is the same for many calls: made once, as making it costs more than sending it."""

    __slots__ = ("_again", "_never", "error")

    def __init__(self, error: ApiError) -> None:
        self.error = error
        self._again = trailing_metadata(error)
        self._never = trailing_metadata(error, 0.0)

    def trailing_metadata(self, left_s: float | None) -> tuple[tuple[str, str | bytes], ...]:
        """As trailing_metadata of its error."""
        return self._again if _in_time(self.error, left_s) else self._never


def _in_time(error: ApiError, left_s: float | None) -> bool:
    return left_s is None or error.retry_after_ms + _ATTEMPT_MS < left_s * 1_000


def _add(status: Status, detail: Message) -> None:
    packed: Any = status.details.add()
    packed.Pack(detail)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 1]}…"


def _trace_id(traceparent: str) -> str:
    """The trace id of a W3C traceparent, or a fresh one."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else uuid.uuid4().hex
