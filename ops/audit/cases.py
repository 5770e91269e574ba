"""The content of all topics about one group: orders, decisions and payments. The input of the checks across logs."""

from __future__ import annotations

from groupbuy.orders.v1.facts_pb2 import OrderPlaced

from ops.audit.findings import Findings
from ops.audit.group.decisions import GroupFold
from ops.audit.money.group_payments import GroupPaymentsFold


class Placed:
    """One order as placed. The first of its records counts."""

    __slots__ = ("currency", "customer", "duplicates", "max_unit_price_minor", "quantity", "request_sha256")

    def __init__(self, customer: str, placed: OrderPlaced) -> None:
        self.customer = customer
        self.quantity = placed.quantity
        self.currency = placed.currency
        self.max_unit_price_minor = placed.max_unit_price_minor
        self.request_sha256 = placed.request_sha256
        #: The number of further records of the same order.
        self.duplicates = 0


class Case:
    """The records of one group, folded."""

    __slots__ = (
        "cancel_requested",
        "completion_input",
        "group",
        "group_payments",
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
        #: Refund requests in the payment inbox: refund -> order.
        self.refunds: dict[str, str] = {}

    @property
    def trimmed(self) -> bool:
        """Whether one of its logs has lost its first records."""
        return self.group.chain.trimmed or self.group_payments.chain.trimmed
