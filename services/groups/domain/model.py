"""State of one group: the fold of its decisions. Only `evolve` changes it.

An order is in exactly one of `supply.admitting`, `waitlist`, `reserved`, `confirmed` and `ended`, or it is unknown. An
ended order is kept as one small integer, so that a late input of it is not taken for a new order. A closed group is
small for that reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import msgspec

from services.groups.domain.terms import Terms


class Phase(IntEnum):
    """Phase of a group. The last three are final."""

    UNOPENED = 0
    FORMING = 1
    COMPLETED = 2
    EXPIRED = 3
    CANCELLED = 4


class OrderStatus(IntEnum):
    """Status of an order within its group. docs/glossary.md maps it to the order states of the API."""

    UNKNOWN = 0
    # Final: the order can't get a seat again.
    REFUSED = 1
    CANCELLED = 2
    LAPSED = 3
    #: The provider declined the hold, or payments released the order, before the group completed.
    HOLD_DECLINED = 4
    RELEASED = 5
    SETTLED = 6
    #: The provider declined the capture of a member, or the renewal of its hold, after the group completed.
    CAPTURE_DECLINED = 7
    #: Known from a payment alone; the order itself has not come.
    ORPHANED = 8
    # Live.
    WAITLISTED = 9
    RESERVED = 10
    CONFIRMED = 11
    #: A member of a completed group whose capture is pending.
    SETTLING = 12
    #: Waits for the answer whether it is within the customer's limit.
    ADMITTING = 13


#: An ended order is one integer: its status in the low bits, and flags of the events that it may have once only.
STATUS_BITS = 15
RELEASE_REQUESTED = 16
RELEASE_DONE = 32
CANCEL_REFUSED = 64


# Local copies: a lookup in the enumeration takes as long as the rest of `status`, which runs once an input.
_FORMING = Phase.FORMING
_UNKNOWN = OrderStatus.UNKNOWN
_WAITLISTED = OrderStatus.WAITLISTED
_RESERVED = OrderStatus.RESERVED
_CONFIRMED = OrderStatus.CONFIRMED
_SETTLING = OrderStatus.SETTLING
_ADMITTING = OrderStatus.ADMITTING


class Seat(msgspec.Struct, array_like=True, gc=False):
    """A reserved or confirmed seat."""

    customer: str
    #: Pieces.
    quantity: int
    #: End of its hold window, in milliseconds since the epoch; 0 once confirmed.
    until_ms: int
    #: Reference of the hold at the provider; empty until confirmed.
    hold: str = ""
    #: Whether a cancel after completion was refused already.
    cancel_refused: bool = False


class WaitlistEntry(msgspec.Struct, array_like=True, gc=False):
    """An order in the waitlist, with the fields that its reservation needs."""

    customer: str
    #: Pieces.
    quantity: int
    payment_method: str
    request_sha256: bytes
    #: The encoded Invitation of its share link; empty if it came without one.
    invitation: bytes = b""


class Supply(msgspec.Struct, array_like=True, gc=False):
    """The pieces and allowances of a group, from rules version 2 on."""

    #: Pieces that the group has from its stock item, less those reported as sold and those given back.
    leased: int = 0
    #: Pieces of reserved and confirmed seats.
    pieces: int = 0
    #: Pieces of charged members that are not reported yet.
    sold: int = 0
    #: Whether a request for pieces has no final answer yet, and whether there ever was one.
    asked: bool = False
    ever_asked: bool = False
    #: Whether the last answer was that there are too few pieces.
    sold_out: bool = False
    #: Whether the stock item was told that the group asks for no more.
    closed: bool = False
    #: Version of the stock item's last decision that was taken into account.
    stock_version: int = 0
    #: Orders that wait for the answer whether they are within the customer's limit.
    admitting: dict[str, WaitlistEntry] = {}
    #: Customers of ended orders whose allowance was not given back yet, by order.
    unreturned: dict[str, str] = {}

    @property
    def idle(self) -> int:
        """Pieces of the group that are in no seat."""
        return self.leased - self.pieces - self.sold


@dataclass(slots=True)
class State:
    """One group.

    The order of the mappings is part of the state. They are plain dicts, which are faster and smaller than OrderedDict;
    finding the first entry passes over deleted ones: at most 2,000, in about 2 µs.
    """

    phase: Phase = Phase.UNOPENED
    #: None until the group is opened.
    terms: Terms | None = None
    #: Order of the leader; empty if no member is confirmed: the next one then becomes the leader.
    leader: str = ""
    #: Opening and deadline, in milliseconds since the epoch.
    opened_ms: int = 0
    deadline_ms: int = 0
    #: Seats without a hold. Decision times do not decrease and all hold windows are equal, so the first lapses first.
    reserved: dict[str, Seat] = field(default_factory=dict)
    #: Members in the order of confirmation; after completion the members whose capture is pending.
    confirmed: dict[str, Seat] = field(default_factory=dict)
    #: First come, first served.
    waitlist: dict[str, WaitlistEntry] = field(default_factory=dict)
    #: Live orders of each customer, while the group forms.
    customers: dict[str, int] = field(default_factory=dict)
    #: Ended orders: status and flags.
    ended: dict[str, int] = field(default_factory=dict)
    #: Tiers announced so far.
    tiers_reached: int = 0
    #: When a seat was last taken, in milliseconds since the epoch.
    seated_ms: int = 0
    #: Number of confirmed members when the group closed.
    members: int = 0
    #: Price of one piece at completion, in minor units.
    unit_price_minor: int = 0
    #: Members charged, members whose charge was declined, and the sum captured in minor units.
    settled: int = 0
    declined: int = 0
    captured_minor: int = 0
    #: Orders with a release request that payments has not confirmed yet.
    unreleased: int = 0
    #: None for a group of rules version 1.
    supply: Supply | None = None
    #: Sums that payments owe to customers, by order, hold and refund.
    owed: dict[str, int] = field(default_factory=dict)
    #: Pieces of the members charged.
    charged_pieces: int = 0
    #: Version of the last decision of payments that changed `owed`.
    owed_version: int = 0

    def status(self, order: str) -> OrderStatus:
        """Status of an order."""
        ended = self.ended.get(order)
        if ended is not None:
            return _STATUSES[ended & STATUS_BITS]
        if order in self.reserved:
            return _RESERVED
        if order in self.confirmed:
            return _CONFIRMED if self.phase is _FORMING else _SETTLING
        if order in self.waitlist:
            return _WAITLISTED
        return _ADMITTING if self.supply is not None and order in self.supply.admitting else _UNKNOWN

    @property
    def frozen(self) -> Terms:
        """The terms. Raises ValueError if the group was not opened."""
        if self.terms is None:
            # The text of an error in the rules is part of the Faulted event, so it stays.
            raise ValueError("the group never opened")
        return self.terms

    @property
    def seats_left(self) -> int:
        """Number of free seats; 0 once the group is closed."""
        if self.terms is None or self.phase is not _FORMING:
            return 0
        return self.terms.capacity - len(self.reserved) - len(self.confirmed)

    @property
    def is_done(self) -> bool:
        """Whether every charge and release of a closed group has finished, and nothing is owed.

        Then only a new order can add an event, or a refund that comes back, after which the group is not done.
        """
        closed = self.phase > Phase.FORMING
        supply = self.supply
        if supply is not None and (supply.leased or supply.admitting or supply.unreturned):
            return False
        return closed and not (self.reserved or self.confirmed or self.waitlist or self.unreleased or self.owed)


_STATUSES = tuple(OrderStatus)


def owed_key(order: str, hold: str, refund: str) -> str:
    """Name of a sum that is owed."""
    return f"{order} {hold} {refund}"
