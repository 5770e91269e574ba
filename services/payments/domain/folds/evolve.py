"""Applies payment events to the state. Total over every event that `decide` yields; it raises nothing.

A fold of the decision log gives the very state on which the decisions were made.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, TypeAlias

from groupbuy.payments.v1.decisions_pb2 import PaymentEvent

from services.payments.domain.folds.evolve_calls import FOLDS as CALLS
from services.payments.domain.folds.evolve_holds import FOLDS as HOLDS
from services.payments.domain.folds.evolve_provider_life import FOLDS as PROVIDER_LIFE
from services.payments.domain.folds.evolve_provider_life import fold_action
from services.payments.domain.folds.evolve_refunds import FOLDS as REFUNDS
from services.payments.domain.output.provider_calls import WITH_CALL
from services.payments.domain.rules_version import FIRST
from services.payments.domain.state.model import CHECK, GroupPayments, Intent, Payment, Record, reopened
from services.payments.domain.state.provider_life import TimerKind, owed_key

#: Applies an event's body, a message of decisions.proto, to the payment of its order.
Fold: TypeAlias = Callable[[Payment, Any], None]


def evolve(payments: GroupPayments, event: PaymentEvent) -> None:
    """Applies one event in place."""
    kind = event.WhichOneof("body")
    if kind == "rules_selected":
        payments.rules_version = event.rules_selected.rules_version
        return
    if not payments.rules_version:
        payments.rules_version = FIRST
    if kind is None or kind == "faulted":
        return
    body = getattr(event, kind)
    if kind == "operator_acted":
        fold_action(payments, body)
        return
    order = body.call.order if kind in WITH_CALL else body.order
    payment = _open(payments.orders, order)
    _FOLDS[kind](payment, body)
    if kind == "call_deferred":
        heapq.heappush(payments.retries, (body.retry_at_ms, order, body.operation, body.attempt))
    elif kind == "money_owed" and body.next_attempt_ms:
        timer = (body.next_attempt_ms, order, int(TimerKind.OWED), owed_key(body.hold, body.refund))
        heapq.heappush(payments.timers, timer)
    elif kind == "suspense_recorded" and body.return_at_ms:
        heapq.heappush(payments.timers, (body.return_at_ms, order, int(TimerKind.SUSPENSE), body.hold))
    elif kind == "hold_authorised" and payment.check_at_ms:
        heapq.heappush(payments.timers, (payment.check_at_ms, order, int(TimerKind.CHECK), body.hold))
    if payment.calls and (payment.intent is not Intent.HOLD or payment.declined):
        # What the group wants does not depend on the check any more.
        payment.calls.pop(CHECK, None)
    if payment.finished():
        payments.orders[order] = payment.to_record()
    payments.drop_stale_retries()


def _open(orders: dict[str, Record | Payment], order: str) -> Payment:
    found = orders.get(order)
    if isinstance(found, Payment):
        return found
    payment = orders[order] = Payment() if found is None else reopened(found)
    return payment


_FOLDS: dict[str, Fold] = {**CALLS, **HOLDS, **REFUNDS, **PROVIDER_LIFE}
