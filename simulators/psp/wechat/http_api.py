"""WeChat Pay's API v3: payments, look-ups, closing and refunds, with signatures both ways.

A real payer pays by hand. The simulated one pays at once, unless the openid ends in `_action` (pays by Confirm) or
`_declined`. The merchant's own numbers are the keys of the calls.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.account_book import REFUND_REFUSED
from simulators.psp.accounts.holds import KeyReused, NotFound
from simulators.psp.request_handler import RateLimited, RequestHandler, Unavailable
from simulators.psp.wechat import objects
from simulators.psp.wechat.money_api import DOWNLOAD, MoneyApi
from simulators.psp.wechat.objects import Json, WeChatError
from simulators.psp.wechat.signer import APP, MERCHANT, Signer

Route = Callable[[web.Request, Json], Awaitable[Json | None]]


class WeChatApi:
    """Routes under /v3."""

    def __init__(self, handler: RequestHandler, signer: Signer) -> None:
        self._handler = handler
        self._money = MoneyApi(handler)
        self._signer = signer

    def routes(self) -> list[web.RouteDef]:
        """The routes to serve."""
        transactions, refunds = "/v3/pay/transactions", "/v3/refund/domestic/refunds"
        return [
            web.post(f"{transactions}/jsapi", self._answered(self._pay)),
            web.post(f"{transactions}/native", self._answered(self._pay)),
            web.get(transactions + "/out-trade-no/{number}", self._answered(self._query)),
            web.post(transactions + "/out-trade-no/{number}/close", self._answered(self._close)),
            web.post(refunds, self._answered(self._refund)),
            web.get(refunds + "/{number}", self._answered(self._query_refund)),
            web.get(DOWNLOAD, self._download),
            *(web.route(method, path, self._answered(route)) for method, path, route in self._money.routes()),
        ]

    def _answered(self, route: Route) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            status, made, headers = 200, None, dict[str, str]()
            try:
                made = await route(request, await self._read(request))
                status = 200 if made is not None else 204
            except WeChatError as error:
                status, made = error.status, error.body
            except RateLimited as error:
                status, made = 429, {"code": "FREQUENCY_LIMITED", "message": str(error)}
                if error.retry_after_s:
                    headers["Retry-After"] = str(error.retry_after_s)
            except Unavailable as error:
                status, made = 500, {"code": "SYSTEM_ERROR", "message": str(error)}
            body = json.dumps(made, ensure_ascii=False).encode() if made is not None else b""
            headers |= self._signer.sign(body)
            return web.Response(body=body, status=status, headers=headers, content_type="application/json")

        return answer

    async def _download(self, request: web.Request) -> web.Response:
        """A bill's file. WeChat Pay does not sign it; the answer to the request of the bill has its digest."""
        try:
            await self._read(request)
            return web.Response(body=await self._money.download(request), content_type="text/plain", charset="utf-8")
        except WeChatError as error:
            return web.json_response(error.body, status=error.status)

    async def _read(self, request: web.Request) -> Json:
        body = await request.read()
        authorisation = request.headers.get("Authorization", "")
        if not self._signer.verify(request.method, request.path_qs, body, authorisation):
            raise WeChatError(401, "SIGN_ERROR", "签名错误")
        try:
            read: Any = json.loads(body) if body else {}
        except ValueError:
            read = None
        if not isinstance(read, dict):
            raise WeChatError(400, "PARAM_ERROR", "the body is no JSON object")
        given = {**request.query, **read}
        if given.get("mchid", MERCHANT) != MERCHANT or given.get("appid", APP) != APP:
            raise WeChatError(400, "APPID_MCHID_NOT_MATCH", "appid and mchid do not match")
        return read

    async def _pay(self, request: web.Request, body: Json) -> Json:
        number, amount = str(body.get("out_trade_no", "")), body.get("amount", {})
        attach, payer = str(body.get("attach", "")), str(body.get("payer", {}).get("openid", ""))
        jsapi = request.path.endswith("jsapi")
        total, currency = amount.get("total"), amount.get("currency", "CNY")
        if not 6 <= len(number) <= 32 or not isinstance(total, int) or total < 1 or len(attach) > 128:
            raise WeChatError(400, "PARAM_ERROR", "bad out_trade_no, amount or attach")
        if currency != "CNY" or jsapi != bool(payer):
            raise WeChatError(400, "PARAM_ERROR", "bad currency or payer")
        group, _, rest = attach.partition("/")
        call = pb.AuthoriseRequest(
            key=number,
            order=rest.partition("/")[0],
            group=group,
            payment_method=f"{objects.WIRE}/{attach}/{payer}",
            amount_minor=total,
            currency=currency,
            sale=True,
        )
        try:
            result = await self._handler.call(call)
        except KeyReused:
            raise WeChatError(403, "OUT_TRADE_NO_USED", "商户订单号重复") from None
        if result.status == pb.STATUS_AUTHORISED and payer.endswith("_action"):
            raise WeChatError(400, "ORDERPAID", "该订单已支付")
        name = result.hold or number
        return {"prepay_id": f"wx{name}"} if jsapi else {"code_url": f"weixin://wxpay/bizpayurl?pr={name}"}

    async def _query(self, request: web.Request, body: Json) -> Json:
        number = request.match_info["number"]
        fault = await self._handler.inject_before(number, effect=False)
        result = await self._result_of(number, "ORDER_NOT_EXIST")
        found = (
            objects.transaction((await self._handler.account(result.hold)).hold)
            if result.hold
            else objects.declined(number)
        )
        await self._handler.inject_after(fault)
        return found

    async def _close(self, request: web.Request, body: Json) -> None:
        number = request.match_info["number"]
        fault = await self._handler.inject_before(f"{number}/close")
        made = await self._result_of(number, "ORDER_NOT_EXIST")
        if made.hold:
            # The key is the number's, so closing it again gets the same answer.
            closed = await self._handler.submit(pb.VoidRequest(key=f"{number}/close", hold=made.hold))
            if closed.status == pb.STATUS_DECLINED:
                raise WeChatError(400, "ORDERPAID", "该订单已支付")
        await self._handler.inject_after(fault)

    async def _refund(self, request: web.Request, body: Json) -> Json:
        number, amount = str(body.get("out_refund_no", "")), body.get("amount", {})
        wanted = amount.get("refund")
        if not 1 <= len(number) <= 64 or not isinstance(wanted, int) or wanted < 1 or amount.get("currency") != "CNY":
            raise WeChatError(400, "PARAM_ERROR", "bad out_refund_no or amount")
        fault = await self._handler.inject_before(number)
        made = await self._result_of(str(body.get("out_trade_no", "")), "RESOURCE_NOT_EXISTS")
        if not made.hold:
            raise WeChatError(404, "RESOURCE_NOT_EXISTS", "订单不存在")
        account = await self._handler.account(made.hold)
        if amount.get("total") != account.hold.asked_minor:
            raise WeChatError(400, "INVALID_REQUEST", "订单金额不一致")
        try:
            result = await self._handler.submit(pb.RefundRequest(key=number, hold=made.hold, amount_minor=wanted))
        except KeyReused:
            raise WeChatError(400, "INVALID_REQUEST", "same out_refund_no, another refund") from None
        await self._handler.inject_after(fault)
        if result.status != pb.STATUS_REFUNDED:
            if result.reason == REFUND_REFUSED:
                raise WeChatError(403, "USER_ACCOUNT_ABNORMAL", "用户账户异常或已注销")
            raise WeChatError(400, "INVALID_REQUEST", f"可退金额不足: {result.reason}")
        return objects.refund(account.hold, number, result.amount_minor, "PROCESSING")

    async def _query_refund(self, request: web.Request, body: Json) -> Json:
        number = request.match_info["number"]
        fault = await self._handler.inject_before(number, effect=False)
        result = await self._result_of(number, "RESOURCE_NOT_EXISTS")
        status = objects.REFUND_STATUS.get(result.status)
        if status is None:
            raise WeChatError(404, "RESOURCE_NOT_EXISTS", "退款单不存在")
        account = await self._handler.account(result.hold)
        await self._handler.inject_after(fault)
        return objects.refund(account.hold, number, result.amount_minor, status)

    async def _result_of(self, number: str, code: str) -> pb.CallResult:
        try:
            return await self._handler.submit(pb.LookUpRequest(key=number))
        except NotFound:
            raise WeChatError(404, code, f"no {number}") from None
