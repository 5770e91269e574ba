"""The money of one order, folded from the payment log: its holds, its pending calls and its requests.

GroupPaymentsFold fills these records; the checks read them. Amounts are in minor units.
"""

from __future__ import annotations

from enum import IntEnum


class Intent(IntEnum):
    """The outcome that the group wants for an order's money. It only moves forward."""

    #: The group has not named the order.
    NONE = 0
    HOLD = 1
    CAPTURE = 2
    RELEASE = 3


class Hold:
    """One hold at the provider, as the payment log has it."""

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
        #: Unexpected funds, which have to be returned.
        self.suspense = 0
        self.released = 0
        #: Refunded in total.
        self.refunded = 0
        #: The part of `refunded` without a refund command.
        self.own_refunds = 0
        #: The number of captures; the settlement of a sale counts as one.
        self.captures = 0
        #: The final charge.
        self.kept = 0

    @property
    def open(self) -> int:
        """Still held."""
        return self.held - self.captured - self.released


class Payment:
    """The payment of one order."""

    __slots__ = (
        "action_hold",
        "action_url",
        "capture_cause",
        "capture_minor",
        "captured",
        "currency",
        "failed",
        "hold",
        "hold_attempt",
        "hold_deferred",
        "hold_requests",
        "holds",
        "intent",
        "pending",
        "refunds",
        "released",
        "requested_minor",
        "returns",
        "sale",
        "unconfirmed",
    )

    def __init__(self) -> None:
        self.intent = Intent.NONE
        self.sale = False
        self.holds: dict[str, Hold] = {}
        #: The order's own hold.
        self.hold = ""
        #: Where the shopper confirms, and the hold that the confirmation opens.
        self.action_url = self.action_hold = ""
        #: All holds that ever waited for the shopper's confirmation.
        self.unconfirmed: set[str] = set()
        #: Calls without a final result: "hold", "capture", "void {hold}", "refund {id}" for a refund command and
        #: "return {hold}" for a refund without one.
        self.pending: set[str] = set()
        #: Attempt of the pending "hold", and whether it waits for its retry.
        self.hold_attempt = 0
        self.hold_deferred = False
        #: Amount of the first hold request, and the number of hold requests.
        self.requested_minor = 0
        self.hold_requests = 0
        self.currency = ""
        #: Inbox offset of the input that led to the capture; -1: no capture was requested.
        self.capture_cause = -1
        self.capture_minor = 0
        #: Whether the order is charged.
        self.captured = False
        #: Whether the provider declined the hold or the capture.
        self.failed = False
        #: Amounts of the pending refunds without a command, by hold, in the order of their requests.
        self.returns: dict[str, int] = {}
        #: Refund commands that were accepted or declined.
        self.refunds: set[str] = set()
        #: Whether the release is complete.
        self.released = False
