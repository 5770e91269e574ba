"""What WeChat Pay's objects say, in the words of our outcomes: transactions and refunds. For calls and notifications.

Must never say that money moved unless the object says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from groupbuy.payments.v1.inbox_pb2 import ProviderOutcome

from services.payments.providers.port import NotYet

PAID = frozenset({"SUCCESS", "REFUND"})


def tell_paid(outcome: ProviderOutcome, transaction: Mapping[str, Any]) -> None:
    """The money of a sale was taken."""
    outcome.authorised.hold = transaction["out_trade_no"]
    outcome.authorised.amount_minor = int(transaction["amount"]["total"])
    outcome.authorised.currency = str(transaction["amount"].get("currency", "CNY"))


def tell_refund(outcome: ProviderOutcome, refund: Mapping[str, Any]) -> None:
    """How a refund stands, in an answer (`status`) or a notification (`refund_status`). Raises NotYet."""
    match refund.get("status") or refund.get("refund_status"):
        case "SUCCESS":
            outcome.refunded.hold = refund["out_trade_no"]
            outcome.refunded.amount_minor = int(refund["amount"]["refund"])
        case "CLOSED":
            outcome.declined.reason = "WeChat Pay closed the refund"
        case "ABNORMAL":
            outcome.declined.reason = (
                "the shopper's account can't take the money back: mend it in the merchant platform"
            )
        case status:
            raise NotYet(f"the refund is {status}")
