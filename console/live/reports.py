"""The report that the fold process sends to the console after each round. Times are in milliseconds since the epoch.

Amounts are in minor units. No report has the id of a customer.
"""

from __future__ import annotations

from msgspec import Struct

from eventlog.records.packed import Packed
from ops.watch.worker import Progress

#: How long a live room is shown after its last seat, and over which time its seats count.
ROOM_MS = 600_000
#: Kinds of Ending that went well, and those that an operator may want to look at.
WELL = ("completed", "settled")
BADLY = ("expired", "cancelled", "declined", "unexpected funds", "rules failed")


class Card(Struct, array_like=True, gc=False):
    """A forming group."""

    key: str
    campaign: str
    product: str
    currency: str
    solo_price_minor: int
    #: Members and price of each tier, ascending.
    tiers: tuple[tuple[int, int], ...]
    capacity: int
    #: Members whose money is held.
    confirmed: int
    #: Seats that are reserved or confirmed.
    taken: int
    opened_ms: int
    deadline_ms: int
    version: int
    #: Times of the newest seats.
    joins: tuple[int, ...] = ()
    #: Label of the live room that brought most of its seats; empty: none did.
    room: str = ""


class Ending(Struct, array_like=True, gc=False):
    """A group that closed or was settled, or a payment that failed."""

    kind: str
    key: str
    campaign: str
    product: str
    at_ms: int
    members: int = 0
    #: Price per piece of a completed group; the amount of a payment.
    amount_minor: int = 0
    currency: str = ""
    what: str = ""
    #: Label of the live room that brought most of the group's seats; empty: none did.
    room: str = ""


class Room(Struct, array_like=True, gc=False):
    """A live room in one campaign: seats and groups that its link brought within ROOM_MS."""

    label: str
    campaign: str
    seats: int
    groups: int
    last_ms: int


class Report(Struct, array_like=True):
    """The changes of one round."""

    progress: Progress
    #: Whether all earlier cards are to be forgotten.
    reset: bool = False
    cards: list[Card] = []
    #: Groups that are not forming any more.
    gone: list[str] = []
    endings: list[Ending] = []
    #: None: unchanged.
    rooms: list[Room] | None = None
    #: The number of forming groups, with those that have no card, and with solo purchases in progress.
    forming: int = 0
    #: Groups with new records.
    touched: list[str] = []


REPORT: Packed[Report] = Packed(Report)
