"""WeChat Pay's objects built from accounts: transactions, refunds, notifications, errors.

The merchant's attachment and the payer are stored in the hold's payment method, `wechat/{attach}/{payer}`.
"""

from __future__ import annotations

import hashlib
from typing import Any, TypeAlias

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.holds import Change, Hold, HoldState
from simulators.psp.wechat.signer import APP, MERCHANT

Json: TypeAlias = dict[str, Any]

#: Prefix of the payment method of holds made over this wire.
WIRE = "wechat"


#: WeChat Pay's status of a refund, also of one that was undone.
REFUND_STATUS = {
    pb.STATUS_REFUNDED: "SUCCESS",
    pb.STATUS_REFUND_FAILED: "ABNORMAL",
    pb.STATUS_REFUND_REVERSED: "CLOSED",
}
#: Action and event type of a complaint.
_COMPLAINT_ACTIONS = {
    pb.STATUS_DISPUTE_OPENED: ("CREATE_COMPLAINT", "COMPLAINT.CREATE"),
    pb.STATUS_DISPUTE_EVIDENCE_DUE: ("CONTINUE_COMPLAINT", "COMPLAINT.STATE_CHANGE"),
    pb.STATUS_DISPUTE_UNDER_REVIEW: ("RESPONSE_BY_PLATFORM", "COMPLAINT.STATE_CHANGE"),
    pb.STATUS_DISPUTE_WON: ("USER_CONFIRM_PROCESSED", "COMPLAINT.STATE_CHANGE"),
    pb.STATUS_DISPUTE_LOST: ("USER_CONFIRM_PROCESSED", "COMPLAINT.STATE_CHANGE"),
}


class WeChatError(Exception):
    """An error answer of WeChat Pay's: HTTP status and error object."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body: Json = {"code": code, "message": message}


def trade_state(hold: Hold) -> str:
    """The state of a hold's transaction."""
    match hold.state:
        case HoldState.PENDING:
            return "NOTPAY"
        case HoldState.CAPTURED:
            return "REFUND" if hold.refunded_minor else "SUCCESS"
        case _:
            return "CLOSED"


def transaction(hold: Hold) -> Json:
    """The transaction of a hold, in its current state."""
    attach, _, payer = hold.payment_method.partition("/")[2].rpartition("/")
    made: Json = {
        "appid": APP,
        "mchid": MERCHANT,
        "out_trade_no": hold.key,
        "trade_type": "JSAPI" if payer else "NATIVE",
        "trade_state": trade_state(hold),
        "trade_state_desc": trade_state(hold),
        "attach": attach,
        "amount": {"total": hold.asked_minor, "payer_total": hold.asked_minor, "currency": hold.currency},
    }
    if hold.captured_minor:
        made["transaction_id"] = transaction_id(hold.key)
        made["payer"] = {"openid": payer}
    return made


def declined(key: str) -> Json:
    """A transaction that the payer's bank declined."""
    return {
        "appid": APP,
        "mchid": MERCHANT,
        "out_trade_no": key,
        "trade_state": "PAYERROR",
        "trade_state_desc": "支付失败(银行拒绝)",
    }


def refund(hold: Hold, key: str, amount_minor: int, status: str) -> Json:
    """A refund."""
    return {
        "refund_id": refund_id(key),
        "out_refund_no": key,
        "transaction_id": transaction_id(hold.key),
        "out_trade_no": hold.key,
        "channel": "ORIGINAL",
        "status": status,
        "amount": {"total": hold.asked_minor, "refund": amount_minor, "currency": hold.currency},
    }


def event(change: Change) -> Json | None:
    """The notification of a change before encryption: kind, name, plain object. None if WeChat Pay sends none."""
    result, hold = change.result, change.hold
    if hold is None:
        return None
    if result.status == pb.STATUS_AUTHORISED:
        kind, plain = "TRANSACTION.SUCCESS", transaction(hold)
    elif result.status in REFUND_STATUS:
        status = REFUND_STATUS[result.status]
        kind = f"REFUND.{status}"
        plain = refund(hold, result.key, result.amount_minor, status)
        plain["refund_status"] = plain.pop("status")
    elif result.status in _COMPLAINT_ACTIONS:
        action, kind = _COMPLAINT_ACTIONS[result.status]
        plain = {"complaint_id": result.key, "action_type": action}
    else:
        return None
    return {
        "kind": kind,
        "name": "EV-"
        + _id("2", f"{kind}/{result.key}/{result.status}" if kind.startswith("COMPLAINT") else f"{kind}/{result.key}"),
        "plain": plain,
    }


def transaction_id(key: str) -> str:
    """WeChat Pay's number of a payment."""
    return _id("42", key)


def refund_id(key: str) -> str:
    """WeChat Pay's number of a refund."""
    return _id("50", key)


def _id(first: str, text: str) -> str:
    digits = str(int(hashlib.sha256(text.encode()).hexdigest(), 16))
    return first + digits[: 28 - len(first)]
