"""What our log tells of one order's money: its holds, its calls without an answer, what it was asked for.

Plain records that PurseFold fills and the checks read. Amounts are in minor units.
"""

from __future__ import annotations


class Hold:
    """One hold at the provider, as our log tells it. Amounts are in minor units."""

    __slots__ = (
        "captured",
        "captures",
        "currency",
        "held",
        "kept",
        "order",
        "own_refunds",
        "refunded",
        "released",
        "sale",
        "suspense",
    )

    def __init__(self, order: str, held: int, currency: str, sale: bool) -> None:
        self.order = order
        self.held = held
        self.currency = currency
        #: Taken at once, by a provider without delayed capture.
        self.sale = sale
        self.captured = held if sale else 0
        #: Money that nobody had asked for, and that has to go back.
        self.suspense = 0
        self.released = 0
        #: All that was given back after it had been taken.
        self.refunded = 0
        #: Of that, what the purse gave back by itself.
        self.own_refunds = 0
        #: Captures that took effect; a sale's money is settled by one, too.
        self.captures = 0
        #: What the order was charged in the end.
        self.kept = 0

    @property
    def open(self) -> int:
        """Still held."""
        return self.held - self.captured - self.released


class Payment:
    """All that happened to the money of one order."""

    __slots__ = (
        "ask_minor",
        "asks",
        "capture_cause",
        "capture_minor",
        "currency",
        "failed",
        "holds",
        "pending",
        "refunds",
        "released",
        "unconfirmed",
    )

    def __init__(self) -> None:
        self.holds: dict[str, Hold] = {}
        #: Holds that will be once the shopper has confirmed them.
        self.unconfirmed: set[str] = set()
        #: Calls without an answer yet: what they are about.
        self.pending: set[str] = set()
        #: First amount that was asked to be held, and how often it was asked.
        self.ask_minor = 0
        self.asks = 0
        self.currency = ""
        #: Inbox offset that made the purse ask for the capture; -1: it did not.
        self.capture_cause = -1
        self.capture_minor = 0
        #: Whether the provider refused for good, to hold or to capture.
        self.failed = False
        #: Refunds that the purse knows of, asked for or refused.
        self.refunds: set[str] = set()
        #: Whether the purse declared the release done.
        self.released = False
