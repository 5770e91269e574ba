"""Parts of a payment's state: its intent, its holds, and its pending calls and refunds.

Stored as their values in the order of declaration, like the rest of the state (model.py). Amounts are in minor units,
times in milliseconds since the epoch.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

import msgspec
from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import Operation

#: Payment methods with this prefix have no delayed capture: the provider takes the money at once, by a sale.
SALE_PREFIX = "wallet_"

#: Operations that open a hold.
HOLD_OPENING = frozenset({pb.OPERATION_AUTHORISE, pb.OPERATION_SALE})
#: Operations that end a hold.
HOLD_ENDING = frozenset({pb.OPERATION_CAPTURE, pb.OPERATION_VOID})
#: Name of the check of an order's hold among its pending calls: it is made once.
CHECK = (pb.OPERATION_CHECK, 1)

#: The field that counts an operation's attempts. An order has either authorisations or sales, so they share one.
COUNTERS = {
    pb.OPERATION_AUTHORISE: "hold_attempts",
    pb.OPERATION_SALE: "hold_attempts",
    pb.OPERATION_CAPTURE: "capture_attempts",
    pb.OPERATION_VOID: "void_attempts",
    pb.OPERATION_REFUND: "refund_attempts",
}

#: When to retry, order, operation, attempt.
Retry: TypeAlias = "tuple[int, str, Operation.ValueType, int]"


class Intent(IntEnum):
    """The outcome that the group wants for an order's money. It only moves forward."""

    #: The group has not named the order: money or a refund command arrived first.
    NONE = 0
    HOLD = 1
    CAPTURE = 2
    RELEASE = 3


class RefundStatus(IntEnum):
    """Progress of a commanded refund."""

    PENDING = 0
    SUCCEEDED = 1
    DECLINED = 2
    #: It had succeeded and the provider took it back; the amount is owed.
    REVERSED = 3


class Call(msgspec.Struct, array_like=True, gc=False):
    """A pending call to the provider: in flight, or deferred until its retry is due."""

    operation: Operation.ValueType
    attempt: int
    amount: int
    #: The hold that the call acts on; empty for a call that opens one.
    hold: str
    #: Id of the commanded refund; empty for a refund without a command.
    refund: str
    #: How often the call was deferred.
    deferrals: int = 0
    #: When the call is retried; 0: it is in flight; NEVER_MS: it was given up.
    retry_at_ms: int = 0
    #: An operator approved this return of unexpected funds.
    approved: bool = False


class Hold(msgspec.Struct, array_like=True, gc=False):
    """Balances of one hold.

    HoldAuthorised opens it: `held` for an authorisation, `taken` for a sale. Captured moves held money to `taken` and
    releases the rest. Voided and HoldLapsed release what is held. SuspenseRecorded adds unexpected funds to
    `suspense`; the request that follows shows whether they are held (VoidRequested) or taken (RefundRequested).
    Refunded returns taken money. In the end nothing is held, and what is taken and not returned is the order's charge.
    """

    currency: str
    #: Held now.
    held: int = 0
    #: Taken so far.
    taken: int = 0
    #: Returned without a refund command.
    returned: int = 0
    #: Due to the customer, but the provider declined its refund; an operator has to settle it.
    owed: int = 0
    #: Reported, and not known yet to be held or taken.
    suspense: int = 0
    #: Unexpected funds were taken from this hold; a duplicate of that report changes nothing.
    unexpected: bool = False
    #: When the return of the money in suspense is requested, and whether it was taken. Rules version 1 requests it at
    #: once.
    return_at_ms: int = 0
    suspense_taken: bool = False
    #: When the hold ends at the provider; 0: it does not end.
    capture_before_ms: int = 0
    #: CaptureAtRisk was emitted.
    at_risk: bool = False
    #: Unexpected funds of this hold waited in suspense: their return is limited.
    stray: bool = False


class Refund(msgspec.Struct, array_like=True, gc=False):
    """A commanded refund."""

    status: RefundStatus
    amount: int
    #: SHA-256 of the command.
    request_sha256: bytes
    #: Why it was declined.
    reason: str = ""
    #: Whether the provider was called; otherwise our own rules declined the refund.
    sent: bool = False


class AbandonedRefund(msgspec.Struct, array_like=True, gc=False):
    """A refund attempt that was declined or proven absent. If it succeeds after all, it is booked."""

    hold: str
    refund: str
