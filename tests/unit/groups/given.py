"""Given / when / then for groups: builders of inputs, and a group that runs the domain as the kernel does.

Every decision is also decoded and folded into a second group, which has to be equal. Times are milliseconds after the
group's opening. This module has no rules; expectations are in the tests.
"""

from __future__ import annotations

from typing import Any, Self

from google.protobuf.duration_pb2 import Duration
from groupbuy.groups.v1 import decisions_pb2 as pb
from groupbuy.groups.v1.campaigns_pb2 import Campaign, Tier
from groupbuy.groups.v1.inbox_pb2 import CancelGroupCommand, GroupInput, OrderRejected
from groupbuy.log.v1.log_pb2 import Tick
from groupbuy.orders.v1.facts_pb2 import OrderCancelRequested, OrderFact, OrderPlaced
from groupbuy.payments.v1 import decisions_pb2 as money

from eventlog.core.aggregate import Aggregate, apply, decide
from services.groups.domain.domain import GroupDomain
from services.groups.domain.model import State
from services.groups.processors import codec

T0 = 1_760_000_000_000
KEY = "0f5fd1f1-2f7a-5b41-9a45-6f3a4c6a6d10"
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000
#: Terms of `campaign()`.
SOLO, FIRST, SECOND_TIER = 1_000, 900, 800
WINDOW, HOLD_WINDOW = HOUR, 10 * MINUTE


def duration(milliseconds: int) -> Duration:
    return Duration(seconds=milliseconds // 1_000, nanos=milliseconds % 1_000 * 1_000_000)


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
    return Campaign(**fields | changes)


def placed(order: str, *, customer: str = "", offer: Campaign | None = None, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "campaign": "mug",
        "quantity": 1,
        "currency": "EUR",
        "max_unit_price_minor": SOLO,
        "payment_method": "card_ok",
        "request_id": order,
        "request_sha256": order.encode(),
    }
    fact = OrderFact(order=order, group=KEY, customer=customer or f"customer of {order}")
    fact.placed.CopyFrom(OrderPlaced(**fields | changes))
    record = GroupInput(order_fact=fact.SerializeToString())
    if offer is not None:
        record.campaign.CopyFrom(offer)
    return record.SerializeToString()


def opens(order: str = "a", offer: Campaign | None = None, **changes: Any) -> bytes:
    return placed(order, offer=offer or campaign(), **{"opens_group": True} | changes)


def joins(order: str, **changes: Any) -> bytes:
    return placed(order, **changes)


def cancels(order: str) -> bytes:
    fact = OrderFact(order=order, group=KEY, customer=f"customer of {order}", cancel_requested=OrderCancelRequested())
    return GroupInput(order_fact=fact.SerializeToString()).SerializeToString()


def rejected(order: str) -> bytes:
    return GroupInput(order_rejected=OrderRejected(order=order, error="garbage")).SerializeToString()


def cancel_group(reason: str = "sold out") -> bytes:
    return GroupInput(cancel_group=CancelGroupCommand(reason=reason)).SerializeToString()


def tick() -> bytes:
    return GroupInput(tick=Tick()).SerializeToString()


def payment_events(*events: money.PaymentEvent) -> bytes:
    decision = money.PaymentDecision(group=KEY, events=events)
    return GroupInput(payment_decision=decision.SerializeToString()).SerializeToString()


def pays(order: str, amount_minor: int = FIRST, currency: str = "EUR", until_ms: int = 0) -> bytes:
    held = money.HoldAuthorised(
        order=order, hold=f"hold-{order}", amount_minor=amount_minor, currency=currency, capturable_until_ms=until_ms
    )
    return payment_events(money.PaymentEvent(hold_authorised=held))


def declined(order: str) -> bytes:
    return payment_events(
        money.PaymentEvent(hold_declined=money.HoldDeclined(order=order, reason="insufficient funds"))
    )


def captured(order: str, amount_minor: int = SECOND_TIER) -> bytes:
    return payment_events(
        money.PaymentEvent(captured=money.Captured(order=order, amount_minor=amount_minor, currency="EUR"))
    )


def capture_declined(order: str) -> bytes:
    return payment_events(money.PaymentEvent(capture_declined=money.CaptureDeclined(order=order, reason="card closed")))


def released(order: str) -> bytes:
    return payment_events(money.PaymentEvent(payment_released=money.PaymentReleased(order=order)))


class Group:
    """One group, its log, and the events of the last inputs."""

    #: Whether decisions and states are also encoded and decoded. That takes time in proportion to the group's size.
    read_back = True

    def __init__(self) -> None:
        self.domain = GroupDomain()
        self.decided = Aggregate(KEY, self.domain.initial(KEY))
        self.replayed = Aggregate(KEY, self.domain.initial(KEY))
        self.log: list[bytes] = []
        self.last: list[pb.GroupEvent] = []
        self.offset = 0
        self.time = T0

    @property
    def state(self) -> State:
        return self.decided.state

    @property
    def due(self) -> int | None:
        """Time of the next timer, after the opening."""
        due_ms = self.domain.due(self.state)
        return None if due_ms is None else due_ms - T0

    def when(self, *inputs: bytes, at: int | None = None) -> Self:
        """Decides inputs, all at one time."""
        if at is not None:
            self.time = T0 + at
        self.last = []
        for value in inputs:
            decision = decide(self.domain, self.decided, value, self.offset, self.time)
            self.offset += 1
            if decision is not None:
                self.log.append(decision)
                self.last.extend(self.domain.decode_decision(decision).events)
                if self.read_back:
                    assert apply(self.domain, self.replayed, decision, len(self.log))
                    assert self.replayed == self.decided
        if self.read_back:
            kept = codec.encode(self.state)
            thawed = codec.decode(kept)
            assert thawed == self.state
            # Equal mappings can differ in their order, which is part of the state; then their bytes differ.
            assert kept == codec.encode(thawed) == codec.encode(self.replayed.state)
        return self

    def then(self, *expected: str) -> Self:
        """Asserts the events of the last `when`, as `describe` formats them."""
        assert [describe(event) for event in self.last] == list(expected)
        return self

    def then_nothing(self) -> Self:
        return self.then()

    def of(self, order: str) -> list[str]:
        """The last events about one order."""
        lines = [describe(event) for event in self.last]
        return [line for line in lines if line.split()[1:2] == [order]]


def given(*inputs: bytes) -> Group:
    """A group after these inputs, all at its opening."""
    return Group().when(*inputs)


def forming(*members: str, offer: Campaign | None = None) -> Group:
    """A group opened by the first of these orders and joined by the others, all of them confirmed."""
    leader, *others = members
    group = given(opens(leader, offer), *(joins(order) for order in others))
    return group.when(*(pays(order) for order in members))


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
    "member_declined": lambda e: f"{e.order} {e.reason}",
    "settled": lambda e: f"{e.settled} {e.declined} {e.captured_minor}",
    "cancel_refused": lambda e: f"{e.order} {e.reason}",
    "faulted": lambda e: e.error,
}
