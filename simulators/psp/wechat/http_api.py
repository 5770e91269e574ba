"""WeChat Pay's API v3, as much as paying, looking up, closing and refunding need, with signatures both ways.

A payer pays by hand, in real life; here one pays at once, unless the openid ends in `_action` (then by Confirm) or
`_declined`. The merchant's own numbers are the ledger's keys. Must never answer before the books have it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.request_handler import Desk, TooMany, Unavailable
from simulators.psp.rules import KeyReused, NotFound
from simulators.psp.wechat import objects
from simulators.psp.wechat.objects import Json, WeChatError
from simulators.psp.wechat.signer import APP, MERCHANT, Seal

Handler = Callable[[web.Request, Json], Awaitable[Json | None]]


class WeChatFace:
    """The routes under /v3."""

    def __init__(self, desk: Desk, seal: Seal) -> None:
        self._desk = desk
        self._seal = seal

    def routes(self) -> list[web.RouteDef]:
        """What it answers."""
        transactions, refunds = "/v3/pay/transactions", "/v3/refund/domestic/refunds"
        return [
            web.post(f"{transactions}/jsapi", self._answered(self._pay)),
            web.post(f"{transactions}/native", self._answered(self._pay)),
            web.get(transactions + "/out-trade-no/{number}", self._answered(self._query)),
            web.post(transactions + "/out-trade-no/{number}/close", self._answered(self._close)),
            web.post(refunds, self._answered(self._refund)),
            web.get(refunds + "/{number}", self._answered(self._query_refund)),
        ]

    def _answered(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            status, made = 200, None
            try:
                made = await handler(request, await self._read(request))
                status = 200 if made is not None else 204
            except WeChatError as error:
                status, made = error.status, error.body
            except TooMany as error:
                status, made = 429, {"code": "FREQUENCY_LIMITED", "message": str(error)}
            except Unavailable as error:
                status, made = 500, {"code": "SYSTEM_ERROR", "message": str(error)}
            body = json.dumps(made, ensure_ascii=False).encode() if made is not None else b""
            return web.Response(
                body=body, status=status, headers=self._seal.headers(body), content_type="application/json"
            )

        return answer

    async def _read(self, request: web.Request) -> Json:
        body = await request.read()
        authorisation = request.headers.get("Authorization", "")
        if not self._seal.is_signed(request.method, request.path_qs, body, authorisation):
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

    async def _pay(self, request: web.Request, asked: Json) -> Json:
        number, amount = str(asked.get("out_trade_no", "")), asked.get("amount", {})
        attach, payer = str(asked.get("attach", "")), str(asked.get("payer", {}).get("openid", ""))
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
            result = await self._desk.call(call)
        except KeyReused:
            raise WeChatError(403, "OUT_TRADE_NO_USED", "商户订单号重复") from None
        if result.status == pb.STATUS_AUTHORISED and payer.endswith("_action"):
            raise WeChatError(400, "ORDERPAID", "该订单已支付")
        name = result.hold or number
        return {"prepay_id": f"wx{name}"} if jsapi else {"code_url": f"weixin://wxpay/bizpayurl?pr={name}"}

    async def _query(self, request: web.Request, asked: Json) -> Json:
        number = request.match_info["number"]
        fate = await self._desk.inject(number, effect=False)
        result = await self._known(number, "ORDER_NOT_EXIST")
        found = (
            objects.transaction((await self._desk.account(result.hold)).hold)
            if result.hold
            else objects.refused(number)
        )
        await self._desk.befall_after(fate)
        return found

    async def _close(self, request: web.Request, asked: Json) -> None:
        number = request.match_info["number"]
        fate = await self._desk.inject(f"{number}/close")
        made = await self._known(number, "ORDER_NOT_EXIST")
        if made.hold:
            # A number is closed once: whoever closes it again is told the same.
            closed = await self._desk.submit(pb.VoidRequest(key=f"{number}/close", hold=made.hold))
            if closed.status == pb.STATUS_DECLINED:
                raise WeChatError(400, "ORDERPAID", "该订单已支付")
        await self._desk.befall_after(fate)

    async def _refund(self, request: web.Request, asked: Json) -> Json:
        number, amount = str(asked.get("out_refund_no", "")), asked.get("amount", {})
        wanted = amount.get("refund")
        if not 1 <= len(number) <= 64 or not isinstance(wanted, int) or wanted < 1 or amount.get("currency") != "CNY":
            raise WeChatError(400, "PARAM_ERROR", "bad out_refund_no or amount")
        fate = await self._desk.inject(number)
        made = await self._known(str(asked.get("out_trade_no", "")), "RESOURCE_NOT_EXISTS")
        if not made.hold:
            raise WeChatError(404, "RESOURCE_NOT_EXISTS", "订单不存在")
        account = await self._desk.account(made.hold)
        if amount.get("total") != account.hold.asked_minor:
            raise WeChatError(400, "INVALID_REQUEST", "订单金额不一致")
        try:
            result = await self._desk.submit(pb.RefundRequest(key=number, hold=made.hold, amount_minor=wanted))
        except KeyReused:
            raise WeChatError(400, "INVALID_REQUEST", "same out_refund_no, another refund") from None
        await self._desk.befall_after(fate)
        if result.status != pb.STATUS_REFUNDED:
            raise WeChatError(400, "INVALID_REQUEST", f"可退金额不足: {result.reason}")
        return objects.refund(account.hold, number, result.amount_minor, "PROCESSING")

    async def _query_refund(self, request: web.Request, asked: Json) -> Json:
        number = request.match_info["number"]
        fate = await self._desk.inject(number, effect=False)
        result = await self._known(number, "RESOURCE_NOT_EXISTS")
        if result.status != pb.STATUS_REFUNDED:
            raise WeChatError(404, "RESOURCE_NOT_EXISTS", "退款单不存在")
        account = await self._desk.account(result.hold)
        await self._desk.befall_after(fate)
        return objects.refund(account.hold, number, result.amount_minor, "SUCCESS")

    async def _known(self, number: str, code: str) -> pb.CallResult:
        try:
            return await self._desk.submit(pb.LookUpRequest(key=number))
        except NotFound:
            raise WeChatError(404, code, f"no {number}") from None
