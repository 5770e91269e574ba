"""Exceptions of failed calls: one class for each way in which a caller can react.

An error carries the service's reason, the invalid fields and the delay before a retry, if the service sent them. Its
`__cause__` is the gRPC error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

_DETAILS = "grpc-status-details-bin"


class GroupbuyError(Exception):
    """A call failed.

    `reason` is a name of groupbuy.errors.v1.ErrorReason without its prefix, or empty if no service answered. `fields`
    maps the paths of invalid fields to descriptions. `retry_after_s` is the delay before a retry, or 0 if unknown.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        fields: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float = 0.0,
    ) -> None:
        super().__init__(f"{reason or code.name}: {message}")
        self.code = code
        self.message = message
        self.reason = reason
        self.fields = dict(fields or {})
        self.metadata = dict(metadata or {})
        self.retry_after_s = retry_after_s


class InvalidRequest(GroupbuyError):
    """The request is invalid, and a retry fails too; see `fields`."""


class NotFound(GroupbuyError):
    """The resource does not exist."""


class AlreadyExists(GroupbuyError):
    """The id is in use: a request id with another payload, or the id of another campaign."""


class FailedPrecondition(GroupbuyError):
    """The state forbids the call: the group has closed, the link has expired, or the campaign is archived."""


class Conflict(GroupbuyError):
    """Another write came first: read the resource again, then repeat the write."""


class NotAllowed(GroupbuyError):
    """The caller is not authenticated, or its role does not allow the call."""


class Overloaded(GroupbuyError):
    """The service is at capacity; retry after `retry_after_s`."""


class Unavailable(GroupbuyError):
    """The service or its broker is unreachable or recovering. A retry of the same request is safe."""


class TimedOut(GroupbuyError):
    """The deadline passed. The service may have done the request; a retry with the same request id is safe."""


class ServiceFailed(GroupbuyError):
    """The service has a defect. Its log has the error under the trace id in `metadata["trace"]`."""


_BY_CODE: Mapping[grpc.StatusCode, type[GroupbuyError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.PERMISSION_DENIED: NotAllowed,
    grpc.StatusCode.UNAUTHENTICATED: NotAllowed,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    # A flooded server drops calls with CANCELLED. The caller's own cancellation does not come here.
    grpc.StatusCode.CANCELLED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
    grpc.StatusCode.INTERNAL: ServiceFailed,
    grpc.StatusCode.UNKNOWN: ServiceFailed,
    grpc.StatusCode.DATA_LOSS: ServiceFailed,
}
#: Delay before the retry of a dropped call, for which the server names none.
_DROPPED_RETRY_MS = 500
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def of_rpc(error: Any) -> GroupbuyError:
    """Converts a grpc.RpcError, synchronous or asynchronous. The result has it as its cause."""
    details: Iterable[Any] = ()
    for name, value in error.trailing_metadata() or ():
        if name == _DETAILS:
            # A proxy may have written details of its own.
            with suppress(DecodeError):
                details = Status.FromString(value).details
            break
    converted = _build(error.code() or grpc.StatusCode.UNKNOWN, error.details() or "", details)
    converted.__cause__ = error
    return converted


def of_status(status: Status) -> GroupbuyError:
    """Converts the status of one item of a batch."""
    return _build(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message, status.details)


def _build(code: grpc.StatusCode, message: str, details: Iterable[Any]) -> GroupbuyError:
    info, invalid, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for packed in details:
        for detail in (info, invalid, retry):
            if packed.Is(detail.DESCRIPTOR):
                packed.Unpack(detail)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and not info.reason:
        # gRPC's own error: the service may not even have been reached.
        message = "no answer before the deadline; the service may be unreachable"
    if code is grpc.StatusCode.CANCELLED and not retry.HasField("retry_delay"):
        retry.retry_delay.FromMilliseconds(_DROPPED_RETRY_MS)
    return _BY_CODE.get(code, GroupbuyError)(
        code,
        message,
        reason=info.reason,
        fields={violation.field: violation.description for violation in invalid.field_violations},
        metadata=dict(info.metadata),
        retry_after_s=retry.retry_delay.ToMilliseconds() / 1_000,
    )
