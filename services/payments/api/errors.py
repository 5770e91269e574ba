"""Errors of the payments API. Their texts repeat no payment method and no request body."""

from __future__ import annotations

import grpc
from groupbuy.errors.v1 import errors_pb2

from chassis.rpc.errors import ApiError


def payment_not_found(name: str) -> ApiError:
    """No money was requested for this order."""
    return ApiError(
        grpc.StatusCode.NOT_FOUND,
        errors_pb2.ERROR_REASON_PAYMENT_NOT_FOUND,
        f"{name} does not exist: no money was requested",
        metadata={"payment": name},
    )


def group_not_found(group: str) -> ApiError:
    """No money was requested in this group."""
    return ApiError(
        grpc.StatusCode.NOT_FOUND,
        errors_pb2.ERROR_REASON_GROUP_NOT_FOUND,
        f"groups/{group} has no payments yet",
        metadata={"group": f"groups/{group}"},
    )


def not_a_payment() -> ApiError:
    """The name has another form."""
    return invalid_field("name", "not groups/{group}/orders/{order}/payment")


def invalid_field(field: str, problem: str) -> ApiError:
    """A field has an invalid value."""
    return _invalid(errors_pb2.ERROR_REASON_INVALID_FIELDS, field, problem)


def currency_mismatch(given: str, actual: str) -> ApiError:
    """The payment was made in another currency."""
    return _invalid(
        errors_pb2.ERROR_REASON_CURRENCY_MISMATCH, "currency", f"the payment is in {actual}, not in {given}"
    )


def _invalid(reason: errors_pb2.ErrorReason.ValueType, field: str, problem: str) -> ApiError:
    return ApiError(grpc.StatusCode.INVALID_ARGUMENT, reason, f"{field}: {problem}", fields=[(field, problem)])


def request_id_reused(name: str) -> ApiError:
    """Another refund of this payment has this request id."""
    return ApiError(
        grpc.StatusCode.ALREADY_EXISTS,
        errors_pb2.ERROR_REASON_REQUEST_ID_REUSED,
        f"another refund of {name} has this request id; use a new one",
        metadata={"payment": name},
    )


def not_refundable(name: str, reason: str) -> ApiError:
    """Our own rules declined the refund."""
    return ApiError(
        grpc.StatusCode.FAILED_PRECONDITION,
        errors_pb2.ERROR_REASON_PAYMENT_STATE,
        f"{name} can't be refunded: {reason}",
        metadata={"payment": name, "why": reason},
    )


def result_pending(name: str) -> ApiError:
    """The command is in the log, but it was not decided before the deadline."""
    return ApiError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        errors_pb2.ERROR_REASON_ANSWER_PENDING,
        f"no result before the deadline; retry the same request or read {name}",
        metadata={"name": name},
    )


def bad_signature(provider: str) -> ApiError:
    """The notification is not genuine, or too old."""
    return ApiError(
        grpc.StatusCode.PERMISSION_DENIED,
        errors_pb2.ERROR_REASON_BAD_SIGNATURE,
        f"not a signature of {provider}, or older than some minutes",
        metadata={"provider": provider},
    )


def amount_overflow(subject: str) -> ApiError:
    """A sum does not fit into the 64 bits of the response."""
    return ApiError(
        grpc.StatusCode.INTERNAL,
        errors_pb2.ERROR_REASON_AMOUNT_OVERFLOW,
        f"{subject} does not fit in 64 bits: query one currency, or read the entries",
    )
