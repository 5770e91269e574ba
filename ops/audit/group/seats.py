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


class SeatState(IntEnum):
    """The state of an order. SETTLED and all that follow are final."""

    UNKNOWN = 0
    WAITLISTED = 1
    RESERVED = 2
    CONFIRMED = 3
    SETTLED = 4
    REFUSED = 5
    DECLINED = 6
    LAPSED = 7
    CANCELLED = 8
    RELEASED = 9

    @property
    def final(self) -> bool:
        """Whether the state is final."""
        return self >= SeatState.SETTLED

    @property
    def seated(self) -> bool:
        """Whether the order takes a seat."""
        return self in {SeatState.RESERVED, SeatState.CONFIRMED}


_UNKNOWN, _WAITLISTED = SeatState.UNKNOWN, SeatState.WAITLISTED
_RESERVED, _CONFIRMED = SeatState.RESERVED, SeatState.CONFIRMED

#: Event -> the states in which it is allowed.
ALLOWED: dict[str, frozenset[SeatState]] = {
    "seat_waitlisted": frozenset({_UNKNOWN}),
    "seat_reserved": frozenset({_UNKNOWN, _WAITLISTED}),
    "seat_refused": frozenset({_UNKNOWN, _WAITLISTED}),
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


class Seat:
    """One order in one group. Amounts are in minor units, times in milliseconds since the epoch."""

    __slots__ = (
        "currency",
        "customer",
        "hold",
        "hold_minor",
        "order",
        "quantity",
        "release_requested",
        "released",
        "request_sha256",
        "reserved_until_ms",
        "settled_minor",
        "state",
        "to_settle_minor",
    )

    def __init__(self, order: str) -> None:
        self.order = order
        self.customer = ""
        self.quantity = 0
        self.state = SeatState.UNKNOWN
        #: The requested hold.
        self.hold_minor = 0
        self.currency = ""
        self.reserved_until_ms = 0
        self.request_sha256 = b""
        #: The provider's reference that confirmed the member.
        self.hold = ""
        #: The requested capture; -1 before the request.
        self.to_settle_minor = -1
        #: The capture that payments reported; -1 before the report.
        self.settled_minor = -1
        self.release_requested = False
        #: Whether payments reported that no money is held any more.
        self.released = False

    def reserve(self, event: SeatReserved) -> None:
        """Copies the fields of a reservation."""
        self.customer = event.customer
        self.quantity = event.quantity
        self.hold_minor = event.hold_amount_minor
        self.currency = event.currency
        self.reserved_until_ms = event.reserved_until_ms
        self.request_sha256 = event.request_sha256
        self.state = SeatState.RESERVED
