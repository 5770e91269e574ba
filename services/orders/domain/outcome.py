"""The outcomes of orders for other systems: one for each end of an order, and one for each refund of a sold one.

An outcome follows from one event and the state after it. What it takes from the state does not change any more, so a
record that is read again gives the same outcomes, also from a later state.
"""

from __future__ import annotations

from collections.abc import Iterator

from groupbuy.groups.v1.decisions_pb2 import GroupDecision
from groupbuy.orders.v1.orders_pb2 import ORDER_STATE_SETTLED, OrderState
from groupbuy.orders.v1.outcomes_pb2 import OrderOutcome
from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from services.orders.domain.model import GroupOrders, OrderView, SoldRefund

_PREFIX = "ORDER_STATE_"
_ENDS = frozenset({"seat_refused", "seat_released", "member_declined"})
_REFUNDS = frozenset({"refunded", "refund_reversed"})


def of_group(state: GroupOrders, decision: GroupDecision) -> Iterator[OrderOutcome]:
    """The outcomes of a group decision that is folded into the state."""
    for event in decision.events[:]:
        kind = event.WhichOneof("body")
        if kind == "member_settled":
            name = event.member_settled.order
            order = state.orders[name]
            yield _sold(state, name, order, decision.time_ms)
            # A refund can be read before the charge is.
            for refund in order.refunds or ():
                yield _refund(state, name, order, refund)
        elif kind in _ENDS:
            body = getattr(event, kind)
            order = state.orders[body.order]
            made = _outcome(state, body.order, "unsold", order, decision.time_ms)
            if kind == "seat_refused":
                # Customer and pieces may be those of the order's fact, which may not be read yet. The group may open
                # after the refusal.
                made.customer, made.quantity = body.customer, 0
                made.campaign = made.product = made.currency = ""
            made.unsold.state = OrderState.Name(order.seat_state).removeprefix(_PREFIX)
            made.unsold.reason = order.seat_reason
            yield made


def of_payment(state: GroupOrders, decision: PaymentDecision) -> Iterator[OrderOutcome]:
    """The outcomes of a payment decision that is folded into the state."""
    for event in decision.events[:]:
        kind = event.WhichOneof("body")
        if kind not in _REFUNDS:
            continue
        body = getattr(event, kind)
        order = state.orders[body.order]
        if order.seat_state != ORDER_STATE_SETTLED:
            # Its outcome follows that of the charge.
            continue
        for refund in order.refunds or ():
            if (refund.refund, refund.attempt, refund.reversed) == (body.refund, body.attempt, kind != "refunded"):
                yield _refund(state, body.order, order, refund)


def _outcome(state: GroupOrders, name: str, end: str, order: OrderView, time_ms: int) -> OrderOutcome:
    """The common fields. Campaign, product and currency are those of the frozen terms."""
    opened = bool(state.currency)
    return OrderOutcome(
        id=f"{name}:{end}",
        order=name,
        group=state.group,
        customer=order.customer,
        campaign=state.campaign if opened else "",
        product=state.product,
        quantity=order.quantity,
        currency=state.currency,
        time_ms=time_ms,
    )


def _sold(state: GroupOrders, name: str, order: OrderView, time_ms: int) -> OrderOutcome:
    made = _outcome(state, name, "sold", order, time_ms)
    body = made.sold
    body.amount_minor = order.settled_minor
    body.unit_price_minor = order.unit_price_minor
    body.leader = state.leader == name
    body.discount_minor = order.unit_price_minor * order.quantity - order.settled_minor
    body.members = state.members
    body.house_filled = state.house_filled
    body.solo = state.solo
    if order.invitation:
        body.invitation.MergeFromString(order.invitation)
    return made


def _refund(state: GroupOrders, name: str, order: OrderView, refund: SoldRefund) -> OrderOutcome:
    end = "reversed" if refund.reversed else "refunded"
    made = _outcome(state, name, f"{end}:{refund.refund}:{refund.attempt}", order, refund.time_ms)
    if refund.reversed:
        made.reversed.refund, made.reversed.amount_minor = refund.refund, refund.amount_minor
    else:
        body = made.refunded
        body.refund, body.amount_minor, body.whole = refund.refund, refund.amount_minor, refund.whole
    return made
