"""The state of one order in the group log, and the audit's own table of allowed transitions.

It is independent of the domain's table: an error in a shared table would go unnoticed.
"""

from __future__ import annotations

from enum import IntEnum

from groupbuy.groups.v1.decisions_pb2 import (
    RELEASE_REASON_CANCELLED,
    RELEASE_REASON_DECLINED,
    RELEASE_REASON_LAPSED,
    SeatReserved,
)
from msgspec import Struct


class SeatState(IntEnum):
    """The state of an order. SETTLED and all that follow are final."""

    UNKNOWN = 0
    #: Waits for the answer whether it is within the customer's limit. From rules version 2 on.
    ADMITTING = 1
    WAITLISTED = 2
    RESERVED = 3
    CONFIRMED = 4
    SETTLED = 5
    REFUSED = 6
    DECLINED = 7
    LAPSED = 8
    CANCELLED = 9
    RELEASED = 10

    @property
    def final(self) -> bool:
        """Whether the state is final."""
        return self >= SeatState.SETTLED

    @property
    def seated(self) -> bool:
        """Whether the order takes a seat."""
        return self in {SeatState.RESERVED, SeatState.CONFIRMED}

    @property
    def live(self) -> bool:
        """Whether the order takes a seat or waits for one. CONFIRMED members of a completed group are live, too."""
        return SeatState.WAITLISTED <= self <= SeatState.CONFIRMED


_UNKNOWN, _ADMITTING, _WAITLISTED = SeatState.UNKNOWN, SeatState.ADMITTING, SeatState.WAITLISTED
_RESERVED, _CONFIRMED = SeatState.RESERVED, SeatState.CONFIRMED

#: Event -> the states in which it is allowed.
ALLOWED: dict[str, frozenset[SeatState]] = {
    "admission_requested": frozenset({_UNKNOWN}),
    "seat_waitlisted": frozenset({_UNKNOWN, _ADMITTING}),
    "seat_reserved": frozenset({_UNKNOWN, _ADMITTING, _WAITLISTED}),
    "seat_refused": frozenset({_UNKNOWN, _ADMITTING}),
    "sold_out": frozenset({_WAITLISTED}),
    "member_confirmed": frozenset({_RESERVED}),
    "seat_released": frozenset({_WAITLISTED, _RESERVED, _CONFIRMED}),
    "member_settled": frozenset({_CONFIRMED}),
    "member_declined": frozenset({_CONFIRMED}),
}

#: Reason of a SeatReleased -> the final state. Other reasons: RELEASED.
ENDS: dict[int, SeatState] = {
    RELEASE_REASON_CANCELLED: SeatState.CANCELLED,
    RELEASE_REASON_LAPSED: SeatState.LAPSED,
    RELEASE_REASON_DECLINED: SeatState.DECLINED,
}


class Seat(Struct, array_like=True, gc=False):
    """One order in one group. Amounts are in minor units, times in milliseconds since the epoch."""

    order: str
    customer: str = ""
    quantity: int = 0
    state: SeatState = SeatState.UNKNOWN
    #: The requested hold.
    hold_minor: int = 0
    currency: str = ""
    reserved_until_ms: int = 0
    request_sha256: bytes = b""
    #: The provider's reference that confirmed the member.
    hold: str = ""
    #: The requested capture; -1 before the request.
    to_settle_minor: int = -1
    #: The capture that payments reported; -1 before the report.
    settled_minor: int = -1
    release_requested: bool = False
    #: Whether payments reported that no money is held any more.
    released: bool = False
    #: Whether a request to leave was refused.
    cancel_refused: bool = False
    #: Whether it asked for its admission to a limited campaign.
    limited: bool = False

    def reserve(self, event: SeatReserved) -> None:
        """Copies the fields of a reservation."""
        self.customer = event.customer
        self.quantity = event.quantity
        self.hold_minor = event.hold_amount_minor
        self.currency = event.currency
        self.reserved_until_ms = event.reserved_until_ms
        self.request_sha256 = event.request_sha256
        self.state = SeatState.RESERVED
