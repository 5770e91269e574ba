"""What a call can end with, as exceptions: one class for each way in which a caller goes on.

Every error carries the service's reason, the fields that are wrong, and after what time to call again, where the
service said so. Must never lose the original gRPC error: it is the cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

_DETAILS = "grpc-status-details-bin"


class GroupbuyError(Exception):
    """A call did not succeed.

    `reason` is a name of groupbuy.errors.v1.ErrorReason without its prefix, empty where no service of ours answered.
    `fields` maps paths of wrong fields to what is wrong; `retry_after_s` above 0 says when to call again.
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
    """The request is wrong and stays wrong: see `fields`."""


class NotFound(GroupbuyError):
    """There is no such thing."""


class AlreadyExists(GroupbuyError):
    """The id stands for something else: a request id with another payload, or a campaign's id."""


class FailedPrecondition(GroupbuyError):
    """Not as things are now: the group has closed, the link has expired, the campaign is archived."""


class Conflict(GroupbuyError):
    """Somebody else was quicker: read again, then write again."""


class NotAllowed(GroupbuyError):
    """The caller is not known, or may not do this."""


class Overloaded(GroupbuyError):
    """Too many calls; call again after `retry_after_s`."""


class Unavailable(GroupbuyError):
    """The service, or its broker, can't be reached or is recovering; calling again with the same request is safe."""


class TimedOut(GroupbuyError):
    """No answer by the deadline. What was asked may have happened: the same request id asks again safely."""


class ServiceFailed(GroupbuyError):
    """A defect of the service; its log has it under `metadata["trace"]`."""


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
    # Not by the caller, who hears of that otherwise: so are calls dropped where to refuse them would take all the time.
    grpc.StatusCode.CANCELLED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOut,
    grpc.StatusCode.INTERNAL: ServiceFailed,
    grpc.StatusCode.UNKNOWN: ServiceFailed,
    grpc.StatusCode.DATA_LOSS: ServiceFailed,
}
#: Milliseconds after which to call again when a call was dropped, which tells none.
_DROPPED_RETRY_MS = 500
_CODES = {code.value[0]: code for code in grpc.StatusCode}


def of_rpc(error: Any) -> GroupbuyError:
    """What a grpc.RpcError, sync or async, means."""
    code = error.code() or grpc.StatusCode.UNKNOWN
    for name, value in error.trailing_metadata() or ():
        if name == _DETAILS:
            try:
                return _made(code, error.details() or "", Status.FromString(value).details)
            except DecodeError:
                # Details of somebody in between, not of a service of ours.
                break
    return _made(code, error.details() or "", ())


def of_status(status: Status) -> GroupbuyError:
    """What the status of one item of a batch means."""
    return _made(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message, status.details)


def _made(code: grpc.StatusCode, message: str, details: Iterable[Any]) -> GroupbuyError:
    info, wrong, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for packed in details:
        for known in (info, wrong, retry):
            if packed.Is(known.DESCRIPTOR):
                packed.Unpack(known)
    if code is grpc.StatusCode.CANCELLED and not retry.HasField("retry_delay"):
        retry.retry_delay.FromMilliseconds(_DROPPED_RETRY_MS)
    return _BY_CODE.get(code, GroupbuyError)(
        code,
        message,
        reason=info.reason,
        fields={one.field: one.description for one in wrong.field_violations},
        metadata=dict(info.metadata),
        retry_after_s=retry.retry_delay.ToMilliseconds() / 1_000,
    )
