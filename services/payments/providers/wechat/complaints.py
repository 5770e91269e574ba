"""Complaints of shoppers at WeChat Pay (消费者投诉) as disputes. A complaint withdraws no money from the merchant.

Source: https://pay.weixin.qq.com/doc/v3/merchant, "查询投诉单详情", "投诉通知回调".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from groupbuy.payments.v1.inbox_pb2 import DISPUTE_STATE_OPEN, DISPUTE_STATE_WON, ProviderOutcome

from services.payments.providers.wechat.mapping import CURRENCY

COMPLAINTS = "/v3/merchant-service/complaints-v2"
#: State of a complaint that was handled.
_PROCESSED = "PROCESSED"
_MAX_REASON = 200


def set_complaint(outcome: ProviderOutcome, complaint: Mapping[str, Any]) -> None:
    """Sets the dispute of a complaint, except its hold."""
    made = outcome.dispute
    made.dispute = str(complaint["complaint_id"])
    made.state = DISPUTE_STATE_WON if complaint["complaint_state"] == _PROCESSED else DISPUTE_STATE_OPEN
    made.amount_minor = sum(int(order["amount"]) for order in complaint.get("complaint_order_info") or ())
    made.currency = CURRENCY
    # The complaint's details are the shopper's own words and may hold personal data; the problem type is a fixed list.
    made.reason = str(complaint.get("problem_type") or "complaint")[:_MAX_REASON]


def orders_of(complaint: Mapping[str, Any]) -> list[str]:
    """The out_trade_no of each payment that a complaint is about."""
    return [str(order["out_trade_no"]) for order in complaint.get("complaint_order_info") or ()]
