"""Errors of the orders API. No error contains the token of a payment method."""

from __future__ import annotations

from groupbuy.errors.v1 import errors_pb2
from groupbuy.orders.v1.orders_pb2 import OrderState

from chassis.rpc.errors import ApiError
from services.orders.domain.ids import OrderName
from services.orders.domain.model import OrderView
from shared_kernel.api_errors import api_error, field_error


def campaign_archived(campaign: str) -> ApiError:
    """Orders can no longer open groups of the campaign."""
    name = f"campaigns/{campaign}"
    problem = f"{name} is archived: no group can be opened"
    return api_error(errors_pb2.ERROR_REASON_CAMPAIGN_ARCHIVED, problem, campaign=name)


def sold_out(campaign: str, stock: str, version: int) -> ApiError:
    """No piece of the stock item is free, by the offer of a version of it."""
    problem = f"{campaign}: {stock} is sold out"
    return api_error(
        errors_pb2.ERROR_REASON_SOLD_OUT, problem, campaign=campaign, stock=stock, stock_version=str(version)
    )


def campaign_mismatch(given: str, actual: str) -> ApiError:
    """The group to join belongs to another campaign."""
    problem = f"the group belongs to campaigns/{actual}, not to campaigns/{given}"
    return field_error(errors_pb2.ERROR_REASON_CAMPAIGN_MISMATCH, "campaign", problem)


def currency_mismatch(given: str, actual: str) -> ApiError:
    """The request has another currency than the campaign."""
    problem = f"the campaign's prices are in {actual}, not in {given}"
    return field_error(errors_pb2.ERROR_REASON_CURRENCY_MISMATCH, "currency", problem)


def order_not_found(name: OrderName) -> ApiError:
    """The order was not placed."""
    return api_error(errors_pb2.ERROR_REASON_ORDER_NOT_FOUND, f"order not found: {name}", order=str(name))


def order_id_not_found(order: str) -> ApiError:
    """No group has the order."""
    problem = f"order not found: {order}"
    return api_error(errors_pb2.ERROR_REASON_ORDER_NOT_FOUND, problem, order=f"groups/-/orders/{order}")


def request_id_reused(name: OrderName) -> ApiError:
    """The request id was used for another payload."""
    return api_error(
        errors_pb2.ERROR_REASON_REQUEST_ID_REUSED,
        "this request_id was used with another payload; use a new one for a new order",
        [("request_id", "was used with another payload")],
        order=str(name),
    )


def not_cancellable(name: OrderName, view: OrderView) -> ApiError:
    """The order can no longer be cancelled, with the reason."""
    state = OrderState.Name(view.state).removeprefix("ORDER_STATE_")
    why = view.cancel_refused or view.seat_reason or state
    problem = f"{name} can no longer be cancelled: {why}"
    return api_error(errors_pb2.ERROR_REASON_ORDER_NOT_CANCELLABLE, problem, order=str(name), state=state, reason=why)


def answer_pending(name: OrderName, token: str = "") -> ApiError:
    """The request is in the log, but its decision was not seen before the deadline."""
    metadata = {"order": str(name)}
    if token:
        metadata["consistency_token"] = token
    problem = f"no decision before the deadline; read {name} with GetOrder"
    return api_error(errors_pb2.ERROR_REASON_ANSWER_PENDING, problem, **metadata)


def list_pending() -> ApiError:
    """The records that a list has to contain were not folded before the deadline."""
    problem = "the latest records were not folded before the deadline; list again"
    return api_error(errors_pb2.ERROR_REASON_ANSWER_PENDING, problem)
