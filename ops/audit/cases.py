"""All that the topics say about one group: what shoppers asked, what was decided, what became of the money.

Holds things together for the checks across logs; checks nothing itself.
"""

from __future__ import annotations

from groupbuy.orders.v1.facts_pb2 import OrderPlaced

from ops.audit.findings import Findings
from ops.audit.group.decisions import GroupFold
from ops.audit.money.group_payments import PurseFold


class Placed:
    """One order as its shopper placed it; the first of its records counts."""

    __slots__ = ("currency", "customer", "max_unit_price_minor", "quantity", "repeats", "request_sha256")

    def __init__(self, customer: str, placed: OrderPlaced) -> None:
        self.customer = customer
        self.quantity = placed.quantity
        self.currency = placed.currency
        self.max_unit_price_minor = placed.max_unit_price_minor
        self.request_sha256 = placed.request_sha256
        #: Further records of the same order.
        self.repeats = 0


class Case:
    """One group's file."""

    __slots__ = ("asked_to_cancel", "completion_input", "group", "key", "placed", "purse", "refunds", "unreadable")

    def __init__(self, key: str, findings: Findings) -> None:
        self.key = key
        self.group = GroupFold(key, findings)
        self.purse = PurseFold(key, findings)
        self.placed: dict[str, Placed] = {}
        #: Orders whose records could not be read; their headers name them.
        self.unreadable: set[str] = set()
        #: Orders that a shopper asked to cancel.
        self.asked_to_cancel: set[str] = set()
        #: Offset in the payment inbox at which the purse learned that the group had completed; -1: it did not.
        self.completion_input = -1
        #: Refunds asked for in the payment inbox: refund -> order.
        self.refunds: dict[str, str] = {}

    @property
    def trimmed(self) -> bool:
        """Whether the beginning of one of its logs is gone."""
        return self.group.chain.trimmed or self.purse.chain.trimmed
