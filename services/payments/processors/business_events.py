"""The business events of payment decisions, for the log: without payment methods, confirmation URLs and free texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from groupbuy.payments.v1.decisions_pb2 import PaymentDecision

from chassis.telemetry.event_log import BusinessEvent, fields_of

_MONEY = ("order", "amount_minor", "currency")
#: Each event with a line: its name in the log, and its fields there.
EVENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "action_required": ("confirmation required", ("order",)),
    "hold_authorised": ("money held", _MONEY),
    "hold_declined": ("hold declined", ("order",)),
    "captured": ("money captured", (*_MONEY, "released_minor")),
    "capture_declined": ("capture declined", ("order",)),
    "voided": ("hold voided", _MONEY),
    "hold_lapsed": ("hold lapsed", _MONEY),
    "refunded": ("money refunded", (*_MONEY, "refund")),
    "refund_declined": ("refund declined", ("order", "refund")),
    "suspense_recorded": ("unexpected funds", _MONEY),
    "money_owed": ("money owed", (*_MONEY, "refund", "alarm")),
    "refund_reversed": ("refund reversed", (*_MONEY, "refund")),
    "dispute_opened": ("dispute opened", (*_MONEY, "dispute")),
    "dispute_won": ("dispute won", (*_MONEY, "dispute")),
    "dispute_lost": ("dispute lost", (*_MONEY, "dispute")),
    "fraud_warning_received": ("fraud warning", ("order",)),
    "external_operation_recorded": ("operation by hand", _MONEY),
    "suspense_kept": ("unexpected funds kept", _MONEY),
    "ledger_adjusted": ("ledger adjusted", _MONEY),
    "operator_acted": ("operator acted", ("order", "request_id", "operator")),
    "hold_lost": ("hold lost", ("order",)),
    "capture_at_risk": ("capture at risk", ("order",)),
    "call_given_up": ("call given up", ("order", "attempt")),
    "returned_outside": ("returned by other means", _MONEY),
    "faulted": ("payment rules failed", ("error",)),
}


def business_events(value: bytes) -> Iterator[BusinessEvent]:
    """The business events of a decision record."""
    decision = PaymentDecision.FromString(value)
    for event in decision.events:
        body = event.WhichOneof("body") or ""
        if body in EVENTS:
            name, fields = EVENTS[body]
            inner: Any = getattr(event, body)
            yield BusinessEvent(
                name, {"group": decision.group, "version": decision.version, **fields_of(inner, *fields)}
            )
