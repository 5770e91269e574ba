"""Folds payment events into the money of an order. Amounts are integers in minor units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from groupbuy.orders.v1.orders_pb2 import ORDER_DISPUTE_STATE_LOST, ORDER_DISPUTE_STATE_WON, OrderDisputeState
from groupbuy.payments.v1.decisions_pb2 import (
    OPERATION_AUTHORISE,
    OPERATION_REFUND,
    OPERATION_SALE,
    ActionRequired,
    CallRetried,
    Captured,
    CaptureDeclined,
    DisputeLost,
    DisputeOpened,
    DisputeWon,
    ExternalOperationRecorded,
    HoldAuthorised,
    HoldDeclined,
    HoldLapsed,
    HoldRequested,
    MoneyOwed,
    PaymentReleased,
    Refunded,
    RefundReversed,
    ReturnedOutside,
    SuspenseRecorded,
    Voided,
)

from services.orders.domain.model import Debt, Money, OrderDispute, OrderView, SoldRefund

#: Operations that take or hold a shopper's money.
_AUTHORISING = frozenset({OPERATION_AUTHORISE, OPERATION_SALE})
#: Events of refunds. Those without the id of a refund return funds that nobody was charged.
_REFUNDS = frozenset({"refunded", "refund_reversed"})


def fold(order: OrderView, kind: str, event: Any, time_ms: int) -> None:
    """Folds one event that names this order; `kind` is one of RULES."""
    money = order.money
    if money is None:
        money = order.money = Money()
    if RULES[kind](money, event):
        order.changes += 1
        order.update_times(time_ms)
    if kind in _REFUNDS and event.refund:
        reversed_ = kind == "refund_reversed"
        whole = not reversed_ and money.refunded_minor >= money.captured_minor
        refund = SoldRefund(event.refund, event.attempt, event.amount_minor, time_ms, reversed_, whole)
        order.refunds = [*(order.refunds or ()), refund]


def _action_required(money: Money, event: ActionRequired) -> bool:
    changed = money.action_url != event.action_url
    money.action_url = event.action_url
    money.action_hold = event.hold
    return changed


def _no_action(money: Money) -> bool:
    changed = bool(money.action_url)
    money.action_url = money.action_hold = ""
    return changed


def _requested(money: Money, event: HoldRequested | CallRetried) -> bool:
    """A new attempt invalidates the confirmation that the attempt before required."""
    call = event.call
    if call.operation not in _AUTHORISING or call.attempt == money.attempt:
        return False
    money.attempt = call.attempt
    return _no_action(money)


def _authorised(money: Money, event: HoldAuthorised) -> bool:
    # A sale is shown as held until the group closes, because it is refunded unless the group completes.
    money.held_minor += event.amount_minor
    money.sale = event.operation == OPERATION_SALE
    if money.sale:
        money.taken_minor += event.amount_minor
    _no_action(money)
    return True


def _declined(money: Money, event: HoldDeclined | CaptureDeclined) -> bool:
    # If the hold outlasts its declined capture, a void ends it.
    return _no_action(money)


def _captured(money: Money, event: Captured) -> bool:
    money.captured_minor += event.amount_minor
    if not money.sale:
        money.taken_minor += event.amount_minor
        _reduce_held(money, event.amount_minor + event.released_minor)
        return True
    # The settlement of a sale releases no hold. The excess is refunded already, being refunded, or owed.
    excess = _reduce_held(money, money.held_minor) - event.amount_minor
    if excess > 0:
        _add_returning(money, event.hold, excess)
    return True


def _hold_ended(money: Money, event: Voided | HoldLapsed) -> bool:
    _reduce_unclear(money, event)
    no_action = event.hold == money.action_hold and _no_action(money)
    return _reduce_held(money, event.amount_minor - _reduce_returning(money, event)) > 0 or no_action


def _refunded(money: Money, event: Refunded) -> bool:
    """A return of funds first reduces the unexpected funds, then the uncaptured part of a sale.

    Money that went back twice is returned, and no refund of the charge.
    """
    is_return = not event.refund
    money.returned_minor += event.amount_minor - _reduce_unclear(money, event)
    due_minor = event.amount_minor - event.excess_minor
    counts = due_minor - (min(_reduce_returning(money, event), due_minor) if is_return else 0)
    money.refunded_minor += counts - (_reduce_held(money, counts) if is_return else 0)
    return counts > 0


def _suspense(money: Money, event: SuspenseRecorded) -> bool:
    """Unexpected funds and their return are not shown."""
    _add_returning(money, event.hold, event.amount_minor)
    if event.taken:
        money.taken_minor += event.amount_minor
    elif event.amount_minor:
        unclear = money.unclear = money.unclear or {}
        unclear[event.hold] = unclear.get(event.hold, 0) + event.amount_minor
    return event.hold == money.action_hold and _no_action(money)


def _released(money: Money, event: PaymentReleased) -> bool:
    changed = _no_action(money)
    return _reduce_held(money, money.held_minor) > 0 or changed


def _add_returning(money: Money, hold: str, amount_minor: int) -> None:
    if money.returning is None:
        money.returning = {}
    money.returning[hold] = money.returning.get(hold, 0) + amount_minor


def _reduce_returning(money: Money, event: Voided | HoldLapsed | Refunded) -> int:
    """Reduces the unexpected funds of a hold by an event's amount. Returns the reduction."""
    if money.returning is None:
        return 0
    expected = money.returning.pop(event.hold, 0)
    reduction = min(expected, event.amount_minor)
    if expected > reduction:
        money.returning[event.hold] = expected - reduction
    return reduction


def _reduce_unclear(money: Money, event: Voided | HoldLapsed | Refunded) -> int:
    """Reduces the funds of a hold that may not have been taken. Returns the reduction."""
    known = (money.unclear or {}).pop(event.hold, 0)
    reduction = min(known, event.amount_minor)
    if money.unclear is not None and known > reduction:
        money.unclear[event.hold] = known - reduction
    return reduction


# What the provider, its users and operators do ----------------------------------------------------------------------


def _owed(money: Money, event: MoneyOwed) -> bool:
    debts = money.debts = money.debts or {}
    name = f"{event.hold} {event.refund}"
    debts.pop(name, None)
    if event.amount_minor:
        debts[name] = Debt(event.amount_minor, event.reason, event.alarm)
    return True


def _reversed(money: Money, event: RefundReversed) -> bool:
    """A refund that came back. One by command, or by a person after the charge, was shown as refunded."""
    money.returned_minor -= event.amount_minor
    if event.refund or (event.reference and money.captured_minor):
        money.refunded_minor -= min(event.amount_minor - event.excess_minor, money.refunded_minor)
    return True


def _returned_outside(money: Money, event: ReturnedOutside) -> bool:
    money.returned_minor += event.amount_minor
    if event.refund:
        money.refunded_minor += event.amount_minor
    return True


def _external(money: Money, event: ExternalOperationRecorded) -> bool:
    """A refund by a person. The money of a capture or a void is in the events that follow."""
    if event.operation != OPERATION_REFUND:
        return False
    money.returned_minor += event.amount_minor
    money.refunded_minor += max(min(event.amount_minor, money.captured_minor - money.refunded_minor), 0)
    return True


def _dispute_opened(money: Money, event: DisputeOpened) -> bool:
    disputes = money.disputes = money.disputes or {}
    disputes[event.dispute] = OrderDispute(event.withdrawn_minor)
    return True


def _dispute_ended(state: OrderDisputeState.ValueType) -> Callable[[Money, Any], bool]:
    def end(money: Money, event: DisputeWon | DisputeLost) -> bool:
        dispute = (money.disputes or {}).get(event.dispute)
        if dispute is None:
            return False
        dispute.state = state
        return True

    return end


def _reduce_held(money: Money, amount_minor: int) -> int:
    """Reduces the held amount. Returns the reduction."""
    reduction = min(money.held_minor, amount_minor)
    money.held_minor -= reduction
    return reduction


#: Rules by event. Other events concern payments and its provider only.
RULES: Mapping[str, Callable[[Money, Any], bool]] = {
    "hold_requested": _requested,
    "call_retried": _requested,
    "action_required": _action_required,
    "hold_authorised": _authorised,
    "hold_declined": _declined,
    "captured": _captured,
    "capture_declined": _declined,
    "voided": _hold_ended,
    "hold_lapsed": _hold_ended,
    "refunded": _refunded,
    "payment_released": _released,
    "suspense_recorded": _suspense,
    "money_owed": _owed,
    "refund_reversed": _reversed,
    "returned_outside": _returned_outside,
    "external_operation_recorded": _external,
    "dispute_opened": _dispute_opened,
    "dispute_won": _dispute_ended(ORDER_DISPUTE_STATE_WON),
    "dispute_lost": _dispute_ended(ORDER_DISPUTE_STATE_LOST),
}
#: Events that name their order in a provider call.
OF_CALLS = frozenset({"hold_requested", "call_retried"})
