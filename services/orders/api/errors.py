"""Errors of the orders API. No error contains the token of a payment method."""

from __future__ import annotations

import grpc
from groupbuy.errors.v1 import errors_pb2
from groupbuy.orders.v1.orders_pb2 import OrderState

from chassis.rpc.errors import ApiError
from services.orders.domain.ids import OrderName
from services.orders.domain.model import OrderView


def campaign_archived(campaign: str) -> ApiError:
    """Orders can no longer open groups of the campaign."""
    return ApiError(
        grpc.StatusCode.FAILED_PRECONDITION,
        errors_pb2.ERROR_REASON_CAMPAIGN_ARCHIVED,
        f"campaigns/{campaign} is archived: no group can be opened",
        metadata={"campaign": f"campaigns/{campaign}"},
    )


def campaign_mismatch(given: str, actual: str) -> ApiError:
    """The group to join belongs to another campaign."""
    return _invalid(
        errors_pb2.ERROR_REASON_CAMPAIGN_MISMATCH,
        "campaign",
        f"the group belongs to campaigns/{actual}, not to campaigns/{given}",
    )


def currency_mismatch(given: str, actual: str) -> ApiError:
    """The request has another currency than the campaign."""
    return _invalid(
        errors_pb2.ERROR_REASON_CURRENCY_MISMATCH, "currency", f"the campaign's prices are in {actual}, not in {given}"
    )


def invalid_field(field: str, problem: str) -> ApiError:
    """A field has an invalid value."""
    return _invalid(errors_pb2.ERROR_REASON_INVALID_FIELDS, field, problem)


def _invalid(reason: errors_pb2.ErrorReason.ValueType, field: str, problem: str) -> ApiError:
    return ApiError(grpc.StatusCode.INVALID_ARGUMENT, reason, f"{field}: {problem}", fields=[(field, problem)])


def order_not_found(name: OrderName) -> ApiError:
    """The order was not placed."""
    return ApiError(
        grpc.StatusCode.NOT_FOUND,
        errors_pb2.ERROR_REASON_ORDER_NOT_FOUND,
        f"there is no {name}",
        metadata={"order": str(name)},
    )


def request_id_reused(name: OrderName) -> ApiError:
    """The request id was used for another payload."""
    return ApiError(
        grpc.StatusCode.ALREADY_EXISTS,
        errors_pb2.ERROR_REASON_REQUEST_ID_REUSED,
        "this request_id was used with another payload; use a new one for a new order",
        metadata={"order": str(name)},
        fields=[("request_id", "was used with another payload")],
    )


def not_cancellable(name: OrderName, view: OrderView) -> ApiError:
    """The order can no longer be cancelled, with the reason."""
    state = OrderState.Name(view.state).removeprefix("ORDER_STATE_")
    reason = view.cancel_refused or view.seat_reason or state
    return ApiError(
        grpc.StatusCode.FAILED_PRECONDITION,
        errors_pb2.ERROR_REASON_ORDER_NOT_CANCELLABLE,
        f"{name} can no longer be cancelled: {reason}",
        metadata={"order": str(name), "state": state, "reason": reason},
    )


def answer_pending(name: OrderName, token: str = "") -> ApiError:
    """The request is in the log, but its decision was not seen before the deadline."""
    metadata = {"order": str(name)}
    if token:
        metadata["consistency_token"] = token
    return ApiError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        errors_pb2.ERROR_REASON_ANSWER_PENDING,
        f"no decision before the deadline; read {name} with GetOrder",
        metadata=metadata,
    )


def list_pending() -> ApiError:
    """The records that a list has to contain were not folded before the deadline."""
    return ApiError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        errors_pb2.ERROR_REASON_ANSWER_PENDING,
        "the latest records were not folded before the deadline; list again",
    )
