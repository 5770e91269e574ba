"""Adapter to WeChat Pay, which has no holds: the full price is taken at join and the difference is refunded.

A sale is ACTION_REQUIRED until the shopper has paid, and is queried by its out_trade_no, which is also the reference of
the "hold". WeChat Pay honours numbers for ever, so a retry is safe. A sale is reported as paid only if a signed answer
says SUCCESS.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from groupbuy.payments.v1 import decisions_pb2 as d
from groupbuy.payments.v1.decisions_pb2 import ProviderCall
from groupbuy.payments.v1.inbox_pb2 import OUTCOME_ORIGIN_CALL, OUTCOME_ORIGIN_LOOKUP, ProviderOutcome

from chassis.outside.call_errors import AlreadyDone, CallError, KeyReused, NotPossibleNow, NotYet, ResultUnknown
from chassis.outside.circuit_breaker import CircuitBreaker
from chassis.outside.resolve import RetryPolicy
from services.payments.providers.call_limiter import CallLimiter
from services.payments.providers.port import Claim, ResolvingProvider, Unaddressed, idempotency_key, outcome_of
from services.payments.providers.wechat import mapping
from services.payments.providers.wechat import references as refs
from services.payments.providers.wechat.client import WeChatClient, WeChatFailed
from services.payments.providers.wechat.complaints import COMPLAINTS, orders_of, set_complaint
from shared_kernel.payment_providers import CAPABILITIES, WECHAT, token_of

#: Payer of a method whose shopper scans a code.
NATIVE = "native"
TRANSACTIONS, REFUNDS = "/v3/pay/transactions", "/v3/refund/domestic/refunds"
#: Error codes of a payment that already has a result under its number.
ALREADY_DONE = frozenset({"ORDERPAID", "ORDER_PAID", "ORDER_CLOSED", "ORDERCLOSED"})
#: Error code of a number that was used with another payload.
NUMBER_USED = "OUT_TRADE_NO_USED"
NOT_FOUND = frozenset({"ORDER_NOT_EXIST", "RESOURCE_NOT_EXISTS"})
#: Payments whose payment URL is kept. An evicted URL is requested again.
MAX_ACTION_URLS = 10_000
#: Seconds after which a payment URL is requested again: it is valid for two hours, and the shopper needs some of them.
ACTION_URL_S = CAPABILITIES[WECHAT].action_link_ms / 1000 - 600
#: Error codes about the merchant's account or its rights.
ACCOUNT_CODES = frozenset({"NO_AUTH", "NOAUTH", "APPID_MCHID_NOT_MATCH", "MCH_NOT_EXISTS", "SIGN_ERROR"})
#: Delay after a rate limit.
RATE_LIMITED_MS = 1_000
NO_HOLDS = "WeChat Pay can't hold money: its payment methods are for sales"


class WeChatProvider(ResolvingProvider):
    """WeChat Pay for one merchant. Bound to the event loop of its first call."""

    name = WECHAT

    def __init__(
        self,
        client: WeChatClient,
        *,
        notify_url: str,
        description: str = "Group order",
        environment: str = "",
        policy: RetryPolicy | None = None,
        breaker: CircuitBreaker | None = None,
        limiter: CallLimiter | None = None,
    ) -> None:
        """`notify_url` receives WeChat Pay's notifications; `description` is shown to the shopper.

        `environment`: id of this deployment.
        """
        self._client = client
        self._environment = environment
        self._notify_url = notify_url
        self._description = description
        super().__init__(policy, breaker, limiter)
        #: Payment URL by out_trade_no, and when it was made, in seconds of the loop's clock.
        self._action_urls: OrderedDict[str, tuple[str, float]] = OrderedDict()

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    async def perform(self, call: ProviderCall, group: str) -> ProviderOutcome:
        """Makes a call and returns its outcome. See Provider."""
        key = idempotency_key(call)
        outcome = outcome_of(call, OUTCOME_ORIGIN_CALL)
        if call.operation in (d.OPERATION_AUTHORISE, d.OPERATION_CAPTURE, d.OPERATION_CHECK):
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
                number = refs.refund_number(call, group, self._environment)
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
                try:
                    _set_declined_or_raise(outcome, error)
                except CallError as failed:
                    if error.status == 429:
                        self._limiter.pause(failed.after_ms)
                    raise
                await _read_after_refusal(outcome, call, look_up, timeout_s)
            return outcome

        async def looked_up(timeout_s: float) -> ProviderOutcome | None:
            outcome = outcome_of(call, OUTCOME_ORIGIN_LOOKUP)
            return outcome if await _found(look_up, outcome, timeout_s) else None

        return await self.resolve(call, sent, looked_up)

    # A sale

    def _pay(self, call: ProviderCall, group: str) -> Callable[[ProviderOutcome, float], Awaitable[None]]:
        number, payer = refs.trade_number(call), token_of(call.payment_method)
        kind = "native" if payer == NATIVE else "jsapi"
        body: dict[str, Any] = {
            "appid": self._client.account.app_id,
            "mchid": self._client.account.merchant_id,
            "description": self._description,
            "out_trade_no": number,
            "attach": refs.attach(call, group, self._environment),
            "notify_url": self._notify_url,
            "amount": {"total": call.amount_minor, "currency": call.currency},
        }
        if payer != NATIVE:
            body["payer"] = {"openid": payer}

        async def send(outcome: ProviderOutcome, timeout_s: float) -> None:
            made = await self._client.request("POST", f"{TRANSACTIONS}/{kind}", timeout_s, body)
            url = str(made.get("code_url") or self._jsapi_url(str(made.get("prepay_id", ""))))
            # A URL that can still be used stays: a shopper may be paying there.
            if not self._action_url(number):
                self._action_urls[number] = url, asyncio.get_running_loop().time()
            while len(self._action_urls) > MAX_ACTION_URLS:
                self._action_urls.popitem(last=False)
            if not await self._paid(call)(outcome, timeout_s):
                raise ResultUnknown("WeChat Pay does not find a payment that was just made")

        return send

    def _paid(self, call: ProviderCall) -> Callable[[ProviderOutcome, float], Awaitable[bool]]:
        number = refs.trade_number(call)

        async def look_up(outcome: ProviderOutcome, timeout_s: float) -> bool:
            transaction = await self._transaction(number, timeout_s)
            self._require_ours(transaction)
            match transaction["trade_state"]:
                case state if state in mapping.PAID:
                    mapping.set_paid(outcome, transaction)
                case "NOTPAY" if not self._action_url(number):
                    # Only the answer to the sale has the payment URL, so the sale is sent again, under its number.
                    return False
                case "NOTPAY" | "USERPAYING" | "ACCEPT":
                    outcome.action_required.hold = number
                    outcome.action_required.action_url = self._action_url(number)
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

    def _action_url(self, number: str) -> str:
        """The URL that the shopper can open; empty if there is none, or it is about to expire."""
        url, made_s = self._action_urls.get(number, ("", 0.0))
        return url if asyncio.get_running_loop().time() - made_s < ACTION_URL_S else ""

    def _require_ours(self, transaction: Mapping[str, Any]) -> None:
        """Raises NotPossibleNow for a payment of another deployment on the same account."""
        reference = refs.of_attach(str(transaction.get("attach", "")))
        if reference is not None and reference.environment not in ("", self._environment):
            raise NotPossibleNow(f"the payment belongs to the deployment {reference.environment[:50]!r}")

    async def _transaction(self, number: str, timeout_s: float) -> dict[str, Any]:
        path = f"{TRANSACTIONS}/out-trade-no/{number}?" + urlencode({"mchid": self._client.account.merchant_id})
        return await self._client.request("GET", path, timeout_s)

    def _jsapi_url(self, prepay: str) -> str:
        """The parameters that the shopper's app hands to WeChat, as a link."""
        app, stamp, package = self._client.account.app_id, str(int(time.time())), f"prepay_id={prepay}"
        sign = self._client.account.pay_sign(app, stamp, prepay, package)
        fields = {"appId": app, "timeStamp": stamp, "nonceStr": prepay, "package": package, "signType": "RSA"}
        return "weixin://jsapi?" + urlencode({**fields, "paySign": sign})

    # Notifications that name no order

    async def locate(self, notification: Unaddressed, timeout_s: float) -> Claim | None:
        """The order in the attachment of a payment, or of a complaint's payments. See Locates."""
        outcome, holds = notification.outcome, [notification.hold]
        await self._limiter.acquire()
        try:
            if notification.subject:
                complaint = await self._client.request("GET", f"{COMPLAINTS}/{notification.subject}", timeout_s)
                set_complaint(outcome, complaint)
                holds = orders_of(complaint)
            for hold in holds:
                transaction = await self._transaction(hold, timeout_s)
                reference = refs.of_attach(str(transaction.get("attach", "")))
                if reference is None:
                    continue
                if notification.subject:
                    outcome.dispute.hold = hold
                outcome.order, outcome.environment = reference.order, reference.environment
                return reference.group, outcome
        except WeChatFailed as error:
            if error.status == 404 or error.code in NOT_FOUND:
                return None
            raise NotPossibleNow(str(error)) from error
        return None

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
                outcome.captured.currency = mapping.currency_of(transaction)
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


def _unsupported(call: ProviderCall) -> str:
    """Reason for which WeChat Pay would refuse a call; empty if it may accept it."""
    if call.operation == d.OPERATION_VOID:
        return ""
    if call.operation in (d.OPERATION_SALE, d.OPERATION_REFUND):
        return CAPABILITIES[WECHAT].amount_problem(
            call.amount_minor, call.currency, part=call.operation == d.OPERATION_REFUND
        )
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
        # WeChat Pay did nothing.
        raise NotYet(str(error), after_ms=max(error.after_ms, RATE_LIMITED_MS)) from error
    if outcome.operation == d.OPERATION_SALE and error.code in ALREADY_DONE:
        raise AlreadyDone(str(error)) from error
    if outcome.operation == d.OPERATION_SALE and error.code == NUMBER_USED:
        raise KeyReused(str(error)) from error
    if error.code == "NOT_ENOUGH":
        raise NotYet(f"the merchant's balance does not cover the refund: {error}") from error
    # A payment that we know of is unknown only to another merchant's account.
    missing = outcome.operation != d.OPERATION_SALE and (error.status == 404 or error.code in NOT_FOUND)
    if error.status == 401 or error.code in ACCOUNT_CODES or missing:
        raise NotPossibleNow(str(error)) from error
    outcome.declined.reason = str(error)
