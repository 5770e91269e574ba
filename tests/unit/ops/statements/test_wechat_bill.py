"""WeChat Pay's bills are read as movements, packed or not; a bill that is cut off or malformed is an error."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.statements.collected import Statement
from ops.statements.movements import Kind
from ops.statements.source import parse, read
from ops.statements.wechat_bill import movements

TRADE_HEADER = (
    "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,"
    "应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,"
    "手续费,费率,订单金额,申请退款金额,费率备注"
)
PAID = (
    "`2026-01-31 10:00:00,`app,`m,`0,`,`w1,`n1,`u,`JSAPI,`SUCCESS,`OTHERS,`CNY,`89.00,`0.00,`0,`0,`0.00,`0.00,`,`,`Mug,"
    "`g1/o1/sale/1/live,`0.53000,`0.60%,`89.00,`0.00,`"
)
BACK = (
    "`2026-01-31 12:00:00,`app,`m,`0,`,`w1,`n1,`u,`JSAPI,`REFUND,`OTHERS,`CNY,`0.00,`0.00,`r1,`out1,`10.00,`0.00,"
    "`ORIGINAL,`SUCCESS,`Mug,`g1/o1/sale/1/live,`-0.06000,`0.60%,`0.00,`10.00,`"
)
TRADE_SUMMARY = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额"
FLOW_HEADER = (
    "记账时间,微信支付业务单号,资金流水单号,业务名称,业务类型,收支类型,收支金额(元),账户结余(元),资金变更提交申请人,备注,"
    "业务凭证号"
)
FLOWS = (
    "`2026-01-31 10:00:00,`w1,`f1,`交易,`交易,`收入,`89.00,`89.00,`system,`,`n1",
    "`2026-01-31 10:00:00,`w1,`f2,`交易,`扣除交易手续费,`支出,`0.53,`88.47,`system,`,`n1",
    "`2026-01-31 12:00:00,`r1,`f3,`退款,`退款,`支出,`10.00,`78.47,`system,`,`out1",
    "`2026-01-31 23:00:00,`p1,`f4,`提现,`提现,`支出,`50.00,`28.47,`system,`,`p1",
)
FLOW_SUMMARY = "资金流水总笔数,收入笔数,收入金额,支出笔数,支出金额"


def bill(path: Path, header: str, rows: tuple[str, ...], summary: str, count: int | None = None) -> Path:
    file = path / "bill.csv"
    stated = len(rows) if count is None else count
    text = "\r\n".join((header, *rows, summary, f"`{stated},`0.00")) + "\r\n"
    file.write_text(text, encoding="utf-8-sig", newline="")
    return file


def test_a_trade_bill_has_payments_and_refunds_with_fees(tmp_path: Path) -> None:
    paid, back = movements(bill(tmp_path, TRADE_HEADER, (PAID, BACK), TRADE_SUMMARY))
    assert (paid.kind, paid.amount_minor, paid.fee_minor, paid.hold) == (Kind.CHARGE, 8900, 53, "n1")
    assert (paid.group, paid.order, paid.environment) == ("g1", "o1", "live")
    # Ten o'clock in Beijing.
    assert paid.at_ms == 1_769_824_800_000
    assert (back.kind, back.amount_minor, back.fee_minor, back.source) == (Kind.REFUND, -1000, -6, "out1")


def test_a_fund_flow_bill_has_fees_and_payouts_of_their_own(tmp_path: Path) -> None:
    statement = Statement("wechat").take_all(movements(bill(tmp_path, FLOW_HEADER, FLOWS, FLOW_SUMMARY)))
    totals = statement.totals["CNY"]
    assert (totals.charged, totals.refunded, totals.fees, totals.paid_out) == (8900, 1000, 53, 5000)
    # The balance of the bill's last row.
    assert totals.balance == 2847
    assert statement.entries["n1"].fees_minor == 53


def test_a_refund_that_failed_moved_no_money(tmp_path: Path) -> None:
    failed = BACK.replace("`ORIGINAL,`SUCCESS", "`ORIGINAL,`FAIL")
    statement = Statement("wechat").take_all(movements(bill(tmp_path, TRADE_HEADER, (PAID, failed), TRADE_SUMMARY)))
    assert statement.entries["n1"].refunded_minor == 0


async def test_a_packed_bill_is_compared_with_its_digest(tmp_path: Path) -> None:
    plain = bill(tmp_path, TRADE_HEADER, (PAID, BACK), TRADE_SUMMARY)
    packed = tmp_path / "bill.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    digest = hashlib.sha1(plain.read_bytes(), usedforsecurity=False).hexdigest()
    statement = await read(parse(f"wechat:{packed}#sha1={digest}"))
    assert statement.movements == 2
    with pytest.raises(OpsError, match="download it again"):
        await read(parse(f"wechat:{packed}#sha1={'0' * 40}"))


@pytest.mark.parametrize(
    ("rows", "count", "message"),
    [
        ((PAID,), 2, "has 1 rows, its summary counts 2"),
        ((PAID, BACK.replace("`10.00,`0.00,`ORIGINAL", "`1o.00,`0.00,`ORIGINAL")), None, "line 3 column 17 (退款金额)"),
        ((PAID.replace("`SUCCESS", "`PENDING"),), None, "line 2 column 10 (交易状态)"),
        ((PAID.rsplit(",", 1)[0],), None, "line 2 column 27: has 26 fields, the header has 27"),
        ((PAID.replace("2026-01-31", "31.01.2026"),), None, "line 2 column 1 (交易时间)"),
    ],
)
def test_a_malformed_bill_is_refused_with_line_and_column(
    rows: tuple[str, ...], count: int | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(OpsError) as refused:
        list(movements(bill(tmp_path, TRADE_HEADER, rows, TRADE_SUMMARY, count)))
    assert message in str(refused.value)


def test_a_bill_without_its_summary_is_not_complete(tmp_path: Path) -> None:
    file = tmp_path / "cut.csv"
    file.write_text(f"{TRADE_HEADER}\r\n{PAID}\r\n", encoding="utf-8", newline="")
    with pytest.raises(OpsError, match="the file is not complete"):
        list(movements(file))


def test_a_packed_bill_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    plain = bill(tmp_path, TRADE_HEADER, (PAID,) * 50, TRADE_SUMMARY)
    packed = tmp_path / "cut.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes())[:-20])
    with pytest.raises(OpsError, match="can't be read"):
        list(movements(packed))
