"""WeChat Pay's notifications: signed with its RSA key, and encrypted with the merchant's APIv3 key.

A payment names its order by its attachment, a refund of ours by its number. A refund that a person made in the
merchant platform names its payment, and a complaint (消费者投诉) names itself; WeChat Pay is asked for the order.
Notifications of other kinds are ignored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.inbox_pb2 import DISPUTE_STATE_OPEN

from chassis.outside.call_errors import NotYet
from chassis.outside.signatures import Headers
from services.payments.providers.notifications import OtherEnvironment, news, notified_outcome, read_json
from services.payments.providers.port import Claim, Unaddressed
from services.payments.providers.wechat import mapping, references
from services.payments.providers.wechat.merchant_account import MerchantAccount


class WeChatWebhooks:
    """Reader of WeChat Pay's notifications. See WebhookReader."""

    def __init__(self, account: MerchantAccount, now_s: Callable[[], float] = time.time, environment: str = "") -> None:
        """`environment`: id of this deployment."""
        self._account = account
        self._now_s = now_s
        self._environment = environment

    def read(self, headers: Headers, body: bytes) -> Claim | Unaddressed | None:
        """The claim of a notification. Raises BadSignature, NotYet, OtherEnvironment."""
        self._account.verify(headers, body, self._now_s)
        event = read_json(body)
        resource, kind = self._account.decrypt(event["resource"]), str(event["event_type"])
        if kind == "TRANSACTION.SUCCESS":
            return _of_payment(resource)
        if kind.startswith("REFUND."):
            return self._of_refund(resource)
        return _of_complaint(resource) if kind.startswith("COMPLAINT.") else None

    def _of_refund(self, refund: Mapping[str, Any]) -> Claim | Unaddressed | None:
        number = str(refund["out_refund_no"])
        reference = references.of_refund_number(number)
        if reference is None and references.is_hash(number):
            # Ours, with ids too long for a number: those refunds are looked up.
            return None
        if reference is not None and reference.environment not in ("", references.mark_of(self._environment)):
            raise OtherEnvironment("of another deployment")
        outcome = news()
        if reference is not None:
            outcome = notified_outcome(reference.order, d.OPERATION_REFUND, reference.attempt)
        status = str(refund.get("refund_status") or refund.get("status"))
        if status in mapping.FAILURES:
            outcome.refund_reversed.hold = refund["out_trade_no"]
            outcome.refund_reversed.amount_minor = int(refund["amount"]["refund"])
            outcome.refund_reversed.currency = mapping.currency_of(refund)
            outcome.refund_reversed.reason = mapping.FAILURES[status]
            outcome.refund_reversed.reference = str(refund["refund_id"])
        elif reference is not None:
            mapping.set_refunded(outcome, refund)
        elif status == "SUCCESS":
            outcome.external.hold = refund["out_trade_no"]
            outcome.external.operation = d.OPERATION_REFUND
            outcome.external.amount_minor = int(refund["amount"]["refund"])
            outcome.external.currency = mapping.currency_of(refund)
            outcome.external.reference = str(refund["refund_id"])
        else:
            raise NotYet(f"the refund is {status}")
        if reference is not None:
            return reference.group, outcome
        return Unaddressed(str(refund["out_trade_no"]), outcome)


def _of_payment(transaction: Mapping[str, Any]) -> Claim | None:
    reference = references.of_attach(str(transaction.get("attach", "")))
    if reference is None or transaction["trade_state"] not in mapping.PAID:
        return None
    outcome = notified_outcome(reference.order, d.OPERATION_SALE, reference.attempt)
    outcome.environment = reference.environment
    mapping.set_paid(outcome, transaction)
    return reference.group, outcome


def _of_complaint(resource: Mapping[str, Any]) -> Unaddressed:
    outcome = news()
    outcome.dispute.dispute = str(resource["complaint_id"])
    outcome.dispute.state = DISPUTE_STATE_OPEN
    return Unaddressed("", outcome, subject=str(resource["complaint_id"]))
