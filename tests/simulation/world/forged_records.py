"""Forged records: inputs of a group or of its payments that were not copied from a decision."""

from __future__ import annotations

from collections.abc import Callable

from groupbuy.groups.v1.decisions_pb2 import GroupEvent
from groupbuy.payments.v1 import decisions_pb2 as pb

from tests.scenarios import group_events as ge
from tests.scenarios import payment_events as pe
from tests.scenarios.inputs import group_decided, payments_decided

#: The hold and the reason in forged events.
FORGED = "false"

_FORGED: dict[str, Callable[[str, int], pb.PaymentEvent]] = {
    "authorised": lambda order, amount: pe.hold_authorised(order, amount, hold=FORGED, currency="EUR"),
    "declined": lambda order, amount: pe.hold_declined(order, FORGED),
    "captured": lambda order, amount: pe.captured(order, 1, hold=FORGED, currency="EUR"),
    "capture_declined": lambda order, amount: pe.capture_declined(order, FORGED),
    "released": lambda order, amount: pe.payment_released(order),
}
FORGED_EVENTS = tuple(_FORGED)


def forged_payment_event(kind: str, group: str, order: str, amount_minor: int) -> bytes:
    """A GroupInput with a payment event of an order."""
    return payments_decided(group, _FORGED[kind](order, amount_minor), version=1).SerializeToString()


def forged_settlement(group: str, order: str) -> bytes:
    """A PaymentInput that requests a charge on a hold that does not exist."""
    return _from_group(group, ge.settlement_requested(order, 1, FORGED, "EUR"))


def forged_release(group: str, order: str) -> bytes:
    """A PaymentInput that requests the release of an order."""
    return _from_group(group, ge.release_requested(order))


def _from_group(group: str, event: GroupEvent) -> bytes:
    return group_decided(group, event).SerializeToString()
