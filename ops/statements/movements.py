"""Movements of money in a provider's statement, in one form for all providers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The kind of a movement."""

    CHARGE = "charge"
    REFUND = "refund"
    #: A refund came back: it failed or was reversed.
    REFUND_UNDONE = "refund undone"
    DISPUTE = "dispute"
    DISPUTE_REVERSAL = "dispute reversal"
    #: A fee of its own. The fee of a charge or a refund is in that movement.
    FEE = "fee"
    PAYOUT = "payout"
    PAYOUT_UNDONE = "payout undone"
    #: The provider's own correction.
    ADJUSTMENT = "adjustment"


@dataclass(frozen=True, slots=True)
class Movement:
    """One movement. Amounts are in minor units of ISO 4217, times in milliseconds since the epoch."""

    #: stripe or wechat.
    provider: str
    kind: Kind
    #: The provider's reference of the movement, which a statement has once.
    reference: str
    at_ms: int
    currency: str
    #: Change of the merchant's balance before the fee.
    amount_minor: int
    #: The provider's fee; negative if it was returned.
    fee_minor: int = 0
    #: The provider's reference of the payment, as in our payment log; empty for a payout.
    hold: str = ""
    #: Our ids in the payment's metadata; empty if the statement has none.
    order: str = ""
    group: str = ""
    #: Id of the deployment in the metadata.
    environment: str = ""
    #: The object of the movement: a refund, a dispute, a payout.
    source: str = ""
