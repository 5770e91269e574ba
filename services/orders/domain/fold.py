"""What a shopper sees of one order. Its three parts are each folded from one topic and never look at each other.

The wish comes from the order's fact, the seat from the group's decisions, the money from the purse's. What is shown is
a function of the three, so the order in which topics are read can't change it. Must never hold a payment token.

Fields are kept on disk in the order in which they stand here. Add new ones at the end, with a default.
"""

from __future__ import annotations

import msgspec
from groupbuy.orders.v1.orders_pb2 import (
    ORDER_STATE_CANCELLED,
    ORDER_STATE_DECLINED,
    ORDER_STATE_LAPSED,
    ORDER_STATE_PLACED,
    ORDER_STATE_REFUNDED,
    ORDER_STATE_REFUSED,
    ORDER_STATE_RELEASED,
    ORDER_STATE_SETTLED,
    OrderState,
)

#: States that nothing follows but a refund.
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


class Money(msgspec.Struct, array_like=True, gc=False):
    """What the purse decided about one order, in minor units."""

    held_minor: int = 0
    captured_minor: int = 0
    refunded_minor: int = 0
    action_url: str = ""
    #: Taken at once, not held: the provider knows no delayed capture.
    sale: bool = False
    #: The attempt at making a hold that was asked for last.
    attempt: int = 0
    #: The provider's reference of the hold that a confirmation will make.
    action_hold: str = ""
    #: By hold, what counts for nothing and is on its way back; None: nothing ever was.
    returning: dict[str, int] | None = None


class OrderView(msgspec.Struct, array_like=True, gc=False):
    """One order. Times are the log's, in milliseconds since the epoch."""

    # The wish. Where a decision repeats a part of it, the decision's word stands.
    placed: bool = False
    campaign: str = ""
    customer: str = ""
    quantity: int = 0
    currency: str = ""
    max_unit_price_minor: int = 0
    solo: bool = False
    opens_group: bool = False
    #: SHA-256 of the request that won the order's id; empty: not known yet.
    request_sha256: bytes = b""
    # The seat.
    seat: OrderState.ValueType = ORDER_STATE_PLACED
    seat_reason: str = ""
    unit_price_minor: int = 0
    settled_minor: int = 0
    #: The group knows that nothing is held any more.
    let_go: bool = False
    cancel_refused: str = ""
    # The money; None: the purse has said nothing.
    money: Money | None = None
    # When.
    created_ms: int = 0
    updated_ms: int = 0
    #: Changes of seat and money.
    changes: int = 0
    #: The time under which its customer's orders list it; 0: they do not list it yet.
    listed_ms: int = 0

    @property
    def known(self) -> bool:
        """Whether there is such an order: a purse alone does not make one."""
        return self.placed or self.seat != ORDER_STATE_PLACED

    @property
    def decided(self) -> bool:
        """Whether it has a seat, waits for one, or is over."""
        return self.seat != ORDER_STATE_PLACED

    @property
    def listable(self) -> bool:
        """Whether its customer's orders should list it, and do not yet under the right time."""
        return self.created_ms != self.listed_ms and self.known and bool(self.customer)

    @property
    def final(self) -> bool:
        """Whether nothing but a refund can follow."""
        return self.seat in FINAL

    @property
    def state(self) -> OrderState.ValueType:
        """Where the order stands."""
        money = self.money
        if self.seat == ORDER_STATE_SETTLED and money is not None and 0 < money.captured_minor <= money.refunded_minor:
            return ORDER_STATE_REFUNDED
        return self.seat

    @property
    def revision(self) -> int:
        """Counts the changes. The placing is the first, whether or not its fact has been read yet."""
        return 1 + self.changes

    @property
    def held_minor(self) -> int:
        """Money held now. The group's word that it is over counts when it is read before the purse's."""
        return 0 if self.money is None or self.settled_minor or self.let_go else self.money.held_minor

    @property
    def captured_minor(self) -> int:
        """Money captured, by whichever log told first."""
        return max(self.settled_minor, self.money.captured_minor if self.money else 0)

    @property
    def refunded_minor(self) -> int:
        """Money given back after capture."""
        return self.money.refunded_minor if self.money else 0

    @property
    def action_url(self) -> str:
        """Where the shopper confirms the payment; empty: nothing to do."""
        return "" if self.money is None or self.final else self.money.action_url

    def seen(self, time_ms: int) -> None:
        """Notes the time of something folded in. Only an order's fact, where there is one, says when it was made."""
        self.updated_ms = max(self.updated_ms, time_ms)
        if not self.placed:
            self.created_ms = min(self.created_ms or time_ms, time_ms)
