"""What a purse's decisions make of an order's money. Amounts are integers in minor units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from groupbuy.payments.v1.decisions_pb2 import (
    OPERATION_AUTHORISE,
    OPERATION_SALE,
    ActionRequired,
    CallRetried,
    Captured,
    CaptureDeclined,
    HoldAuthorised,
    HoldDeclined,
    HoldLapsed,
    HoldRequested,
    PaymentReleased,
    Refunded,
    SuspenseRecorded,
    Voided,
)

from services.orders.domain.fold import Money, OrderView

#: Operations that ask a shopper for money.
_ASKING = frozenset({OPERATION_AUTHORISE, OPERATION_SALE})


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
    money.action_hold = event.hold
    return changed


def _no_action(money: Money) -> bool:
    changed = bool(money.action_url)
    money.action_url = money.action_hold = ""
    return changed


def _asked(money: Money, event: HoldRequested | CallRetried) -> bool:
    """What there was to confirm was of the attempt before."""
    call = event.call
    if call.operation not in _ASKING or call.attempt == money.attempt:
        return False
    money.attempt = call.attempt
    return _no_action(money)


def _authorised(money: Money, event: HoldAuthorised) -> bool:
    # A sale counts as held as well, until the group closes: its money is the shopper's unless the group completes.
    money.held_minor += event.amount_minor
    money.sale = event.operation == OPERATION_SALE
    _no_action(money)
    return True


def _declined(money: Money, event: HoldDeclined | CaptureDeclined) -> bool:
    # Where a hold outlives its declined capture, a void ends it.
    return _no_action(money)


def _captured(money: Money, event: Captured) -> bool:
    money.captured_minor += event.amount_minor
    if not money.sale:
        _take(money, event.amount_minor + event.released_minor)
        return True
    # A sale's settlement lets nothing go: what was taken too much is back already, on its way, or owed.
    excess = _take(money, money.held_minor) - event.amount_minor
    if excess > 0:
        _expect_back(money, event.hold, excess)
    return True


def _let_go(money: Money, event: Voided | HoldLapsed) -> bool:
    moot = event.hold == money.action_hold and _no_action(money)
    return _take(money, event.amount_minor - _came_back(money, event)) > 0 or moot


def _refunded(money: Money, event: Refunded) -> bool:
    """The purse's own refunds give back first what was on its way back, then what a sale took and nothing captured."""
    own = not event.refund
    counts = event.amount_minor - (_came_back(money, event) if own else 0)
    money.refunded_minor += counts - (_take(money, counts) if own else 0)
    return counts > 0


def _suspense(money: Money, event: SuspenseRecorded) -> bool:
    """Money that no order asked for is shown nowhere, nor is its way back."""
    _expect_back(money, event.hold, event.amount_minor)
    return event.hold == money.action_hold and _no_action(money)


def _released(money: Money, event: PaymentReleased) -> bool:
    changed = _no_action(money)
    return _take(money, money.held_minor) > 0 or changed


def _expect_back(money: Money, hold: str, amount_minor: int) -> None:
    if money.returning is None:
        money.returning = {}
    money.returning[hold] = money.returning.get(hold, 0) + amount_minor


def _came_back(money: Money, event: Voided | HoldLapsed | Refunded) -> int:
    """How much of an amount had been expected back, and is no longer."""
    if money.returning is None:
        return 0
    expected = money.returning.pop(event.hold, 0)
    back = min(expected, event.amount_minor)
    if expected > back:
        money.returning[event.hold] = expected - back
    return back


def _take(money: Money, amount_minor: int) -> int:
    """Takes an amount off what is held, and says how much there was of it."""
    taken = min(money.held_minor, amount_minor)
    money.held_minor -= taken
    return taken


#: Every event that changes what is seen of one order's money. The others are between the purse and its provider.
RULES: Mapping[str, Callable[[Money, Any], bool]] = {
    "hold_requested": _asked,
    "call_retried": _asked,
    "action_required": _action_required,
    "hold_authorised": _authorised,
    "hold_declined": _declined,
    "captured": _captured,
    "capture_declined": _declined,
    "voided": _let_go,
    "hold_lapsed": _let_go,
    "refunded": _refunded,
    "payment_released": _released,
    "suspense_recorded": _suspense,
}
#: Those that name their order in the call they ask for.
OF_CALLS = frozenset({"hold_requested", "call_retried"})
