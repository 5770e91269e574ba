"""The events that an input would lead to, without appending it."""

from __future__ import annotations

import copy
from typing import Any

from groupbuy.payments.v1.decisions_pb2 import PaymentDecision, PaymentEvent
from groupbuy.payments.v1.inbox_pb2 import PaymentInput

from eventlog.core.aggregate import Aggregate, decide
from services.payments.domain.domain import GroupPaymentsDomain
from services.payments.domain.state.model import GroupPayments

#: Characters of a payment method that are shown.
SHOWN = 4
_DOMAIN = GroupPaymentsDomain()


def preview(
    group: str, aggregate: Aggregate[GroupPayments] | None, value: PaymentInput, now_ms: int
) -> PaymentDecision:
    """The decision on an input, made on a copy of the state; without events if there is none."""
    found = copy.deepcopy(aggregate) if aggregate is not None else Aggregate(group, _DOMAIN.initial(group))
    made = decide(_DOMAIN, found, value.SerializeToString(), found.cause + 1, now_ms)
    decision = PaymentDecision() if made is None else PaymentDecision.FromString(made)
    for event in decision.events:
        _mask(event)
    return decision


def _mask(event: PaymentEvent) -> None:
    """Cuts the payment method in an event to its last characters."""
    body: Any = getattr(event, event.WhichOneof("body") or "", None)
    call: Any = getattr(body, "call", None)
    for message in (body, call):
        method = getattr(message, "payment_method", "")
        if method:
            message.payment_method = f"…{method[-SHOWN:]}"
