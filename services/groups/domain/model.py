"""State of one group: the fold of its decisions, and nothing that is not in them.

An order is in exactly one of `waiting`, `reserved`, `confirmed` and `ended`, or unknown. At its end one small integer
is left of it, so a closed group shrinks by itself to a stub; the integers stay, so that nothing late is ever taken for
new. Must never be changed by anything but evolve.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import msgspec

from services.groups.domain.terms import Terms


class Phase(IntEnum):
    """Where a group stands. The last three are absorbing."""

    UNOPENED = 0
    FORMING = 1
    COMPLETED = 2
    EXPIRED = 3
    CANCELLED = 4


class OrderStatus(IntEnum):
    """Where an order stands within its group."""

    UNKNOWN = 0
    # Ends: nothing can give such an order a seat again.
    REFUSED = 1
    CANCELLED = 2
    LAPSED = 3
    DECLINED = 4
    RELEASED = 5
    SETTLED = 6
    FAILED = 7
    #: Money came for it, but the order itself never did.
    ORPHANED = 8
    # Live.
    WAITLISTED = 9
    RESERVED = 10
    CONFIRMED = 11
    #: The group has completed; the member is to be charged.
    SETTLING = 12


#: What is kept of an order at its end: its standing in the low bits, and what must not happen twice.
STANDING_BITS = 15
RELEASE_REQUESTED = 16
RELEASE_DONE = 32
CANCEL_REFUSED = 64


# Looking a member up in its enumeration takes as long as the rest of `standing`, which runs once an input.
_FORMING = Phase.FORMING
_UNKNOWN = OrderStatus.UNKNOWN
_WAITLISTED = OrderStatus.WAITLISTED
_RESERVED = OrderStatus.RESERVED
_CONFIRMED = OrderStatus.CONFIRMED
_SETTLING = OrderStatus.SETTLING


class Seat(msgspec.Struct, array_like=True, gc=False):
    """A seat and who has it."""

    customer: str
    #: Pieces.
    quantity: int
    #: Until when it waits for money, in milliseconds since the epoch; 0 once confirmed.
    until_ms: int
    #: The provider's reference of the hold; empty until confirmed.
    hold: str = ""
    #: Whether a cancel that came after completion has had its answer.
    cancel_refused: bool = False


class WaitlistEntry(msgspec.Struct, array_like=True, gc=False):
    """An order that waits for a seat, with all that its reservation will have to say."""

    customer: str
    #: Pieces.
    quantity: int
    payment_method: str
    request_sha256: bytes
    #: How the customer was invited, an encoded Invitation; empty: not by a link.
    invitation: bytes = b""


@dataclass(slots=True)
class State:
    """One group.

    The order of its mappings counts. They are plain dicts, which are faster and smaller than ordered ones; but to find
    their first entry these walk over those that left before it: at most 2,000, in about 2 µs.
    """

    phase: Phase = Phase.UNOPENED
    #: None: not opened.
    terms: Terms | None = None
    #: Order that leads; empty: nobody is confirmed, the next one to be leads.
    leader: str = ""
    #: When it opened and when it closes at the latest, in milliseconds since the epoch.
    opened_ms: int = 0
    deadline_ms: int = 0
    #: Seats that wait for money. Time never runs backwards and the hold window is one, so the first lapses first.
    reserved: dict[str, Seat] = field(default_factory=dict)
    #: Members by order of confirmation; after completion those who are still to be charged.
    confirmed: dict[str, Seat] = field(default_factory=dict)
    #: First come, first served.
    waiting: dict[str, WaitlistEntry] = field(default_factory=dict)
    #: Live orders of each customer, while the group forms.
    customers: dict[str, int] = field(default_factory=dict)
    #: Orders at their end.
    ended: dict[str, int] = field(default_factory=dict)
    #: Tiers announced so far.
    tiers_reached: int = 0
    #: When a seat was last taken, in milliseconds since the epoch.
    seated_ms: int = 0
    #: Confirmed members when it closed.
    members: int = 0
    #: Price of one piece that it completed at, in minor units.
    unit_price_minor: int = 0
    #: Members charged, members who could not be, and the money, in minor units.
    settled: int = 0
    failed: int = 0
    captured_minor: int = 0
    #: Orders whose money is asked back but not reported back.
    unreleased: int = 0

    def standing(self, order: str) -> OrderStatus:
        """Where an order stands."""
        ended = self.ended.get(order)
        if ended is not None:
            return _STANDINGS[ended & STANDING_BITS]
        if order in self.reserved:
            return _RESERVED
        if order in self.confirmed:
            return _CONFIRMED if self.phase is _FORMING else _SETTLING
        return _WAITLISTED if order in self.waiting else _UNKNOWN

    @property
    def frozen(self) -> Terms:
        """The terms. Raises ValueError in a group that never opened."""
        if self.terms is None:
            raise ValueError("the group never opened")
        return self.terms

    @property
    def seats_left(self) -> int:
        """Seats that nobody has; 0 once the group is closed."""
        if self.terms is None or self.phase is not _FORMING:
            return 0
        return self.terms.capacity - len(self.reserved) - len(self.confirmed)

    @property
    def is_done(self) -> bool:
        """Whether all that was to be charged or let go has been: no input but a new order can add anything."""
        closed = self.phase > Phase.FORMING
        return closed and not (self.reserved or self.confirmed or self.waiting or self.unreleased)


_STANDINGS = tuple(OrderStatus)
