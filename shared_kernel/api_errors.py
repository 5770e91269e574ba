"""Errors of the business, with the one status code of each reason, and the errors that several APIs share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from groupbuy.errors.v1 import errors_pb2
from grpc import StatusCode

from chassis.rpc.errors import ApiError

#: Status code by reason, as documented in groupbuy/errors/v1/errors.proto.
STATUS_CODES: Mapping[errors_pb2.ErrorReason.ValueType, StatusCode] = {
    errors_pb2.ERROR_REASON_CAMPAIGN_NOT_FOUND: StatusCode.NOT_FOUND,
    errors_pb2.ERROR_REASON_GROUP_NOT_FOUND: StatusCode.NOT_FOUND,
    errors_pb2.ERROR_REASON_ORDER_NOT_FOUND: StatusCode.NOT_FOUND,
    errors_pb2.ERROR_REASON_PAYMENT_NOT_FOUND: StatusCode.NOT_FOUND,
    errors_pb2.ERROR_REASON_CURRENCY_MISMATCH: StatusCode.INVALID_ARGUMENT,
    errors_pb2.ERROR_REASON_CAMPAIGN_MISMATCH: StatusCode.INVALID_ARGUMENT,
    errors_pb2.ERROR_REASON_REQUEST_ID_REUSED: StatusCode.ALREADY_EXISTS,
    errors_pb2.ERROR_REASON_CAMPAIGN_EXISTS: StatusCode.ALREADY_EXISTS,
    errors_pb2.ERROR_REASON_ORDER_NOT_CANCELLABLE: StatusCode.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_ANSWER_PENDING: StatusCode.DEADLINE_EXCEEDED,
    errors_pb2.ERROR_REASON_PAYMENT_STATE: StatusCode.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_BAD_SIGNATURE: StatusCode.PERMISSION_DENIED,
    errors_pb2.ERROR_REASON_ETAG_MISMATCH: StatusCode.ABORTED,
    errors_pb2.ERROR_REASON_CAMPAIGN_ARCHIVED: StatusCode.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_GROUP_NOT_CANCELLABLE: StatusCode.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_STOCK_NOT_FOUND: StatusCode.NOT_FOUND,
    errors_pb2.ERROR_REASON_STOCK_EXISTS: StatusCode.ALREADY_EXISTS,
    errors_pb2.ERROR_REASON_STOCK_BELOW_OUT: StatusCode.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_STOCK_ARCHIVED: StatusCode.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_SOLD_OUT: StatusCode.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_LINK_MALFORMED: StatusCode.INVALID_ARGUMENT,
    errors_pb2.ERROR_REASON_LINK_KEY_UNKNOWN: StatusCode.PERMISSION_DENIED,
    errors_pb2.ERROR_REASON_LINK_SIGNATURE: StatusCode.PERMISSION_DENIED,
    errors_pb2.ERROR_REASON_LINK_EXPIRED: StatusCode.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_LINK_WRONG_CAMPAIGN: StatusCode.INVALID_ARGUMENT,
    errors_pb2.ERROR_REASON_LINK_WRONG_GROUP: StatusCode.INVALID_ARGUMENT,
    errors_pb2.ERROR_REASON_LINKS_NOT_SET_UP: StatusCode.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_VERSION_MISMATCH: StatusCode.ABORTED,
    errors_pb2.ERROR_REASON_REPAIR_REFUSED: StatusCode.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_SECOND_OPERATOR_REQUIRED: StatusCode.PERMISSION_DENIED,
}


def api_error(
    reason: errors_pb2.ErrorReason.ValueType, message: str, fields: Sequence[tuple[str, str]] = (), /, **metadata: str
) -> ApiError:
    """The error for a reason. See ApiError."""
    return ApiError(STATUS_CODES[reason], reason, message, fields=fields, metadata=metadata)


def field_error(reason: errors_pb2.ErrorReason.ValueType, field: str, problem: str) -> ApiError:
    """The error for one field of the request."""
    return api_error(reason, f"{field}: {problem}", [(field, problem)])


def campaign_not_found(campaign: str) -> ApiError:
    """The campaigns' topic, read to its end, has no such campaign."""
    name = f"campaigns/{campaign}"
    return api_error(errors_pb2.ERROR_REASON_CAMPAIGN_NOT_FOUND, f"campaign not found: {name}", campaign=name)


def group_not_found(group: str) -> ApiError:
    """The group was not opened."""
    name = f"groups/{group}"
    return api_error(errors_pb2.ERROR_REASON_GROUP_NOT_FOUND, f"group not found: {name}", group=name)
