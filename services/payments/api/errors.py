"""Errors of the payments API. Their texts repeat no payment method and no request body."""

from __future__ import annotations

import grpc
from groupbuy.errors.v1 import errors_pb2

from chassis.rpc.errors import ApiError
from chassis.rpc.validation import invalid_field
from shared_kernel.api_errors import api_error, field_error


def payment_not_found(name: str) -> ApiError:
    """No money was requested for this order."""
    problem = "does not exist: no money was requested"
    return _payment_error(errors_pb2.ERROR_REASON_PAYMENT_NOT_FOUND, name, problem)


def group_not_found(group: str) -> ApiError:
    """No money was requested in this group."""
    name = f"groups/{group}"
    return api_error(errors_pb2.ERROR_REASON_GROUP_NOT_FOUND, f"{name} has no payments yet", group=name)


def not_a_payment() -> ApiError:
    """The name has another form."""
    return invalid_field("name", "not groups/{group}/orders/{order}/payment")


def currency_mismatch(given: str, actual: str) -> ApiError:
    """The payment was made in another currency."""
    problem = f"the payment is in {actual}, not in {given}"
    return field_error(errors_pb2.ERROR_REASON_CURRENCY_MISMATCH, "currency", problem)


def request_id_reused(name: str) -> ApiError:
    """Another refund of this payment has this request id."""
    problem = f"another refund of {name} has this request id; use a new one"
    return api_error(errors_pb2.ERROR_REASON_REQUEST_ID_REUSED, problem, payment=name)


def not_refundable(name: str, reason: str) -> ApiError:
    """Our own rules declined the refund."""
    return _payment_error(errors_pb2.ERROR_REASON_PAYMENT_STATE, name, f"can't be refunded: {reason}", why=reason)


def result_pending(name: str) -> ApiError:
    """The command is in the log, but it was not decided before the deadline."""
    problem = f"no result before the deadline; retry the same request or read {name}"
    return api_error(errors_pb2.ERROR_REASON_ANSWER_PENDING, problem, name=name)


def bad_signature(provider: str) -> ApiError:
    """The notification is not genuine, or too old."""
    problem = f"not a signature of {provider}, or older than some minutes"
    return api_error(errors_pb2.ERROR_REASON_BAD_SIGNATURE, problem, provider=provider)


def repair_id_reused(name: str) -> ApiError:
    """Another repair in this group has this request id."""
    problem = f"another repair in the group of {name} has this request id; use a new one"
    return api_error(errors_pb2.ERROR_REASON_REQUEST_ID_REUSED, problem, payment=name)


def version_mismatch(name: str, expected: int, actual: int) -> ApiError:
    """Another decision followed the version that the caller has seen."""
    problem = f"has version {actual}, not {expected}: read it again, and decide anew"
    return _payment_error(
        errors_pb2.ERROR_REASON_VERSION_MISMATCH, name, problem, expected=str(expected), actual=str(actual)
    )


def repair_refused(name: str, refusal: str) -> ApiError:
    """The rules refused an operator's action. The refusal is recorded in the log."""
    problem = f"can't be repaired like this: {refusal}"
    return _payment_error(errors_pb2.ERROR_REASON_REPAIR_REFUSED, name, problem, refusal=refusal)


def repairs_off() -> ApiError:
    """A process runs that can't read an operator's command."""
    problem = "GROUPBUY_PAYMENTS_RULES_VERSION is 1: repairs are refused until every process is replaced"
    return ApiError(grpc.StatusCode.UNAVAILABLE, errors_pb2.ERROR_REASON_NOT_READY, problem)


def second_operator_required(name: str, proposal: str, operator: str) -> ApiError:
    """The proposer of an adjustment can't approve it."""
    problem = f"{operator} proposed adjustment {proposal} of {name}: another identity has to approve it"
    return api_error(
        errors_pb2.ERROR_REASON_SECOND_OPERATOR_REQUIRED, problem, payment=name, proposal=proposal, operator=operator
    )


def amount_overflow(subject: str) -> ApiError:
    """A sum does not fit into the 64 bits of the response."""
    return ApiError(
        grpc.StatusCode.INTERNAL,
        errors_pb2.ERROR_REASON_AMOUNT_OVERFLOW,
        f"{subject} does not fit in 64 bits: query one currency, or read the entries",
    )


def _payment_error(reason: errors_pb2.ErrorReason.ValueType, name: str, problem: str, **metadata: str) -> ApiError:
    return api_error(reason, f"{name} {problem}", payment=name, **metadata)
