"""The merchant's money over each API: balance transactions, payouts, disputes, bills, and the statement over gRPC."""

from __future__ import annotations

import asyncio
import csv
import gzip
import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import grpc
import pytest
from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.wechat import signer
from tests.process.psp.http_client import Simulator, simulator
from tests.provider_simulator import merchant

DAY_MS = 86_400_000
TODAY = "2025-11-30"


@pytest.fixture
async def psp(tmp_path: Path) -> AsyncIterator[Simulator]:
    async with simulator(tmp_path) as made:
        yield made


async def test_the_balance_pages_through_fees_refunds_disputes_and_a_payout(psp: Simulator) -> None:
    await psp.configure(fee_per_mille=10, fee_fixed_minor=30, dispute_fee_minor=1_500)
    intent, other = await psp.paid(), await psp.paid("k2", amount="1000")
    await psp.post("/v1/refunds", "r1", payment_intent=other, amount="400")
    dispute = await psp.stub.OpenDispute(pb.OpenDisputeRequest(hold=intent, amount_minor=900), timeout=5)
    await psp.stub.UpdateDispute(
        pb.UpdateDisputeRequest(dispute=dispute.dispute, state=pb.DISPUTE_STATE_WON), timeout=5
    )
    payout = (await psp.stub.PayOut(pb.PayOutRequest(wire="stripe"), timeout=5)).payouts[0]
    found: list[dict[str, Any]] = []
    while True:
        after = {"starting_after": found[-1]["id"]} if found else {}
        page = await psp.get("/v1/balance_transactions", limit="2", **{"expand[]": "data.source"}, **after)
        found += page["data"]
        if not page["has_more"]:
            break
    kinds = [(one["type"], one["reporting_category"], one["amount"], one["fee"]) for one in reversed(found)]
    assert kinds == [
        ("charge", "charge", 8900, 119),
        ("charge", "charge", 1000, 40),
        ("refund", "refund", -400, 0),
        ("adjustment", "dispute", -900, 1500),
        ("adjustment", "dispute_reversal", 900, 0),
        ("payout", "payout", -7841, 0),
    ]
    assert sum(one["net"] for one in found) == 0
    assert found[-1]["source"]["payment_intent"] == intent
    assert found[-1]["source"]["metadata"]["order"] == "a"
    assert (await psp.get(f"/v1/payouts/{payout.source}"))["amount"] == 7841
    listed = await psp.get("/v1/balance_transactions", payout=payout.source, limit="100")
    assert len(listed["data"]) == 6
    assert (await psp.get("/v1/payouts"))["data"][0]["id"] == payout.source
    assert [one["net"] for one in (await psp.get("/v1/balance_transactions", type="refund"))["data"]] == [-400]
    second_s = str(psp.now_ms // 1000)
    assert (await psp.get("/v1/balance_transactions", **{"created[lt]": second_s}))["data"] == []
    assert len((await psp.get("/v1/balance_transactions", **{"created[gte]": second_s}))["data"]) == 6


async def test_a_merchant_answers_and_accepts_disputes(psp: Simulator) -> None:
    for key in ("k1", "k2"):
        await psp.stub.OpenDispute(pb.OpenDisputeRequest(hold=await psp.paid(key)), timeout=5)
    first, second = (await psp.get("/v1/disputes"))["data"]
    _, answered, _ = await psp.post(f"/v1/disputes/{first['id']}", "e1", **{"evidence[uncategorized_text]": "sent"})
    assert answered["status"] == "under_review"
    _, closed, _ = await psp.post(f"/v1/disputes/{second['id']}/close", "e2")
    assert closed["status"] == "lost"
    assert (await psp.get("/v1/disputes", payment_intent=second["payment_intent"]))["data"] == [closed]
    assert (await psp.get("/v1/account"))["object"] == "account"
    await psp.stub.WarnOfFraud(pb.WarnOfFraudRequest(hold=first["payment_intent"]), timeout=5)
    assert [one["charge"] for one in (await psp.get("/v1/radar/early_fraud_warnings"))["data"]] == [first["charge"]]


async def test_the_grpc_statement_has_all_that_happened(psp: Simulator) -> None:
    await psp.configure(fee_per_mille=10)
    intent = await psp.paid(**{"metadata[environment]": "green"})
    by_hand = pb.OperateByHandRequest(hold=intent, kind=pb.EXTERNAL_KIND_REFUND, amount_minor=100)
    await psp.stub.OperateByHand(by_hand, timeout=5)
    (refund,) = (await psp.get("/v1/refunds", payment_intent=intent))["data"]
    (entry,) = [one async for one in psp.stub.ExportStatement(pb.ExportStatementRequest(), timeout=5)]
    assert (entry.environment, entry.fees_minor, entry.refunded_minor) == ("green", 89, 100)
    assert [one.operation for one in entry.external_operations] == [refund["id"]]
    balance = [one async for one in psp.stub.ExportBalance(pb.ExportBalanceRequest(), timeout=5)]
    assert [(one.hold, one.amount_minor, one.fee_minor) for one in balance] == [(intent, 8900, 89), (intent, -100, 0)]
    assert balance[1].source == refund["id"]
    assert refund["metadata"] == {}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await psp.stub.OperateByHand(pb.OperateByHandRequest(hold=intent, kind=pb.EXTERNAL_KIND_CAPTURE), timeout=5)
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION


async def test_incidents_happen_by_themselves(psp: Simulator) -> None:
    await psp.configure(dispute_ms=1_000)
    intent = await psp.paid(payment_method="pm_dispute")
    psp.now_ms += 1_000
    disputes: list[Any] = []
    async with asyncio.timeout(5):
        while not disputes:
            disputes = (await psp.get("/v1/disputes"))["data"]
    assert disputes[0]["payment_intent"] == intent


class WeChat:
    """A client of WeChat Pay's API with the merchant's signature."""

    def __init__(self, psp: Simulator) -> None:
        self._psp = psp
        self._account = merchant(psp.folder / "wechat_keys")

    async def call(self, method: str, path: str, body: str = "") -> tuple[int, Any]:
        headers = {"Authorization": self._account.authorization(method, path, body.encode())}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self._psp.url + path, data=body.encode(), headers=headers) as answer,
        ):
            content = await answer.read()
            return answer.status, content if "billdownload" in path else await answer.json() if content else None

    async def pay(self, number: str, total: int) -> None:
        body = (
            f'{{"appid":"{signer.APP}","mchid":"{signer.MERCHANT}","out_trade_no":"{number}","attach":"g/o/sale/1,x",'
            f'"amount":{{"total":{total},"currency":"CNY"}}}}'
        )
        assert (await self.call("POST", "/v3/pay/transactions/native", body))[0] == 200

    async def refund(self, number: str, refund: str, minor: int, total: int) -> None:
        amount = f'{{"refund":{minor},"total":{total},"currency":"CNY"}}'
        body = f'{{"out_trade_no":"{number}","out_refund_no":"{refund}","amount":{amount}}}'
        assert (await self.call("POST", "/v3/refund/domestic/refunds", body))[0] == 200

    async def bill(self, path: str) -> str:
        """A bill's text, whose digest is right."""
        status, offered = await self.call("GET", path)
        assert status == 200, offered
        url = urlsplit(offered["download_url"])
        status, content = await self.call("GET", f"{url.path}?{url.query}")
        assert status == 200
        plain: bytes = gzip.decompress(content) if "GZIP" in path else content
        assert hashlib.sha1(plain).hexdigest() == offered["hash_value"]
        return plain.decode()


def read(text: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Data rows and summary of a bill."""
    rows = list(csv.reader(io.StringIO(text)))
    assert all(field.startswith("`") for row in (*rows[1:-2], rows[-1]) for field in row)
    plain = [[field.removeprefix("`") for field in row] for row in rows]
    return [dict(zip(plain[0], row, strict=True)) for row in plain[1:-2]], dict(zip(*plain[-2:], strict=True))


async def test_wechats_bills_list_payments_refunds_and_fees(psp: Simulator) -> None:
    await psp.configure(fee_per_mille=6)
    wechat = WeChat(psp)
    await wechat.pay("number1", 10_000)
    await wechat.refund("number1", "refund1", 2_500, 10_000)
    today = f"/v3/bill/tradebill?bill_date={TODAY}"
    status, missing = await wechat.call("GET", today)
    assert (status, missing["code"]) == (400, "NO_STATEMENT_EXIST")
    psp.now_ms += DAY_MS
    rows, summary = read(await wechat.bill(f"{today}&bill_type=ALL&tar_type=GZIP"))
    assert [(row["交易状态"], row["应结订单金额"], row["退款金额"], row["手续费"]) for row in rows] == [
        ("SUCCESS", "100.00", "0.00", "0.60000"),
        ("REFUND", "0.00", "25.00", "-0.15000"),
    ]
    assert [row["商户退款单号"] for row in rows] == ["0", "refund1"]
    assert {row["商户订单号"] for row in rows} == {"number1"}
    assert rows[0]["商户数据包"] == "g/o/sale/1\\ x"
    assert rows[0]["交易时间"].startswith(TODAY)
    assert (summary["总交易单数"], summary["手续费总金额"], summary["退款总金额"]) == ("2", "0.45000", "25.00")
    payments, _ = read(await wechat.bill(f"{today}&bill_type=SUCCESS"))
    assert len(payments) == 1
    assert "微信退款单号" not in payments[0]
    flow, total = read(await wechat.bill(f"/v3/bill/fundflowbill?bill_date={TODAY}&account_type=BASIC"))
    assert [(row["业务类型"], row["收支类型"], row["收支金额(元)"], row["账户结余(元)"]) for row in flow] == [
        ("交易", "收入", "100.00", "100.00"),
        ("扣除交易手续费", "支出", "0.60", "99.40"),
        ("退款", "支出", "25.00", "74.40"),
        ("退还交易手续费", "收入", "0.15", "74.55"),
    ]
    assert (total["资金流水总笔数"], total["收入金额"], total["支出金额"]) == ("4", "100.15", "25.60")
    assert (await wechat.call("GET", "/v3/bill/tradebill?bill_date=2025-13-01"))[0] == 400


async def test_a_bill_of_today_is_served_where_configured(psp: Simulator) -> None:
    await psp.configure(bills_of_today=True)
    wechat = WeChat(psp)
    await wechat.pay("number1", 100)
    rows, _ = read(await wechat.bill(f"/v3/bill/tradebill?bill_date={TODAY}"))
    assert len(rows) == 1


async def test_a_complaint_is_answered_and_completed(psp: Simulator) -> None:
    wechat = WeChat(psp)
    await wechat.pay("number1", 100)
    await psp.stub.OpenDispute(pb.OpenDisputeRequest(hold="number1", reason="not delivered"), timeout=5)
    complaints = "/v3/merchant-service/complaints-v2"
    _, listed = await wechat.call("GET", f"{complaints}?limit=5&begin_date={TODAY}&end_date={TODAY}")
    (complaint,) = listed["data"]
    assert complaint["complaint_order_info"][0]["out_trade_no"] == "number1"
    assert (complaint["complaint_state"], complaint["complaint_detail"]) == ("PENDING", "not delivered")
    one = f"{complaints}/{complaint['complaint_id']}"
    for step, state in (("response", "PROCESSING"), ("complete", "PROCESSED")):
        assert (await wechat.call("POST", f"{one}/{step}", "{}"))[0] == 204
        assert (await wechat.call("GET", one))[1]["complaint_state"] == state
    assert (await wechat.call("POST", f"{one}/complete", "{}"))[0] == 400


async def test_an_undone_refund_is_abnormal_at_wechat_and_failed_at_stripe(psp: Simulator) -> None:
    wechat = WeChat(psp)
    await wechat.pay("number1", 100)
    await wechat.refund("number1", "refund1", 100, 100)
    await psp.stub.UndoRefund(pb.UndoRefundRequest(key="refund1"), timeout=5)
    _, found = await wechat.call("GET", "/v3/refund/domestic/refunds/refund1")
    assert found["status"] == "ABNORMAL"
    intent = await psp.paid()
    _, made, _ = await psp.post("/v1/refunds", "r1", payment_intent=intent)
    await psp.stub.UndoRefund(pb.UndoRefundRequest(key="r1"), timeout=5)
    assert (await psp.get(f"/v1/refunds/{made['id']}"))["status"] == "failed"
