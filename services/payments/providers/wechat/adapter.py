"""Adapter to WeChat Pay, which has no holds: the full price is taken at join and the difference is refunded.

A sale is ACTION_REQUIRED until the shopper has paid, and is queried by its out_trade_no, which is also the reference of
the "hold". WeChat Pay honours numbers for ever, so a retry is safe. A sale is reported as paid only if a signed answer
says SUCCESS.
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

from chassis.outside.call_errors import AlreadyDone, KeyReused, NotPossibleNow, NotYet, ResultUnknown
from chassis.outside.circuit_breaker import CircuitBreaker
from chassis.outside.resolve import RetryPolicy
from services.payments.providers.port import ResolvingProvider, idempotency_key, outcome_of
from services.payments.providers.wechat import mapping
from services.payments.providers.wechat import references as refs
from services.payments.providers.wechat.client import WeChatClient, WeChatFailed

PREFIXES = ("wechat_", "wallet_wechat_")
#: Payer of a method whose shopper scans a code.
NATIVE = "native"
CURRENCY = "CNY"
TRANSACTIONS, REFUNDS = "/v3/pay/transactions", "/v3/refund/domestic/refunds"
#: Error codes of a payment that already has a result under its number.
ALREADY_DONE = frozenset({"ORDERPAID", "ORDER_PAID", "ORDER_CLOSED", "ORDERCLOSED"})
#: Error code of a number that was used with another payload.
NUMBER_USED = "OUT_TRADE_NO_USED"
NOT_FOUND = frozenset({"ORDER_NOT_EXIST", "RESOURCE_NOT_EXISTS"})
#: Payments whose payment URL is kept. An evicted URL is requested again.
MAX_ACTION_URLS = 10_000
#: Delay after a rate limit.
RATE_LIMITED_MS = 1_000
NO_HOLDS = "WeChat Pay can't hold money: its payment methods are for sales"


class WeChatProvider(ResolvingProvider):
    """WeChat Pay for one merchant. Bound to the event loop of its first call."""

    name = "wechat"

    def __init__(
        self,
        client: WeChatClient,
        *,
        notify_url: str,
        description: str = "Group order",
        policy: RetryPolicy | None = None,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        """`notify_url` receives WeChat Pay's notifications; `description` is shown to the shopper."""
        self._client = client
        self._notify_url = notify_url
        self._description = description
        super().__init__(policy, breaker)
        #: Payment URL by out_trade_no.
        self._action_urls: OrderedDict[str, str] = OrderedDict()

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        """Makes a call and returns its outcome. See Provider."""
        key = idempotency_key(call)
        outcome = outcome_of(call, OUTCOME_ORIGIN_CALL)
        if call.operation in (d.OPERATION_AUTHORISE, d.OPERATION_CAPTURE):
            outcome.declined.reason = NO_HOLDS
            return outcome
        if reason := _unsupported(call):
            outcome.declined.reason = reason
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
                _set_declined_or_raise(outcome, error)
                await _read_after_refusal(outcome, call, look_up, timeout_s)
            return outcome

        async def looked_up(timeout_s: float) -> ProviderOutcome | None:
            outcome = outcome_of(call, OUTCOME_ORIGIN_LOOKUP)
            return outcome if await _found(look_up, outcome, timeout_s) else None

        return await self.resolve(call, sent, looked_up)

    # A sale

    def _pay(self, call: ProviderCall, group: str) -> Callable[[ProviderOutcome, float], Awaitable[None]]:
        number, payer = refs.trade_number(call), _payer(call.payment_method)
        kind = "native" if payer == NATIVE else "jsapi"
        body: dict[str, Any] = {
            "appid": self._client.account.app_id,
            "mchid": self._client.account.merchant_id,
            "description": self._description,
            "out_trade_no": number,
            "attach": refs.attach(call, group),
            "notify_url": self._notify_url,
            "amount": {"total": call.amount_minor, "currency": call.currency},
        }
        if payer != NATIVE:
            body["payer"] = {"openid": payer}

        async def send(outcome: ProviderOutcome, timeout_s: float) -> None:
            made = await self._client.request("POST", f"{TRANSACTIONS}/{kind}", timeout_s, body)
            url = str(made.get("code_url") or self._jsapi_url(str(made.get("prepay_id", ""))))
            # The first URL stays: a shopper may be paying there.
            self._action_urls.setdefault(number, url)
            while len(self._action_urls) > MAX_ACTION_URLS:
                self._action_urls.popitem(last=False)
            if not await self._paid(call)(outcome, timeout_s):
                raise ResultUnknown("WeChat Pay does not find a payment that was just made")

        return send

    def _paid(self, call: ProviderCall) -> Callable[[ProviderOutcome, float], Awaitable[bool]]:
        number = refs.trade_number(call)

        async def look_up(outcome: ProviderOutcome, timeout_s: float) -> bool:
            transaction = await self._transaction(number, timeout_s)
            match transaction["trade_state"]:
                case state if state in mapping.PAID:
                    mapping.set_paid(outcome, transaction)
                case "NOTPAY" if number not in self._action_urls:
                    # Only the answer to the sale has the payment URL, so the sale is sent again.
                    return False
                case "NOTPAY" | "USERPAYING" | "ACCEPT":
                    outcome.action_required.hold = number
                    outcome.action_required.action_url = self._action_urls.get(number, "")
                case "CLOSED" | "REVOKED":
                    outcome.voided.hold = number
                case "PAYERROR":
                    outcome.declined.reason = str(transaction.get("trade_state_desc") or "the payment failed")
                case state:
                    raise NotYet(f"the payment is {state}")
            if not outcome.HasField("action_required"):
                self._action_urls.pop(number, None)
            return True

        return look_up

    async def _transaction(self, number: str, timeout_s: float) -> dict[str, Any]:
        path = f"{TRANSACTIONS}/out-trade-no/{number}?" + urlencode({"mchid": self._client.account.merchant_id})
        return await self._client.request("GET", path, timeout_s)

    def _jsapi_url(self, prepay: str) -> str:
        """The parameters that the shopper's app hands to WeChat, as a link."""
        app, stamp, package = self._client.account.app_id, str(int(time.time())), f"prepay_id={prepay}"
        sign = self._client.account.pay_sign(app, stamp, prepay, package)
        fields = {"appId": app, "timeStamp": stamp, "nonceStr": prepay, "package": package, "signType": "RSA"}
        return "weixin://jsapi?" + urlencode({**fields, "paySign": sign})

    # Closing an unpaid sale

    def _close_order(self, call: ProviderCall) -> Callable[[ProviderOutcome, float], Awaitable[None]]:
        async def send(outcome: ProviderOutcome, timeout_s: float) -> None:
            path = f"{TRANSACTIONS}/out-trade-no/{call.hold}/close"
            await self._client.request("POST", path, timeout_s, {"mchid": self._client.account.merchant_id})
            self._action_urls.pop(call.hold, None)
            outcome.voided.hold = call.hold

        return send

    def _closed(self, call: ProviderCall) -> Callable[[ProviderOutcome, float], Awaitable[bool]]:
        async def look_up(outcome: ProviderOutcome, timeout_s: float) -> bool:
            transaction = await self._transaction(call.hold, timeout_s)
            state = transaction["trade_state"]
            if state in mapping.PAID:
                outcome.captured.hold = call.hold
                outcome.captured.amount_minor = int(transaction["amount"]["total"])
            elif state in ("CLOSED", "REVOKED", "PAYERROR"):
                outcome.voided.hold = call.hold
            return outcome.WhichOneof("result") is not None

        return look_up

    # Refund

    def _refund(self, call: ProviderCall, number: str) -> Callable[[ProviderOutcome, float], Awaitable[None]]:
        async def send(outcome: ProviderOutcome, timeout_s: float) -> None:
            # WeChat Pay requires the full price of the payment, too.
            total = int((await self._transaction(call.hold, timeout_s))["amount"]["total"])
            body = {
                "out_trade_no": call.hold,
                "out_refund_no": number,
                "notify_url": self._notify_url,
                "amount": {"refund": call.amount_minor, "total": total, "currency": call.currency},
            }
            refund = await self._client.request("POST", REFUNDS, timeout_s, body)
            if refund.get("status") == "PROCESSING":
                refund = await self._client.request("GET", f"{REFUNDS}/{number}", timeout_s)
            mapping.set_refunded(outcome, refund)

        return send

    def _refunded(self, call: ProviderCall, number: str) -> Callable[[ProviderOutcome, float], Awaitable[bool]]:
        async def look_up(outcome: ProviderOutcome, timeout_s: float) -> bool:
            mapping.set_refunded(outcome, await self._client.request("GET", f"{REFUNDS}/{number}", timeout_s))
            return True

        return look_up


def _payer(method: str) -> str:
    for prefix in PREFIXES:
        if method.startswith(prefix):
            return method.removeprefix(prefix)
    return method


def _unsupported(call: ProviderCall) -> str:
    """Reason for which WeChat Pay would refuse a call; empty if it may accept it."""
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
        if error.code in NOT_FOUND:
            return False
        _set_declined_or_raise(outcome, error)
        raise NotPossibleNow(str(error)) from error


async def _read_after_refusal(
    outcome: ProviderOutcome,
    call: ProviderCall,
    look_up: Callable[[ProviderOutcome, float], Awaitable[bool]],
    timeout_s: float,
) -> None:
    """Replaces a refusal by the state of the payment, if that already is a result under its number."""
    current = outcome_of(call, OUTCOME_ORIGIN_LOOKUP)
    if await _found(look_up, current, timeout_s):
        outcome.CopyFrom(current)


def _set_declined_or_raise(outcome: ProviderOutcome, error: WeChatFailed) -> None:
    """Sets DECLINED if WeChat Pay refused for good; otherwise raises CallError."""
    if error.status == 429:
        raise ResultUnknown(str(error), after_ms=RATE_LIMITED_MS) from error
    if outcome.operation == d.OPERATION_SALE and error.code in ALREADY_DONE:
        raise AlreadyDone(str(error)) from error
    if outcome.operation == d.OPERATION_SALE and error.code == NUMBER_USED:
        raise KeyReused(str(error)) from error
    if error.code == "NOT_ENOUGH":
        raise NotYet(f"the merchant's balance does not cover the refund: {error}") from error
    if error.status == 401 or error.code in ("NO_AUTH", "NOAUTH", "APPID_MCHID_NOT_MATCH", "MCH_NOT_EXISTS"):
        raise NotPossibleNow(str(error)) from error
    outcome.declined.reason = str(error)
