"""WeChat Pay's bills and complaints.

A bill is requested and then downloaded as a file by a token. A complaint stands for a dispute; it takes no money.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime

from aiohttp import web
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.holds import Hold, Refusal
from simulators.psp.accounts.incidents import CLOSED, Dispute
from simulators.psp.accounts.statement_entries import wire_of
from simulators.psp.request_handler import RequestHandler
from simulators.psp.wechat import bills, objects
from simulators.psp.wechat.objects import Json, WeChatError
from simulators.psp.wechat.signer import MERCHANT

Route = Callable[[web.Request, Json], Awaitable[Json | None]]

DOWNLOAD = "/v3/billdownload/file"
COMPLAINTS = "/v3/merchant-service/complaints-v2"
TRADE_KINDS = frozenset({"ALL", "SUCCESS", "REFUND"})
#: Account types of the fund flow bill. The simulated merchant has one account.
ACCOUNTS = frozenset({"BASIC", "OPERATION", "FEES"})
MAX_PAGE = 50


class MoneyApi:
    """Routes of bills and complaints."""

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler

    def routes(self) -> list[tuple[str, str, Route]]:
        """Method, path and handler of each signed route."""
        return [
            ("GET", "/v3/bill/tradebill", self._trade_bill),
            ("GET", "/v3/bill/fundflowbill", self._fund_flow_bill),
            ("GET", COMPLAINTS, self._complaints),
            ("GET", COMPLAINTS + "/{id}", self._complaint),
            ("POST", COMPLAINTS + "/{id}/response", self._respond),
            ("POST", COMPLAINTS + "/{id}/complete", self._complete),
        ]

    async def download(self, request: web.Request) -> bytes:
        """The file of a bill. Raises WeChatError."""
        name, _, tail = request.query.get("token", "").partition(".")
        day, _, compressed = tail.partition(".")
        text = await self._bill(name, day)
        return gzip.compress(text, mtime=0) if compressed else text

    async def _trade_bill(self, request: web.Request, body: Json) -> Json:
        kind = request.query.get("bill_type", "ALL")
        if kind not in TRADE_KINDS:
            raise WeChatError(400, "PARAM_ERROR", "bad bill_type")
        return await self._offer(request, f"trade-{kind}")

    async def _fund_flow_bill(self, request: web.Request, body: Json) -> Json:
        account = request.query.get("account_type", "BASIC")
        if account not in ACCOUNTS:
            raise WeChatError(400, "PARAM_ERROR", "bad account_type")
        return await self._offer(request, f"flow-{account}")

    async def _offer(self, request: web.Request, name: str) -> Json:
        """Where to download a bill, and the digest of its uncompressed file."""
        await self._handler.inject_after(await self._handler.inject_before(request.path_qs, effect=False))
        day, packing = request.query.get("bill_date", ""), request.query.get("tar_type", "")
        if packing not in ("", "GZIP"):
            raise WeChatError(400, "PARAM_ERROR", "bad tar_type")
        text = await self._bill(name, day)
        token = f"{name}.{day}" + (".gzip" if packing else "")
        url = f"{request.scheme}://{request.host}{DOWNLOAD}?token={token}"
        return {"hash_type": "SHA1", "hash_value": hashlib.sha1(text).hexdigest(), "download_url": url}

    async def _bill(self, name: str, day: str) -> bytes:
        try:
            begin_ms = bills.day_ms(day)
        except ValueError:
            raise WeChatError(400, "PARAM_ERROR", "bad bill_date") from None
        end_ms = begin_ms + bills.DAY_MS
        if self._handler.now_ms < end_ms and not self._handler.faults.behaviour.bills_of_today:
            raise WeChatError(400, "NO_STATEMENT_EXIST", "账单文件不存在")
        kind, _, account = name.partition("-")
        empty = kind == "flow" and account != "BASIC"
        entries = [] if empty else await self._handler.run(lambda: self._entries(begin_ms, end_ms))
        if not entries:
            raise WeChatError(400, "NO_STATEMENT_EXIST", "账单文件不存在")
        if kind == "trade":
            return bills.trade_bill(entries, account, self._handler.faults.behaviour.fee_per_mille).encode()
        balance = self._handler.book.balance
        opening_minor = await self._handler.run(lambda: balance.before(objects.WIRE, begin_ms))
        return bills.fund_flow_bill(entries, opening_minor).encode()

    def _entries(self, begin_ms: int, end_ms: int) -> list[bills.Entry]:
        book = self._handler.book
        found: list[bills.Entry] = []
        for booking in book.balance.between(objects.WIRE, begin_ms, end_ms):
            hold = book.load(booking.hold) if booking.hold else None
            refund = booking.kind == pb.BALANCE_KIND_REFUND
            found.append(bills.Entry(booking, hold, book.incidents.undone(booking.source) if refund else None))
        return found

    # Complaints

    async def _complaints(self, request: web.Request, body: Json) -> Json:
        limit, offset = request.query.get("limit", "10"), request.query.get("offset", "0")
        if not limit.isdecimal() or not offset.isdecimal() or not 1 <= int(limit) <= MAX_PAGE:
            raise WeChatError(400, "PARAM_ERROR", "bad limit or offset")
        found = await self._handler.run(self._all)
        begin = int(offset)
        data = [_complaint(one, hold) for one, hold in found[begin : begin + int(limit)]]
        return {"data": data, "limit": int(limit), "offset": begin, "total_count": len(found)}

    def _all(self) -> list[tuple[Dispute, Hold]]:
        book = self._handler.book
        with_holds = [(one, book.load(one.hold)) for one in book.incidents.disputes()]
        return [(one, hold) for one, hold in with_holds if wire_of(hold.payment_method) == objects.WIRE]

    async def _complaint(self, request: web.Request, body: Json) -> Json:
        name = request.match_info["id"]
        await self._handler.inject_after(await self._handler.inject_before(name, effect=False))
        for one, hold in await self._handler.run(self._all):
            if one.dispute == name:
                return _complaint(one, hold)
        raise WeChatError(404, "RESOURCE_NOT_EXISTS", "投诉单不存在")

    async def _respond(self, request: web.Request, body: Json) -> None:
        await self._move(request, pb.DISPUTE_STATE_UNDER_REVIEW)

    async def _complete(self, request: web.Request, body: Json) -> None:
        await self._move(request, pb.DISPUTE_STATE_WON)

    async def _move(self, request: web.Request, state: pb.DisputeState.ValueType) -> None:
        name = request.match_info["id"]
        fault = await self._handler.inject_before(f"{name}/{state}")
        try:
            await self._handler.run(lambda: self._handler.life.update_dispute(name, state))
        except Refusal as error:
            raise WeChatError(400, "INVALID_REQUEST", str(error)) from None
        await self._handler.inject_after(fault)


def _complaint(made: Dispute, hold: Hold) -> Json:
    state = "PENDING" if made.state == pb.DISPUTE_STATE_NEEDS_RESPONSE else "PROCESSING"
    order = {
        "transaction_id": objects.transaction_id(hold.key),
        "out_trade_no": hold.key,
        "amount": made.amount_minor,
    }
    return {
        "complaint_id": made.dispute,
        "complaint_time": datetime.fromtimestamp(made.opened_ms // 1000, bills.BEIJING).isoformat(),
        "complaint_detail": made.reason,
        "complainted_mchid": MERCHANT,
        "complaint_state": "PROCESSED" if made.state in CLOSED else state,
        "complaint_order_info": [order],
        "complaint_full_refunded": hold.refunded_minor == hold.captured_minor,
        "incoming_user_response": False,
        "user_complaint_times": 1,
        "problem_type": "REFUND",
        "apply_refund_amount": made.amount_minor,
    }
