"""Scenarios of the groups service: builders of its inputs, and a group that runs the domain as the kernel does.

Times are milliseconds after the group's opening.
"""

from __future__ import annotations

from typing import Any

from groupbuy.groups.v1 import decisions_pb2 as pb
from groupbuy.groups.v1.campaigns_pb2 import Campaign, Tier
from groupbuy.groups.v1.inbox_pb2 import CancelGroupCommand, GroupInput, OrderRejected
from groupbuy.log.v1.log_pb2 import Tick
from groupbuy.payments.v1.decisions_pb2 import MoneyOwed, PaymentEvent

from services.groups.domain.domain import GroupDomain
from services.groups.domain.model import State
from services.groups.processors import codec
from tests.scenarios import facts, inputs, payment_events
from tests.scenarios.facts import GROUP, duration
from tests.scenarios.scenario import Scenario

START_MS = 1_760_000_000_000
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
#: Terms of `campaign()`.
SOLO, FIRST, SECOND_TIER = 1_000, 900, 800
WINDOW, HOLD_WINDOW = HOUR, 10 * MINUTE


def campaign(**changes: Any) -> Campaign:
    """Four seats; 900 each from two members, 800 from three, 1,000 alone; window 1 h, hold window 10 min."""
    fields: dict[str, Any] = {
        "name": "campaigns/mug",
        "product": "mug-1",
        "currency": "EUR",
        "solo_price_minor": SOLO,
        "tiers": [Tier(members=2, unit_price_minor=FIRST), Tier(members=3, unit_price_minor=SECOND_TIER)],
        "capacity": 4,
        "window": duration(WINDOW),
        "hold_window": duration(HOLD_WINDOW),
        "max_quantity": 5,
        "revision": 1,
    }
    return facts.campaign(**fields | changes)


def customer_of(order: str) -> str:
    return f"customer of {order}"


def placed(order: str, *, customer: str = "", offer: Campaign | None = None, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "currency": "EUR",
        "max_unit_price_minor": SOLO,
        "request_id": order,
        "request_sha256": order.encode(),
    }
    fact = facts.placed(order, group=GROUP, customer=customer or customer_of(order), **fields | changes)
    return inputs.order_fact(fact, offer).SerializeToString()


def opens(order: str = "a", offer: Campaign | None = None, **changes: Any) -> bytes:
    return placed(order, offer=offer or campaign(), **{"opens_group": True} | changes)


def joins(order: str, **changes: Any) -> bytes:
    return placed(order, **changes)


def cancels(order: str) -> bytes:
    fact = facts.cancel_requested(order, group=GROUP, customer=customer_of(order))
    return inputs.order_fact(fact).SerializeToString()


def rejected(order: str) -> bytes:
    return GroupInput(order_rejected=OrderRejected(order=order, error="garbage")).SerializeToString()


def cancel_group(reason: str = "sold out") -> bytes:
    return GroupInput(cancel_group=CancelGroupCommand(reason=reason)).SerializeToString()


def tick() -> bytes:
    return GroupInput(tick=Tick()).SerializeToString()


def payments_decided(*events: PaymentEvent, version: int = 0) -> bytes:
    return inputs.payments_decided(GROUP, *events, version=version).SerializeToString()


def authorised(order: str, amount_minor: int = FIRST, currency: str = "EUR", until_ms: int = 0) -> bytes:
    return payments_decided(
        payment_events.hold_authorised(order, amount_minor, currency=currency, capturable_until_ms=until_ms)
    )


def declined(order: str) -> bytes:
    return payments_decided(payment_events.hold_declined(order, "insufficient funds"))


def hold_lost(order: str) -> bytes:
    return payments_decided(payment_events.hold_lost(order))


def captured(order: str, amount_minor: int = SECOND_TIER) -> bytes:
    return payments_decided(payment_events.captured(order, amount_minor, currency="EUR"))


def capture_declined(order: str) -> bytes:
    return payments_decided(payment_events.capture_declined(order, "card closed"))


def released(order: str) -> bytes:
    return payments_decided(payment_events.payment_released(order))


def owed(order: str, amount: int, hold: str = "h", refund: str = "", version: int = 0) -> bytes:
    """Payments owe a sum of an order, by a decision of this version; 0: not any more."""
    body = MoneyOwed(order=order, hold=hold, refund=refund, amount_minor=amount, currency="CNY", next_attempt_ms=1)
    return payments_decided(PaymentEvent(money_owed=body), version=version)


class Group(Scenario[State]):
    """One group."""

    events: list[pb.GroupEvent]

    def __init__(self) -> None:
        super().__init__(GroupDomain(), GROUP, describe, start_ms=START_MS)

    @property
    def due(self) -> int | None:
        """Time of the next timer, after the opening."""
        return None if self.due_ms is None else self.due_ms - self.start_ms

    def check_state(self) -> None:
        kept = codec.encode(self.state)
        thawed = codec.decode(kept)
        assert thawed == self.state
        # Equal mappings can differ in their order, which is part of the state; then their bytes differ.
        assert kept == codec.encode(thawed) == codec.encode(self.folded.state)

    def of(self, order: str) -> list[str]:
        """The last events about one order."""
        return [line for line in self.lines if line.split()[1:2] == [order]]


def given(*inputs: bytes) -> Group:
    """A group after these inputs, all at its opening."""
    return Group().when(*inputs)


def forming(*members: str, offer: Campaign | None = None) -> Group:
    """A group opened by the first of these orders and joined by the others, all of them confirmed."""
    leader, *others = members
    group = given(opens(leader, offer), *(joins(order) for order in others))
    return group.when(*(authorised(order) for order in members))


def describe(event: pb.GroupEvent) -> str:
    """An event as text: its kind, its order and its most important value."""
    body = event.WhichOneof("body")
    assert body is not None
    return f"{body} {_DETAILS[body](getattr(event, body))}".strip()


def _reason(prefix: str, enum: Any) -> Any:
    return lambda e: f"{e.order} {enum.Name(e.reason).removeprefix(prefix)}"


def _order(event: Any) -> str:
    return str(event.order)


_DETAILS: dict[str, Any] = {
    "opened": lambda e: e.leader_order,
    "seat_reserved": _order,
    "seat_refused": _reason("REFUSAL_REASON_", pb.RefusalReason),
    "seat_waitlisted": _order,
    "member_confirmed": lambda e: f"{e.order} {e.members}",
    "seat_released": _reason("RELEASE_REASON_", pb.ReleaseReason),
    "leader_changed": lambda e: e.order or "nobody",
    "tier_reached": lambda e: f"{e.members} {e.unit_price_minor}",
    "completed": lambda e: (
        f"{'+'.join(e.orders)} at {e.unit_price_minor} led by {e.leader_order}"
        + (" virtually" if e.house_filled else "")
    ),
    "expired": lambda e: str(e.members),
    "cancelled": lambda e: e.reason,
    "settlement_requested": lambda e: f"{e.order} {e.amount_minor}",
    "release_requested": _reason("RELEASE_REASON_", pb.ReleaseReason),
    "member_settled": lambda e: f"{e.order} {e.amount_minor}",
    "member_released": _order,
    "member_owed": lambda e: f"{e.order} {e.amount_minor}",
    "member_declined": lambda e: f"{e.order} {e.reason}",
    "settled": lambda e: f"{e.settled} {e.declined} {e.captured_minor}",
    "cancel_refused": lambda e: f"{e.order} {e.reason}",
    "faulted": lambda e: e.error,
}
