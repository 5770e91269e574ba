"""What a sound purse or group would never say: inputs of the other that nobody copied from anywhere."""

from __future__ import annotations

from collections.abc import Callable

from groupbuy.groups.v1.decisions_pb2 import GroupDecision, GroupEvent, ReleaseRequested, SettlementRequested
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.inbox_pb2 import PaymentInput

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


def false_charge(group: str, order: str) -> bytes:
    """A PaymentInput that asks for an order's money, of a hold that nobody knows."""
    wanted = SettlementRequested(order=order, hold="false", amount_minor=1, currency="EUR")
    return _of_the_group(group, GroupEvent(settlement_requested=wanted))


def false_release(group: str, order: str) -> bytes:
    """A PaymentInput that lets an order go."""
    return _of_the_group(group, GroupEvent(release_requested=ReleaseRequested(order=order)))


def _of_the_group(group: str, event: GroupEvent) -> bytes:
    decision = GroupDecision(group=group, version=1, events=[event])
    return PaymentInput(group_decision=decision.SerializeToString()).SerializeToString()
