"""The content of all topics about one group: orders, decisions and payments. The input of the checks across logs."""

from __future__ import annotations

from groupbuy.orders.v1.facts_pb2 import OrderPlaced
from msgspec import Struct

from ops.audit.findings import Findings
from ops.audit.group.decisions import GroupFold
from ops.audit.group.inputs import GroupInputs
from ops.audit.money.group_payments import GroupPaymentsFold


class Placed(Struct, array_like=True, gc=False):
    """One order as placed. The first of its records counts."""

    customer: str
    quantity: int
    currency: str
    max_unit_price_minor: int
    request_sha256: bytes
    #: The broker's time of the record, in milliseconds since the epoch.
    at_ms: int
    #: The number of further records of the same order.
    duplicates: int = 0

    @classmethod
    def of(cls, customer: str, placed: OrderPlaced, at_ms: int) -> Placed:
        """The order in a fact."""
        return cls(
            customer, placed.quantity, placed.currency, placed.max_unit_price_minor, placed.request_sha256, at_ms
        )


class RefundInput(Struct, array_like=True, gc=False):
    """The first command of a refund: its order, and its amount in minor units, 0 for all that is left."""

    order: str
    amount_minor: int


class Case:
    """The records of one group, folded."""

    __slots__ = (
        "at_ms",
        "cancel_requested",
        "completion_input",
        "group",
        "group_payments",
        "inputs",
        "key",
        "placed",
        "refunds",
        "unreadable",
    )

    def __init__(self, key: str, findings: Findings) -> None:
        self.key = key
        self.group = GroupFold(key, findings)
        self.group_payments = GroupPaymentsFold(key, findings)
        self.placed: dict[str, Placed] = {}
        #: Orders whose records can't be decoded; the headers have their names.
        self.unreadable: set[str] = set()
        #: Orders with a cancellation request of the shopper.
        self.cancel_requested: set[str] = set()
        #: The offset of the group's completion in the payment inbox; -1 before it.
        self.completion_input = -1
        #: Refund requests in the payment inbox, by refund.
        self.refunds: dict[str, RefundInput] = {}
        #: The group's inputs; None if its inbox is not read.
        self.inputs: GroupInputs | None = None
        #: The broker's time of the newest record, in milliseconds since the epoch.
        self.at_ms = 0

    @property
    def trimmed(self) -> bool:
        """Whether one of its logs has lost its first records."""
        return self.group.chain.trimmed or self.group_payments.chain.trimmed
