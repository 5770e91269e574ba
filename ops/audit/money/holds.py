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
    #: Money that reached the customer beside the charge, by the provider or by other means: returns without a command.
    own_refunds: int = 0
    #: Money that reached the customer out of the charge: refunds by command or by persons, and lost disputes.
    charge_refunds: int = 0
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
    #: Unexpected funds that an operator assigned to the merchant.
    suspense_kept: int = 0
    #: Withdrawn from the merchant by disputes that are open, and taken by disputes that are lost.
    disputed: int = 0
    lost: int = 0
    #: Fees of the provider.
    fees: int = 0
    #: Whether the provider reports its fees for this payment, and not for disputes alone.
    fees_reported: bool = False
    #: Whether it is about to end before its capture succeeded.
    at_risk: bool = False
    #: The part of lost disputes that reduced the charge.
    lost_charge: int = 0
    #: The part of funds assigned to the merchant that a person returned all the same.
    kept_given_back: int = 0

    def lose(self, amount: int) -> None:
        """A lost dispute: it first covers what may not be kept and is not returned, then it reduces the charge."""
        self.lost += amount
        self.charge_refunds += amount
        self.lost_charge += amount
        self.cover()

    def covered(self, pending: int = 0) -> int:
        """The part of lost disputes that covers what may not be kept, if a `pending` refund returns its part of it."""
        beside = self.merchants + self.lost - self.lost_charge - self.kept - pending
        return min(self.lost, max(0, beside))

    def cover(self) -> None:
        """Lost disputes cover what may not be kept, as far as nothing else returned it."""
        part = self.covered() - (self.lost - self.lost_charge)
        self.lost_charge -= part
        self.charge_refunds -= part
        self.own_refunds += part

    def charge_back(self, *, by_hand: bool) -> int:
        """A sale is charged though persons (`by_hand`) or disputes returned more than the difference.

        The rest reduced the charge. Returns the part of persons.
        """
        lost = self.lost - self.lost_charge
        above = max(self.own_refunds - (self.captured - self.kept), 0)
        above = above if by_hand else min(above, lost)
        self.own_refunds -= above
        self.charge_refunds += above
        self.lost_charge += min(above, lost)
        return max(0, above - lost)

    def give_back_kept(self) -> None:
        """A person returned funds that an operator had assigned to the merchant: they are the merchant's no more."""
        back = min(self.suspense_kept, max(0, self.kept - self.merchants))
        self.suspense_kept -= back
        self.kept_given_back += back

    def keep_again(self, amount: int) -> None:
        """A person's refund came back: the merchant has what it gave back of funds assigned to it."""
        again = min(self.kept_given_back, amount)
        self.kept_given_back -= again
        self.suspense_kept += again

    @property
    def open(self) -> int:
        """Still held."""
        return self.held - self.captured - self.released

    @property
    def charge_left(self) -> int:
        """The part of the charge that the customer has not got back."""
        return self.kept - self.charge_refunds

    @property
    def merchants(self) -> int:
        """Taken, less what may not be kept and was returned: equals the charge if nothing is left to return."""
        return self.captured - self.own_refunds - self.suspense_kept

    @property
    def suspense_left(self) -> int:
        """Unexpected funds that are not returned yet."""
        taken = self.merchants - self.kept
        return min(self.unexpected, max(0, taken + (self.open if self.suspense else 0)))


class Owed(Struct, array_like=True, gc=False):
    """A sum that is due to the customer, because the provider refused to return it or took it back."""

    hold: str
    #: Id of the refund; empty for a return without a command.
    refund: str
    amount: int
    reason: str
    #: Whether no attempt follows, so that an operator has to act.
    alarm: bool


class Dispute(Struct, array_like=True, gc=False):
    """A dispute that is open."""

    hold: str
    withdrawn: int


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
    #: Due to the shopper, but the provider declined its refund. Under rules version 2, `debts` have it.
    declined_minor: int = 0
    #: Owed sums, by hold and refund.
    debts: dict[str, Owed] = field(default_factory=dict)
    #: The keys of all sums that were ever owed.
    owed_ever: set[str] = field(default_factory=set)
    #: Its shares in payouts, by payout and currency.
    payouts: dict[tuple[str, str], int] = field(default_factory=dict)
    #: Disputes that are open, by the provider's id.
    disputes: dict[str, Dispute] = field(default_factory=dict)
    #: The provider's references that were recorded: of operations by persons with their part of the charge, of fees,
    #: payouts and warnings.
    references: dict[str, int] = field(default_factory=dict)
    #: Pending calls that an operator has to look at, and why.
    alarms: dict[str, str] = field(default_factory=dict)
    #: Whether a hold had unexpected funds, or was about to end before its capture.
    hold_alarms: bool = False
    #: Money that went back to the customer twice, by `owed_key`: an operator has to explain it.
    returned_twice: dict[str, int] = field(default_factory=dict)
    #: Money that refund commands returned, by command, without that which went back twice.
    returned: dict[str, int] = field(default_factory=dict)
    #: Refund commands that were accepted or declined, by id.
    refunds: dict[str, RefundRequest] = field(default_factory=dict)
    #: Whether the release is complete.
    released: bool = False
    #: The payment method of the hold requests.
    method: str = ""

    @property
    def refundable(self) -> int:
        """The charge less what was returned of it, what disputes have withdrawn, and pending refunds by command."""
        left = sum(hold.charge_left for hold in self.holds.values())
        for reference, amount in self.returns.items():
            hold = self.holds.get(reference)
            if hold is not None:
                left -= hold.covered() - hold.covered(amount)
        disputed = sum(one.withdrawn for one in self.disputes.values())
        return left - disputed - sum(self.commanded.values())

    @property
    def owed(self) -> int:
        """Money that the provider refused to return, or took back."""
        return self.declined_minor + sum(debt.amount for debt in self.debts.values())

    @property
    def due(self) -> int:
        """Money owed, and refunds that are pending."""
        # The refund of an owed sum is pending while it is tried again.
        known = {(debt.hold, debt.refund) for debt in self.debts.values()}
        returns = sum(amount for hold, amount in self.returns.items() if (hold, "") not in known)
        commands = {refund for _, refund in known}
        commanded = sum(amount for refund, amount in self.commanded.items() if refund not in commands)
        return self.owed + returns + commanded
