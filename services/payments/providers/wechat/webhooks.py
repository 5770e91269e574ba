"""WeChat Pay's notifications: signed with its RSA key, and encrypted with the merchant's APIv3 key.

A payment names its order by its attachment, a refund by its number. Notifications that name none are ignored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from groupbuy.payments.v1 import decisions_pb2 as d

from chassis.outside.signatures import Headers
from services.payments.providers.notifications import Claim, notified_outcome, read_json
from services.payments.providers.wechat import mapping, references
from services.payments.providers.wechat.merchant_account import MerchantAccount


class WeChatWebhooks:
    """Reader of WeChat Pay's notifications. See WebhookReader."""

    def __init__(self, account: MerchantAccount, now_s: Callable[[], float] = time.time) -> None:
        self._account = account
        self._now_s = now_s

    def read(self, headers: Headers, body: bytes) -> Claim | None:
        """The claim of a notification. Raises BadSignature, NotYet."""
        self._account.verify(headers, body, self._now_s)
        event = read_json(body)
        resource = self._account.decrypt(event["resource"])
        return _claim(str(event["event_type"]), resource)


def _claim(kind: str, resource: Mapping[str, Any]) -> Claim | None:
    if kind.startswith("REFUND."):
        reference, operation = references.of_refund_number(str(resource["out_refund_no"])), d.OPERATION_REFUND
    elif kind == "TRANSACTION.SUCCESS":
        reference, operation = references.of_attach(str(resource.get("attach", ""))), d.OPERATION_SALE
    else:
        return None
    if reference is None:
        # Of another system, or with ids too long for a number: those payments are looked up.
        return None
    outcome = notified_outcome(reference.order, operation, reference.attempt)
    if operation == d.OPERATION_REFUND:
        mapping.set_refunded(outcome, resource)
    elif resource["trade_state"] in mapping.PAID:
        mapping.set_paid(outcome, resource)
    else:
        return None
    return reference.group, outcome
