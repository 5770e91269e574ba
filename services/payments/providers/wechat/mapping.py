"""WeChat Pay's transactions and refunds as outcomes, for calls and notifications alike.

An outcome reports money as taken only if WeChat Pay's object does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome

from chassis.outside.call_errors import NotYet

#: Trade states of a payment whose money was taken.
PAID = frozenset({"SUCCESS", "REFUND"})
#: The one currency of a merchant in mainland China.
CURRENCY = "CNY"
#: Reasons of refunds that were not made, by their status.
FAILURES = {
    "CLOSED": "WeChat Pay closed the refund",
    "ABNORMAL": "the shopper's account can't take the refund: resolve it in the merchant platform",
}


def set_paid(outcome: ProviderOutcome, transaction: Mapping[str, Any]) -> None:
    """Result of a sale that was paid."""
    outcome.authorised.hold = transaction["out_trade_no"]
    outcome.authorised.amount_minor = int(transaction["amount"]["total"])
    outcome.authorised.currency = currency_of(transaction)


def currency_of(found: Mapping[str, Any]) -> str:
    """ISO 4217 code of a transaction or a refund. Notifications of refunds have none."""
    return str(found["amount"].get("currency", CURRENCY))


def set_refunded(outcome: ProviderOutcome, refund: Mapping[str, Any]) -> None:
    """Result of a refund, from an answer (`status`) or a notification (`refund_status`). Raises NotYet."""
    match refund.get("status") or refund.get("refund_status"):
        case "SUCCESS":
            outcome.refunded.hold = refund["out_trade_no"]
            outcome.refunded.amount_minor = int(refund["amount"]["refund"])
            outcome.refunded.currency = currency_of(refund)
            outcome.refunded.reference = str(refund.get("refund_id", ""))
        case "CLOSED" | "ABNORMAL" as status:
            outcome.declined.reason = FAILURES[status]
        case status:
            raise NotYet(f"the refund is {status}")
