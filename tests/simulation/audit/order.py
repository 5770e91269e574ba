"""The auditor's record of one order, and its names of statuses and reasons. It shares no code with the rules."""

from __future__ import annotations

from groupbuy.groups.v1 import decisions_pb2 as pb
from groupbuy.orders.v1.facts_pb2 import OrderFact

DAY_MS = 86_400_000
LIVE = ("RESERVED", "CONFIRMED", "WAITLISTED")
END_OF = {
    pb.RELEASE_REASON_CANCELLED: "CANCELLED",
    pb.RELEASE_REASON_LAPSED: "LAPSED",
    pb.RELEASE_REASON_DECLINED: "HOLD_DECLINED",
}
PHASE_OF = {
    pb.RELEASE_REASON_GROUP_EXPIRED: "EXPIRED",
    pb.RELEASE_REASON_GROUP_CANCELLED: "CANCELLED",
    pb.RELEASE_REASON_GROUP_COMPLETED: "COMPLETED",
    pb.RELEASE_REASON_FAULTED: "CANCELLED",
}


class Order:
    """One order, folded from its facts and the group's decisions. Amounts in minor units, times in milliseconds."""

    __slots__ = (
        "cancel_at", "cancel_refused", "customer", "forged", "hold", "hold_amount", "method", "placed", "quantity",
        "release_requested", "released", "settled_amount", "status", "to_capture", "until_ms",
    )  # fmt: skip

    def __init__(self) -> None:
        self.status = ""
        self.customer = ""
        self.method = ""
        self.hold = ""
        #: Its first fact in the inbox.
        self.placed: OrderFact | None = None
        #: Inbox offset of its first cancel request; -1 if there is none.
        self.cancel_at = -1
        self.quantity = self.hold_amount = self.until_ms = self.to_capture = 0
        self.settled_amount = -1
        self.release_requested = self.released = self.cancel_refused = False
        #: Whether a fault put forged payment events of it into the inbox.
        self.forged = False
