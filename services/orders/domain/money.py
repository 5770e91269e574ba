"""What a purse's decisions make of an order's money. Amounts are integers in minor units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from groupbuy.payments.v1.decisions_pb2 import (
    OPERATION_SALE,
    ActionRequired,
    Captured,
    CaptureDeclined,
    HoldAuthorised,
    HoldDeclined,
    HoldLapsed,
    PaymentReleased,
    Refunded,
    SuspenseRecorded,
    Voided,
)

from services.orders.domain.view import Money, OrderView


def fold(order: OrderView, kind: str, event: Any, time_ms: int) -> None:
    """Folds one event that names this order; `kind` is one of RULES."""
    money = order.money
    if money is None:
        money = order.money = Money()
    if RULES[kind](money, event):
        order.changes += 1
        order.seen(time_ms)


def _action_required(money: Money, event: ActionRequired) -> bool:
    changed = money.action_url != event.action_url
    money.action_url = event.action_url
    return changed


def _authorised(money: Money, event: HoldAuthorised) -> bool:
    # A sale counts as held as well, until the group closes: its money is the shopper's unless the group completes.
    money.held_minor += event.amount_minor
    money.sale = event.operation == OPERATION_SALE
    money.action_url = ""
    return True


def _declined(money: Money, event: HoldDeclined) -> bool:
    changed = bool(money.action_url)
    money.action_url = ""
    return changed


def _captured(money: Money, event: Captured) -> bool:
    money.captured_minor += event.amount_minor
    # What a sale took too much is not let go by its capture, only by a refund.
    _take(money, event.amount_minor if money.sale else event.amount_minor + event.released_minor)
    return True


def _capture_declined(money: Money, event: CaptureDeclined) -> bool:
    return _take(money, money.held_minor) > 0


def _let_go(money: Money, event: Voided | HoldLapsed) -> bool:
    return _take(money, event.amount_minor - _unasked(money, event)) > 0


def _refunded(money: Money, event: Refunded) -> bool:
    """The purse's own refunds give back first what nobody asked for, then what a sale took and nothing captured."""
    amount = event.amount_minor
    if not event.refund:
        amount -= _unasked(money, event)
        taken = _take(money, amount)
        money.refunded_minor += amount - taken
        return amount > 0
    money.refunded_minor += amount
    return True


def _suspense(money: Money, event: SuspenseRecorded) -> bool:
    """Money that no order asked for is shown nowhere; it is noted so that its way back is not shown either."""
    if money.suspense is None:
        money.suspense = {}
    money.suspense[event.hold] = money.suspense.get(event.hold, 0) + event.amount_minor
    return False


def _released(money: Money, event: PaymentReleased) -> bool:
    changed = bool(money.held_minor or money.action_url)
    money.held_minor = 0
    money.action_url = ""
    return changed


def _unasked(money: Money, event: Voided | HoldLapsed | Refunded) -> int:
    """How much of what goes back was in suspense, and is no longer."""
    if money.suspense is None:
        return 0
    noted = money.suspense.pop(event.hold, 0)
    back = min(noted, event.amount_minor)
    if noted > back:
        money.suspense[event.hold] = noted - back
    return back


def _take(money: Money, amount_minor: int) -> int:
    """Takes an amount off what is held, and says how much there was of it."""
    taken = min(money.held_minor, amount_minor)
    money.held_minor -= taken
    return taken


#: Every event that changes what is seen of one order's money. The others are between the purse and its provider.
RULES: Mapping[str, Callable[[Money, Any], bool]] = {
    "action_required": _action_required,
    "hold_authorised": _authorised,
    "hold_declined": _declined,
    "captured": _captured,
    "capture_declined": _capture_declined,
    "voided": _let_go,
    "hold_lapsed": _let_go,
    "refunded": _refunded,
    "payment_released": _released,
    "suspense_recorded": _suspense,
}
