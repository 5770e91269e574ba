"""The small parts that a purse's state is made of: intents, calls, holds, refunds.

They are kept on disk as their values in the order of the declaration (processors/codec.py): a change needs a new stamp.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec
from groupbuy.payments.v1 import decisions_pb2 as pb
from groupbuy.payments.v1.decisions_pb2 import Operation

#: Payment methods with this prefix have no delayed capture: the money is taken at once.
SALE_PREFIX = "wallet_"

#: Calls that may bring a hold about.
ASKING = frozenset({pb.OPERATION_AUTHORISE, pb.OPERATION_SALE})
#: Calls that end a hold.
ENDING = frozenset({pb.OPERATION_CAPTURE, pb.OPERATION_VOID})

#: Which counter counts an operation's attempts.
COUNTERS = {
    pb.OPERATION_AUTHORISE: "asks",
    pb.OPERATION_SALE: "asks",
    pb.OPERATION_CAPTURE: "captures",
    pb.OPERATION_VOID: "voids",
    pb.OPERATION_REFUND: "refund_calls",
}


class Intent(IntEnum):
    """What is to become of an order's money. It never goes back."""

    #: Nothing was asked for: money came, or a refund was wanted, for an order that the group never named.
    NONE = 0
    HOLD = 1
    CAPTURE = 2
    RELEASE = 3


class RefundStatus(IntEnum):
    """Where a refund that was commanded stands."""

    UNDER_WAY = 0
    DONE = 1
    DECLINED = 2


class Call(msgspec.Struct, array_like=True, gc=False):
    """A call without a final answer yet. Amounts in minor units, times in milliseconds since the epoch."""

    operation: Operation.ValueType
    attempt: int
    amount: int
    #: The hold it is about; empty for one that is to make a hold.
    hold: str
    #: Id of the commanded refund; empty where the purse itself gives money back.
    refund: str
    #: How often it was put off.
    deferrals: int = 0
    #: When it is asked again; 0: it is under way.
    retry_at_ms: int = 0


class Hold(msgspec.Struct, array_like=True, gc=False):
    """What the books say of one hold, in minor units.

    HoldAuthorised opens it: `held` by an authorisation, `taken` by a sale. Captured moves what was held to `taken`,
    the rest is let go. Voided and HoldLapsed let go what is held. SuspenseRecorded adds money that nobody asked for,
    which the request that follows it shows to be held (VoidRequested) or taken (RefundRequested). Refunded gives
    taken money back. At the end nothing is held, and what is taken is what the order was charged.
    """

    currency: str
    #: Held now.
    held: int = 0
    #: Taken so far.
    taken: int = 0
    #: Given back by the purse itself.
    returned: int = 0
    #: To be given back, but the provider refused: owed to the customer until a person mends it.
    owed: int = 0
    #: Reported and not yet known to be held or taken.
    suspense: int = 0
    #: Money was taken from it that nobody had asked for; a repeat of that report is no news.
    compensated: bool = False


class Refund(msgspec.Struct, array_like=True, gc=False):
    """A commanded refund."""

    status: RefundStatus
    #: In minor units.
    amount: int
    #: SHA-256 of the command.
    request_sha256: bytes
    #: Why it was declined.
    reason: str = ""
    #: The provider was asked; else our own rules declined it.
    asked: bool = False


class GivenUp(msgspec.Struct, array_like=True, gc=False):
    """An attempt at a refund that was declined or proven absent. Should it have happened after all, it is booked."""

    hold: str
    refund: str
