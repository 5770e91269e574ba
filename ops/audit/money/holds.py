"""The money of one order, folded from the payment log: its holds, its pending calls and its requests.

GroupPaymentsFold fills these records; the checks read them. Amounts are in minor units.
"""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct, field


class Intent(IntEnum):
    """The outcome that the group wants for an order's money. It only moves forward."""

    #: The group has not named the order.
    NONE = 0
    HOLD = 1
    CAPTURE = 2
    RELEASE = 3


class Hold(Struct, array_like=True, gc=False):
    """One hold at the provider, as the payment log has it."""

    order: str
    held: int
    currency: str
    #: Taken at once, by a provider without delayed capture.
    sale: bool = False
    captured: int = 0
    #: Unexpected funds, which have to be returned.
    suspense: int = 0
    released: int = 0
    #: Refunded in total.
    refunded: int = 0
    #: The part of `refunded` without a refund command.
    own_refunds: int = 0
    #: The number of captures; the settlement of a sale counts as one.
    captures: int = 0
    #: The final charge.
    kept: int = 0
    #: The part of `released` that the provider ended by itself.
    lapsed: int = 0
    #: All unexpected funds that were recorded for this hold.
    unexpected: int = 0
    #: When it was authorised, and until when it can be captured (0: unknown), in milliseconds since the epoch.
    authorised_ms: int = 0
    capturable_until_ms: int = 0
    #: Whether a void was requested.
    void_requested: bool = False

    @property
    def open(self) -> int:
        """Still held."""
        return self.held - self.captured - self.released

    @property
    def suspense_left(self) -> int:
        """Unexpected funds that are not returned yet."""
        taken = self.captured - self.kept - self.own_refunds
        return min(self.unexpected, max(0, taken + (self.open if self.suspense else 0)))


class RefundRequest(Struct, array_like=True, gc=False):
    """A refund command as the payment log has it. Amounts are in minor units."""

    #: The requested amount; 0 if the rules declined the command.
    amount: int
    #: The charge less other refunds by command, at the time of the request.
    left: int


class Payment(Struct, array_like=True):
    """The payment of one order."""

    intent: Intent = Intent.NONE
    sale: bool = False
    holds: dict[str, Hold] = field(default_factory=dict)
    #: The order's own hold.
    hold: str = ""
    #: Where the shopper confirms, and the hold that the confirmation opens.
    action_url: str = ""
    action_hold: str = ""
    #: All holds that ever waited for the shopper's confirmation.
    unconfirmed: set[str] = field(default_factory=set)
    #: Calls without a final result, and when each was requested, in milliseconds since the epoch: "hold", "capture",
    #: "void {hold}", "refund {id}" for a refund command and "return {hold}" for a refund without one.
    pending: dict[str, int] = field(default_factory=dict)
    #: Attempt of the pending "hold", and whether it waits for its retry.
    hold_attempt: int = 0
    hold_deferred: bool = False
    #: Amount of the first hold request, and the number of hold requests.
    requested_minor: int = 0
    hold_requests: int = 0
    #: Amount of the last hold request.
    renewed_minor: int = 0
    currency: str = ""
    #: Inbox offset of the input that led to the capture; -1: no capture was requested.
    capture_cause: int = -1
    #: Inbox offset of the report of a capture that nobody requested; -1: there is none.
    unasked_cause: int = -1
    capture_minor: int = 0
    #: Whether the order is charged.
    captured: bool = False
    #: Whether the provider declined the hold or the capture.
    failed: bool = False
    #: Amounts of the pending refunds without a command, by hold, in the order of their requests.
    returns: dict[str, int] = field(default_factory=dict)
    #: Amounts of the pending refunds with a command, by command.
    commanded: dict[str, int] = field(default_factory=dict)
    #: Due to the shopper, but the provider declined its refund.
    declined_minor: int = 0
    #: Refund commands that were accepted or declined, by id.
    refunds: dict[str, RefundRequest] = field(default_factory=dict)
    #: Whether the release is complete.
    released: bool = False
    #: The payment method of the hold requests.
    method: str = ""

    @property
    def refundable(self) -> int:
        """The charge less the refunds by command that are made or pending."""
        return sum(hold.kept - (hold.refunded - hold.own_refunds) for hold in self.holds.values()) - sum(
            self.commanded.values()
        )

    @property
    def owed(self) -> int:
        """Refunds that the provider has not made yet."""
        return self.declined_minor + sum(self.returns.values()) + sum(self.commanded.values())
