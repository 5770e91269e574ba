"""What the auditor keeps of one order, and its words for standings and reasons. Shares no code with the rules."""

from __future__ import annotations

from groupbuy.groups.v1 import decisions_pb2 as pb
from groupbuy.orders.v1.facts_pb2 import OrderFact

DAY_MS = 86_400_000
LIVE = ("RESERVED", "CONFIRMED", "WAITLISTED")
END_OF = {
    pb.RELEASE_REASON_CANCELLED: "CANCELLED",
    pb.RELEASE_REASON_LAPSED: "LAPSED",
    pb.RELEASE_REASON_DECLINED: "DECLINED",
}
PHASE_OF = {
    pb.RELEASE_REASON_GROUP_EXPIRED: "EXPIRED",
    pb.RELEASE_REASON_GROUP_CANCELLED: "CANCELLED",
    pb.RELEASE_REASON_GROUP_COMPLETED: "COMPLETED",
    pb.RELEASE_REASON_FAULTED: "CANCELLED",
}


class Order:
    """One order, as its facts and the group's decisions tell of it. Amounts in minor units, times in milliseconds."""

    __slots__ = (
        "cancel_at", "cancel_refused", "customer", "hold", "hold_amount", "lied", "method", "placed", "quantity",
        "release_requested", "released", "settled_amount", "status", "to_capture", "until_ms",
    )  # fmt: skip

    def __init__(self) -> None:
        self.status = ""
        self.customer = ""
        self.method = ""
        self.hold = ""
        #: The first of its facts in the inbox.
        self.placed: OrderFact | None = None
        #: Offset in the inbox of the first wish to leave; -1: none.
        self.cancel_at = -1
        self.quantity = self.hold_amount = self.until_ms = self.to_capture = 0
        self.settled_amount = -1
        self.release_requested = self.released = self.cancel_refused = False
        #: Somebody put false words of the purse about it into the inbox.
        self.lied = False
