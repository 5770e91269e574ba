"""State of the orders of one group, as the order projection stores it.

Each order has three parts, and each part is folded from one topic: the request from order facts, the seat from group
decisions, the money from payment decisions. The parts do not read each other, so the result does not depend on the
order in which the topics are read. No part contains the token of a payment method.

The fields are stored on disk in the order in which they stand here. Add new fields at the end, with a default.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from groupbuy.orders.v1.orders_pb2 import (
    ORDER_DISPUTE_STATE_LOST,
    ORDER_DISPUTE_STATE_OPEN,
    ORDER_DISPUTE_STATE_UNSPECIFIED,
    ORDER_DISPUTE_STATE_WON,
    ORDER_STATE_CANCELLED,
    ORDER_STATE_DECLINED,
    ORDER_STATE_LAPSED,
    ORDER_STATE_PLACED,
    ORDER_STATE_REFUNDED,
    ORDER_STATE_REFUSED,
    ORDER_STATE_RELEASED,
    ORDER_STATE_SETTLED,
    OrderDisputeState,
    OrderState,
)

#: States that only a refund can follow.
FINAL = frozenset(
    {
        ORDER_STATE_SETTLED,
        ORDER_STATE_REFUSED,
        ORDER_STATE_DECLINED,
        ORDER_STATE_LAPSED,
        ORDER_STATE_CANCELLED,
        ORDER_STATE_RELEASED,
        ORDER_STATE_REFUNDED,
    }
)


class Debt(msgspec.Struct, array_like=True, gc=False):
    """A sum that is due to the customer, in minor units."""

    amount_minor: int
    reason: str
    alarm: bool


class OrderDispute(msgspec.Struct, array_like=True, gc=False):
    """A dispute of the charge."""

    withdrawn_minor: int
    state: OrderDisputeState.ValueType = ORDER_DISPUTE_STATE_OPEN


class Money(msgspec.Struct, array_like=True, gc=False):
    """Money of one order, in minor units."""

    held_minor: int = 0
    captured_minor: int = 0
    refunded_minor: int = 0
    action_url: str = ""
    #: Taken at once instead of held, because the provider has no delayed capture.
    sale: bool = False
    #: Number of the last requested authorisation or sale.
    attempt: int = 0
    #: Reference of the hold that the shopper's confirmation makes.
    action_hold: str = ""
    #: Unexpected funds that are being returned, by hold; None if there were none.
    returning: dict[str, int] | None = None
    #: Taken from the customer, and returned of it: refunds, returns, and what disputes withdrew.
    taken_minor: int = 0
    returned_minor: int = 0
    #: Unexpected funds that may be held and not taken, by hold; None if there are none.
    unclear: dict[str, int] | None = None
    #: Sums that are owed, by hold and refund; None if there are none.
    debts: dict[str, Debt] | None = None
    #: Disputes by the provider's id; None if there were none.
    disputes: dict[str, OrderDispute] | None = None

    @property
    def kept_minor(self) -> int:
        """The part of what was taken that the merchant has."""
        return self.taken_minor - self.returned_minor - self.disputed_minor

    @property
    def disputed_minor(self) -> int:
        """Withdrawn by disputes that are open or lost."""
        found = (self.disputes or {}).values()
        return sum(one.withdrawn_minor for one in found if one.state != ORDER_DISPUTE_STATE_WON)

    @property
    def dispute_state(self) -> OrderDisputeState.ValueType:
        """State of all disputes: open, else lost, else won."""
        states = {one.state for one in (self.disputes or {}).values()}
        for state in (ORDER_DISPUTE_STATE_OPEN, ORDER_DISPUTE_STATE_LOST, ORDER_DISPUTE_STATE_WON):
            if state in states:
                return state
        return ORDER_DISPUTE_STATE_UNSPECIFIED


class SoldRefund(msgspec.Struct, array_like=True, gc=False):
    """A refund of the charge, or its reversal, as the payments log has it."""

    refund: str
    attempt: int
    amount_minor: int
    time_ms: int
    reversed: bool = False
    #: Whether nothing of the charge was left.
    whole: bool = False


class OrderView(msgspec.Struct, array_like=True, gc=False):
    """One order. Times are the log's, in milliseconds since the epoch."""

    # The request. A field that a decision repeats takes the value of the decision.
    placed: bool = False
    campaign: str = ""
    customer: str = ""
    quantity: int = 0
    currency: str = ""
    max_unit_price_minor: int = 0
    solo: bool = False
    opens_group: bool = False
    #: SHA-256 of the request that owns the order's id; empty if it is not known yet.
    request_sha256: bytes = b""
    # The seat.
    seat_state: OrderState.ValueType = ORDER_STATE_PLACED
    seat_reason: str = ""
    unit_price_minor: int = 0
    settled_minor: int = 0
    #: The group has recorded that no money is held any more.
    released: bool = False
    cancel_refused: str = ""
    # The money; None without a payment event.
    money: Money | None = None
    # Times.
    created_ms: int = 0
    updated_ms: int = 0
    #: Number of changes of seat and money.
    changes: int = 0
    #: Creation time under which the list of its customer has it; 0 if the list does not have it yet.
    listed_ms: int = 0
    #: The encoded Invitation of its share link; empty if it came without one.
    invitation: bytes = b""
    #: Refunds and their reversals, in the order of the payments log; None if there were none.
    refunds: list[SoldRefund] | None = None

    @property
    def known(self) -> bool:
        """Whether the order exists. A payment alone does not create an order."""
        return self.placed or self.seat_state != ORDER_STATE_PLACED

    @property
    def decided(self) -> bool:
        """Whether the group has decided: the order has a seat, is in the waitlist, or is final."""
        return self.seat_state != ORDER_STATE_PLACED

    @property
    def listable(self) -> bool:
        """Whether the list of its customer has to change."""
        return self.created_ms != self.listed_ms and self.known and bool(self.customer)

    @property
    def final(self) -> bool:
        """Whether only a refund can follow."""
        return self.seat_state in FINAL

    @property
    def state(self) -> OrderState.ValueType:
        """State of the order for the API."""
        money = self.money
        if (
            self.seat_state == ORDER_STATE_SETTLED
            and money is not None
            and 0 < money.captured_minor <= money.refunded_minor
        ):
            return ORDER_STATE_REFUNDED
        return self.seat_state

    @property
    def revision(self) -> int:
        """Number of changes. Placing the order counts as the first, even if its fact is not read yet."""
        return 1 + self.changes

    @property
    def held_minor(self) -> int:
        """Money held now. A settlement or release in the group's log counts even before the payment event is read."""
        return 0 if self.money is None or self.settled_minor or self.released else self.money.held_minor

    @property
    def captured_minor(self) -> int:
        """Money captured, by the log that was read first."""
        return max(self.settled_minor, self.money.captured_minor if self.money else 0)

    @property
    def refunded_minor(self) -> int:
        """Money refunded after capture."""
        return self.money.refunded_minor if self.money else 0

    @property
    def action_url(self) -> str:
        """Address where the shopper confirms the payment; empty if no action is required."""
        return "" if self.money is None or self.final else self.money.action_url

    def update_times(self, time_ms: int) -> None:
        """Takes the time of a folded event in. The creation time is that of the order's fact, if there is one."""
        self.updated_ms = max(self.updated_ms, time_ms)
        if not self.placed:
            self.created_ms = min(self.created_ms or time_ms, time_ms)


class Chain(NamedTuple):
    """Position of the fold in one decision log of the group."""

    version: int
    #: SHA-256 of the last decision's bytes.
    digest: bytes


#: Before the first decision.
START = Chain(0, b"")


class GroupOrders(msgspec.Struct, array_like=True):
    """All orders of one group. Stored on disk like OrderView."""

    group: str
    #: Id of the campaign; empty if no record that opens the group was read.
    campaign: str = ""
    #: Currency of the frozen terms; empty until the group is open.
    currency: str = ""
    #: Order that opened the group.
    opener: str = ""
    #: Whether the frozen terms are those of a solo purchase.
    solo: bool = False
    orders: dict[str, OrderView] = msgspec.field(default_factory=dict)
    decisions: Chain = START
    payments: Chain = START
    #: Orders whose entry in the list of their customer has to change. Always empty on disk.
    unlisted: tuple[str, ...] = ()
    #: Id of the product, by the frozen terms; empty until the group is open.
    product: str = ""
    #: Order of the leader at the completion, number of members, and whether the group completed virtually.
    leader: str = ""
    members: int = 0
    house_filled: bool = False
    #: Whether an order that is waitlisted waits for its pieces alone: the terms have a stock item and no waitlist.
    waits_for_pieces: bool = False

    def find(self, order: str) -> OrderView | None:
        """An order, or None if neither its fact nor a decision about its seat was read."""
        found = self.orders.get(order)
        return found if found is not None and found.known else None

    def check_listed(self, name: str, order: OrderView) -> None:
        """Adds an order to `unlisted` if the list of its customer has to change."""
        if order.created_ms != order.listed_ms and order.listable:
            self.unlisted += (name,)

    def order(self, order: str) -> OrderView:
        """The view of an order, created if there is none."""
        found = self.orders.get(order)
        if found is None:
            found = self.orders[order] = OrderView()
        return found
