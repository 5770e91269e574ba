"""What a sound purse would never say: inputs of a group that nobody copied from anywhere."""

from __future__ import annotations

from collections.abc import Callable

from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.payments.v1 import decisions_pb2 as pb

_WORDS: dict[str, Callable[[str, int], pb.PaymentEvent]] = {
    "authorised": lambda order, amount: pb.PaymentEvent(
        hold_authorised=pb.HoldAuthorised(order=order, hold="false", amount_minor=amount, currency="EUR")
    ),
    "declined": lambda order, amount: pb.PaymentEvent(hold_declined=pb.HoldDeclined(order=order, reason="false")),
    "captured": lambda order, amount: pb.PaymentEvent(
        captured=pb.Captured(order=order, hold="false", amount_minor=1, currency="EUR")
    ),
    "capture_declined": lambda order, amount: pb.PaymentEvent(
        capture_declined=pb.CaptureDeclined(order=order, reason="false")
    ),
    "released": lambda order, amount: pb.PaymentEvent(payment_released=pb.PaymentReleased(order=order)),
}
FALSE_WORDS = tuple(_WORDS)


def false_word(kind: str, group: str, order: str, amount_minor: int) -> bytes:
    """A GroupInput that says so of an order."""
    decision = pb.PaymentDecision(group=group, version=1, events=[_WORDS[kind](order, amount_minor)])
    return GroupInput(payment_decision=decision.SerializeToString()).SerializeToString()
