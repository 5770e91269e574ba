"""Parts of a payment's state that a provider changes by itself: debts, disputes, refunds that may be reversed.

Stored as their values in the order of declaration, like the rest of the state (model.py). Amounts are in minor units,
times in milliseconds since the epoch.
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import sha256
from typing import TypeAlias

import msgspec
from groupbuy.payments.v1.decisions_pb2 import OperatorAction

#: The retry time of a call that is given up: no timer reaches it.
NEVER_MS = 1 << 62


class TimerKind(IntEnum):
    """The purpose of a timer of a group's payments."""

    #: The refund of an owed sum is requested again.
    OWED = 0
    #: The return of money in suspense is requested.
    SUSPENSE = 1
    #: A hold is checked before its group closes.
    CHECK = 2


#: When, order, kind, and the owed key or the hold.
Timer: TypeAlias = tuple[int, str, int, str]


class DisputeStatus(IntEnum):
    """Status of a dispute."""

    OPEN = 0
    WON = 1
    LOST = 2


class Owed(msgspec.Struct, array_like=True, gc=False):
    """A sum that is due to the customer, because the provider refused to return it or took it back."""

    hold: str
    #: Id of the commanded refund; empty for a return without a command.
    refund: str
    amount: int
    currency: str
    reason: str
    #: Refunds of the sum that the provider refused or took back.
    failures: int
    #: When the refund is requested again; 0: it is pending, or no attempt follows.
    next_ms: int
    #: No attempt follows: an operator has to act.
    alarm: bool


class PaidRefund(msgspec.Struct, array_like=True, gc=False):
    """A refund that succeeded, which the provider may take back."""

    hold: str
    refund: str
    amount: int
    #: It had been declined before: a late copy of that report does not take it back.
    after_decline: bool = False


class Dispute(msgspec.Struct, array_like=True, gc=False):
    """A dispute of a charge."""

    hold: str
    status: DisputeStatus
    amount: int
    currency: str
    #: Withdrawn from the merchant; 0 for an inquiry.
    withdrawn_amount: int
    fee: int
    evidence_due_ms: int

    def withdrawn(self) -> int:
        """The amount that is not the merchant's: until the dispute ends, or for good."""
        return 0 if self.status is DisputeStatus.WON else self.withdrawn_amount


class Adjustment(msgspec.Struct, array_like=True, gc=False):
    """A proposed adjustment of the ledger."""

    order: str
    hold: str
    from_account: int
    to_account: int
    amount: int
    currency: str
    #: Identity of the operator who proposed it; another one has to approve it.
    operator: str


class Acted(msgspec.Struct, array_like=True, gc=False):
    """A decided command of an operator."""

    #: Why the rules refused it; empty: it was done.
    refusal: str
    #: Identity of the operator.
    operator: str
    #: Digest of the action and the reason: detects another command under the same request id.
    digest: bytes


def action_digest(action: OperatorAction, reason: str) -> bytes:
    """SHA-256 of an operator's action and reason."""
    return sha256(action.SerializeToString(deterministic=True) + reason.encode()).digest()


def owed_key(hold: str, refund: str) -> str:
    """Name of the sum that is owed for a hold and a refund."""
    return f"{hold} {refund}"
