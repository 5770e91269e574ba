"""The adapter to WeChat Pay, which knows no holds: the full price is taken at join, the difference is given back.

A sale is ACTION_REQUIRED until the shopper has paid; what came of it, a query by our own number tells. WeChat Pay
honours numbers for ever, so a repeat is safe. The reference of the "hold" is the out_trade_no. Must never report a sale
as paid unless a signed answer says SUCCESS.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_CALL, OUTCOME_ORIGIN_LOOKUP, ProviderOutcome

from services.payments.providers.circuit_breaker import Breaker, State
from services.payments.providers.port import (
    DoneBefore,
    KeyTaken,
    NotPossibleNow,
    NotYet,
    ResultUnknown,
    idempotency_key,
    outcome_of,
)
from services.payments.providers.resolve import Limits, resolve
from services.payments.providers.wechat import mapping as words
from services.payments.providers.wechat import references as refs
from services.payments.providers.wechat.http_client import WeChatClient, WeChatFailed, pay_sign

PREFIXES = ("wechat_", "wallet_wechat_")
#: The payer scans a code instead of being named.
NATIVE = "native"
CURRENCY = "CNY"
TRANSACTIONS, REFUNDS = "/v3/pay/transactions", "/v3/refund/domestic/refunds"
#: Codes of a payment that is over: what was done under its number counts.
OVER = frozenset({"ORDERPAID", "ORDER_PAID", "ORDER_CLOSED", "ORDERCLOSED"})
#: The number names another payment: a defect of ours.
TAKEN = "OUT_TRADE_NO_USED"
NOT_THERE = frozenset({"ORDER_NOT_EXIST", "RESOURCE_NOT_EXISTS"})
#: Where the shopper pays, of so many payments. What fell out is asked for anew.
MAX_ACTIONS = 10_000
LIMITED_MS = 1_000
NO_HOLDS = "WeChat Pay can't hold money: its payment methods are for sales"


class WeChatProvider:
    """WeChat Pay for one merchant. Belongs to the event loop of its first call."""

    name = "wechat"

    def __init__(
        self,
        client: WeChatClient,
        *,
        notify_url: str,
        description: str = "Group order",
        limits: Limits | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        """`notify_url`: where WeChat Pay tells what happened; `description`: what the shopper sees."""
        self._client = client
        self._notify_url = notify_url
        self._description = description
        self._limits = limits or Limits()
        self._breaker = breaker or Breaker(self.name)
        self._actions: OrderedDict[str, str] = OrderedDict()

    @property
    def well(self) -> bool:
        """Whether it is asked at present."""
        return self._breaker.state is State.CLOSED

    async def close(self) -> None:
        """Ends the connections."""
        await self._client.close()

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        """Makes a call and says what came of it. See Provider."""
        key = idempotency_key(call)
        outcome = outcome_of(call, OUTCOME_ORIGIN_CALL)
        if call.operation in (d.OPERATION_AUTHORISE, d.OPERATION_CAPTURE):
            outcome.declined.reason = NO_HOLDS
            return outcome
        if refused := _refused(call):
            outcome.declined.reason = refused
            return outcome
        match call.operation:
            case d.OPERATION_SALE:
                return await self._resolve(call, self._pay(call, group), self._paid(call))
            case d.OPERATION_VOID:
                return await self._resolve(call, self._close_order(call), self._closed(call))
            case d.OPERATION_REFUND:
                number = refs.refund_number(call, group)
                return await self._resolve(call, self._refund(call, number), self._refunded(call, number))
        raise ValueError(f"{key}: unknown operation")

    async def _resolve(
        self,
        call: ProviderCall,
        send: Callable[[ProviderOutcome, float], Awaitable[None]],
        look_up: Callable[[ProviderOutcome, float], Awaitable[bool]],
    ) -> ProviderOutcome:
        async def sent(timeout_s: float) -> ProviderOutcome:
            outcome = outcome_of(call, OUTCOME_ORIGIN_CALL)
            try:
                await send(outcome, timeout_s)
            except WeChatFailed as error:
                _final_or_raise(outcome, error)
                await _what_stands(outcome, call, look_up, timeout_s)
            return outcome

        async def looked_up(timeout_s: float) -> ProviderOutcome | None:
            outcome = outcome_of(call, OUTCOME_ORIGIN_LOOKUP)
            return outcome if await _found(look_up, outcome, timeout_s) else None

        return await resolve(call, sent, looked_up, self._limits, self._breaker)

    # A sale

    def _pay(self, call: ProviderCall, group: str) -> Callable[[ProviderOutcome, float], Awaitable[None]]:
        number, payer = refs.trade_number(call), _payer(call.payment_method)
        kind = "native" if payer == NATIVE else "jsapi"
        body: dict[str, Any] = {
            "appid": self._client.who.app,
            "mchid": self._client.who.merchant,
            "description": self._description,
            "out_trade_no": number,
            "attach": refs.attach(call, group),
            "notify_url": self._notify_url,
            "amount": {"total": call.amount_minor, "currency": call.currency},
        }
        if payer != NATIVE:
            body["payer"] = {"openid": payer}

        async def send(outcome: ProviderOutcome, timeout_s: float) -> None:
            made = await self._client.ask("POST", f"{TRANSACTIONS}/{kind}", timeout_s, body)
            url = str(made.get("code_url") or self._jsapi_url(str(made.get("prepay_id", ""))))
            # The first one stays: a shopper who is paying must not be sent somewhere else.
            self._actions.setdefault(number, url)
            while len(self._actions) > MAX_ACTIONS:
                self._actions.popitem(last=False)
            if not await self._paid(call)(outcome, timeout_s):
                raise ResultUnknown("a payment that was just made is not known")

        return send

    def _paid(self, call: ProviderCall) -> Callable[[ProviderOutcome, float], Awaitable[bool]]:
        number = refs.trade_number(call)

        async def look_up(outcome: ProviderOutcome, timeout_s: float) -> bool:
            transaction = await self._transaction(number, timeout_s)
            match transaction["trade_state"]:
                case state if state in words.PAID:
                    words.tell_paid(outcome, transaction)
                case "NOTPAY" if number not in self._actions:
                    # Where to pay is known only from making it, which may be repeated.
                    return False
                case "NOTPAY" | "USERPAYING" | "ACCEPT":
                    outcome.action_required.hold = number
                    outcome.action_required.action_url = self._actions.get(number, "")
                case "CLOSED" | "REVOKED":
                    outcome.voided.hold = number
                case "PAYERROR":
                    outcome.declined.reason = str(transaction.get("trade_state_desc") or "the payment failed")
                case state:
                    raise NotYet(f"the payment is {state}")
            if not outcome.HasField("action_required"):
                self._actions.pop(number, None)
            return True

        return look_up

    async def _transaction(self, number: str, timeout_s: float) -> dict[str, Any]:
        path = f"{TRANSACTIONS}/out-trade-no/{number}?" + urlencode({"mchid": self._client.who.merchant})
        return await self._client.ask("GET", path, timeout_s)

    def _jsapi_url(self, prepay: str) -> str:
        """What the shopper's app hands to WeChat, as a link."""
        app, stamp, package = self._client.who.app, str(int(time.time())), f"prepay_id={prepay}"
        sign = pay_sign(self._client.who, app, stamp, prepay, package)
        fields = {"appId": app, "timeStamp": stamp, "nonceStr": prepay, "package": package, "signType": "RSA"}
        return "weixin://jsapi?" + urlencode({**fields, "paySign": sign})

    # Calling off what nobody paid yet

    def _close_order(self, call: ProviderCall) -> Callable[[ProviderOutcome, float], Awaitable[None]]:
        async def send(outcome: ProviderOutcome, timeout_s: float) -> None:
            path = f"{TRANSACTIONS}/out-trade-no/{call.hold}/close"
            await self._client.ask("POST", path, timeout_s, {"mchid": self._client.who.merchant})
            self._actions.pop(call.hold, None)
            outcome.voided.hold = call.hold

        return send

    def _closed(self, call: ProviderCall) -> Callable[[ProviderOutcome, float], Awaitable[bool]]:
        async def look_up(outcome: ProviderOutcome, timeout_s: float) -> bool:
            transaction = await self._transaction(call.hold, timeout_s)
            state = transaction["trade_state"]
            if state in words.PAID:
                outcome.captured.hold = call.hold
                outcome.captured.amount_minor = int(transaction["amount"]["total"])
            elif state in ("CLOSED", "REVOKED", "PAYERROR"):
                outcome.voided.hold = call.hold
            return outcome.WhichOneof("result") is not None

        return look_up

    # Giving back

    def _refund(self, call: ProviderCall, number: str) -> Callable[[ProviderOutcome, float], Awaitable[None]]:
        async def send(outcome: ProviderOutcome, timeout_s: float) -> None:
            # WeChat Pay wants to be told the whole price too.
            total = int((await self._transaction(call.hold, timeout_s))["amount"]["total"])
            body = {
                "out_trade_no": call.hold,
                "out_refund_no": number,
                "notify_url": self._notify_url,
                "amount": {"refund": call.amount_minor, "total": total, "currency": call.currency},
            }
            refund = await self._client.ask("POST", REFUNDS, timeout_s, body)
            if refund.get("status") == "PROCESSING":
                refund = await self._client.ask("GET", f"{REFUNDS}/{number}", timeout_s)
            words.tell_refund(outcome, refund)

        return send

    def _refunded(self, call: ProviderCall, number: str) -> Callable[[ProviderOutcome, float], Awaitable[bool]]:
        async def look_up(outcome: ProviderOutcome, timeout_s: float) -> bool:
            words.tell_refund(outcome, await self._client.ask("GET", f"{REFUNDS}/{number}", timeout_s))
            return True

        return look_up


def _payer(method: str) -> str:
    for prefix in PREFIXES:
        if method.startswith(prefix):
            return method.removeprefix(prefix)
    return method


def _refused(call: ProviderCall) -> str:
    """Why WeChat Pay would not take a call, known beforehand."""
    if call.operation == d.OPERATION_VOID:
        return ""
    if call.operation in (d.OPERATION_SALE, d.OPERATION_REFUND):
        if call.currency != CURRENCY:
            return f"WeChat Pay takes {CURRENCY} alone, not {call.currency}"
        if call.amount_minor <= 0:
            return f"the amount is {call.amount_minor}: it must be above 0"
    return ""


async def _found(
    look_up: Callable[[ProviderOutcome, float], Awaitable[bool]], outcome: ProviderOutcome, timeout_s: float
) -> bool:
    try:
        return await look_up(outcome, timeout_s)
    except WeChatFailed as error:
        if error.code in NOT_THERE:
            return False
        _final_or_raise(outcome, error)
        raise NotPossibleNow(str(error)) from error


async def _what_stands(
    outcome: ProviderOutcome,
    call: ProviderCall,
    look_up: Callable[[ProviderOutcome, float], Awaitable[bool]],
    timeout_s: float,
) -> None:
    """WeChat Pay refused: what it did under our number before outranks that."""
    stands = outcome_of(call, OUTCOME_ORIGIN_LOOKUP)
    if await _found(look_up, stands, timeout_s):
        outcome.CopyFrom(stands)


def _final_or_raise(outcome: ProviderOutcome, error: WeChatFailed) -> None:
    """DECLINED where WeChat Pay says that it won't do this; else raises a ProviderError."""
    if error.status == 429:
        raise ResultUnknown(str(error), after_ms=LIMITED_MS) from error
    if outcome.operation == d.OPERATION_SALE and error.code in OVER:
        raise DoneBefore(str(error)) from error
    if outcome.operation == d.OPERATION_SALE and error.code == TAKEN:
        raise KeyTaken(str(error)) from error
    if error.code == "NOT_ENOUGH":
        raise NotYet(f"the merchant's balance does not cover the refund: {error}") from error
    if error.status == 401 or error.code in ("NO_AUTH", "NOAUTH", "APPID_MCHID_NOT_MATCH", "MCH_NOT_EXISTS"):
        raise NotPossibleNow(str(error)) from error
    outcome.declined.reason = str(error)
