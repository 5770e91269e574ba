"""Every way in which the payments API says no. A refusal never repeats a payment method, nor a body it was given."""

from __future__ import annotations

import grpc
from groupbuy.errors.v1 import errors_pb2

from chassis.rpc.errors import ApiError


def payment_not_found(name: str) -> ApiError:
    """No money was asked for."""
    return ApiError(
        grpc.StatusCode.NOT_FOUND,
        errors_pb2.ERROR_REASON_PAYMENT_NOT_FOUND,
        f"there is no {name} yet: no money was asked for",
        metadata={"payment": name},
    )


def group_not_found(group: str) -> ApiError:
    """No money was ever asked for in that group."""
    return ApiError(
        grpc.StatusCode.NOT_FOUND,
        errors_pb2.ERROR_REASON_GROUP_NOT_FOUND,
        f"there are no payments of groups/{group} yet",
        metadata={"group": f"groups/{group}"},
    )


def not_a_payment() -> ApiError:
    """The name has another form."""
    return invalid_field("name", "not groups/{group}/orders/{order}/payment")


def invalid_field(field: str, wrong: str) -> ApiError:
    """A field can't be what it says."""
    return _invalid(errors_pb2.ERROR_REASON_INVALID_FIELDS, field, wrong)


def currency_mismatch(given: str, real: str) -> ApiError:
    """The payment was made in another currency."""
    return _invalid(errors_pb2.ERROR_REASON_CURRENCY_MISMATCH, "currency", f"the payment is in {real}, not in {given}")


def _invalid(reason: errors_pb2.ErrorReason.ValueType, field: str, wrong: str) -> ApiError:
    return ApiError(grpc.StatusCode.INVALID_ARGUMENT, reason, f"{field}: {wrong}", fields=[(field, wrong)])


def request_id_reused(name: str) -> ApiError:
    """The request id stands for another refund of this payment."""
    return ApiError(
        grpc.StatusCode.ALREADY_EXISTS,
        errors_pb2.ERROR_REASON_REQUEST_ID_REUSED,
        f"this request id was used for another refund of {name}; take a new one",
        metadata={"payment": name},
    )


def not_refundable(name: str, why: str) -> ApiError:
    """Our own rules refused the refund."""
    return ApiError(
        grpc.StatusCode.FAILED_PRECONDITION,
        errors_pb2.ERROR_REASON_PAYMENT_STATE,
        f"{name} can't be refunded so: {why}",
        metadata={"payment": name, "why": why},
    )


def answer_pending(name: str) -> ApiError:
    """What was asked is in the log; the answer had not come by the deadline."""
    return ApiError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        errors_pb2.ERROR_REASON_ANSWER_PENDING,
        f"the answer had not come by the deadline; the same request again, or reading {name}, tells",
        metadata={"name": name},
    )


def bad_signature(provider: str) -> ApiError:
    """The notification is not genuine, or too old."""
    return ApiError(
        grpc.StatusCode.PERMISSION_DENIED,
        errors_pb2.ERROR_REASON_BAD_SIGNATURE,
        f"the signature is not one of {provider}'s of the last minutes",
        metadata={"provider": provider},
    )


def amount_overflow(what: str) -> ApiError:
    """A sum does not fit into the 64 bits of the answer."""
    return ApiError(
        grpc.StatusCode.INTERNAL,
        errors_pb2.ERROR_REASON_AMOUNT_OVERFLOW,
        f"{what} does not fit in 64 bits: ask for one currency, or read the entries",
    )
