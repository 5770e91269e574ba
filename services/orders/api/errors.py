"""Every way in which the orders API says no. A refusal never repeats a payment token."""

from __future__ import annotations

import grpc
from groupbuy.errors.v1 import errors_pb2
from groupbuy.orders.v1.orders_pb2 import OrderState

from chassis.rpc.errors import ApiError
from services.orders.domain.fold import OrderView
from services.orders.domain.ids import OrderName


def campaign_not_found(campaign: str) -> ApiError:
    """There is no such campaign, the topic read to its end."""
    return ApiError(
        grpc.StatusCode.NOT_FOUND,
        errors_pb2.ERROR_REASON_CAMPAIGN_NOT_FOUND,
        f"there is no campaigns/{campaign}",
        metadata={"campaign": f"campaigns/{campaign}"},
    )


def campaign_archived(campaign: str) -> ApiError:
    """No group can be opened any more."""
    return ApiError(
        grpc.StatusCode.FAILED_PRECONDITION,
        errors_pb2.ERROR_REASON_CAMPAIGN_ARCHIVED,
        f"campaigns/{campaign} is archived: no group can be opened",
        metadata={"campaign": f"campaigns/{campaign}"},
    )


def campaign_mismatch(named: str, real: str) -> ApiError:
    """The group to join is of another campaign."""
    return _invalid(
        errors_pb2.ERROR_REASON_CAMPAIGN_MISMATCH,
        "campaign",
        f"the group belongs to campaigns/{real}, not to campaigns/{named}",
    )


def currency_mismatch(shown: str, real: str) -> ApiError:
    """The shopper was shown another currency."""
    return _invalid(
        errors_pb2.ERROR_REASON_CURRENCY_MISMATCH, "currency", f"the campaign's prices are in {real}, not in {shown}"
    )


def invalid_field(field: str, wrong: str) -> ApiError:
    """A field can't be what it says."""
    return _invalid(errors_pb2.ERROR_REASON_INVALID_FIELDS, field, wrong)


def _invalid(reason: errors_pb2.ErrorReason.ValueType, field: str, wrong: str) -> ApiError:
    return ApiError(grpc.StatusCode.INVALID_ARGUMENT, reason, f"{field}: {wrong}", fields=[(field, wrong)])


def group_not_found(group: str) -> ApiError:
    """Nobody has opened that group."""
    return ApiError(
        grpc.StatusCode.NOT_FOUND,
        errors_pb2.ERROR_REASON_GROUP_NOT_FOUND,
        f"there is no groups/{group}",
        metadata={"group": f"groups/{group}"},
    )


def order_not_found(name: OrderName) -> ApiError:
    """Nobody has placed that order."""
    return ApiError(
        grpc.StatusCode.NOT_FOUND,
        errors_pb2.ERROR_REASON_ORDER_NOT_FOUND,
        f"there is no {name}",
        metadata={"order": str(name)},
    )


def request_id_reused(name: OrderName) -> ApiError:
    """The request id stands for another request."""
    return ApiError(
        grpc.StatusCode.ALREADY_EXISTS,
        errors_pb2.ERROR_REASON_REQUEST_ID_REUSED,
        "this request_id was used with another payload; take a new one for a new order",
        metadata={"order": str(name)},
        fields=[("request_id", "was used with another payload")],
    )


def not_cancellable(name: OrderName, view: OrderView) -> ApiError:
    """The order stays as it is, and why."""
    state = OrderState.Name(view.state).removeprefix("ORDER_STATE_")
    reason = view.cancel_refused or view.seat_reason or state
    return ApiError(
        grpc.StatusCode.FAILED_PRECONDITION,
        errors_pb2.ERROR_REASON_ORDER_NOT_CANCELLABLE,
        f"{name} can't be cancelled any more: {reason}",
        metadata={"order": str(name), "state": state, "reason": reason},
    )


def answer_pending(name: OrderName, token: str = "") -> ApiError:
    """What was asked is in the log; the answer had not come by the deadline."""
    metadata = {"order": str(name)}
    if token:
        metadata["consistency_token"] = token
    return ApiError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        errors_pb2.ERROR_REASON_ANSWER_PENDING,
        f"the answer had not come by the deadline; GetOrder of {name} tells",
        metadata=metadata,
    )


def list_pending() -> ApiError:
    """What must be seen before a list is answered had not been seen by the deadline."""
    return ApiError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        errors_pb2.ERROR_REASON_ANSWER_PENDING,
        "what was written last had not been seen by the deadline; list again",
    )
