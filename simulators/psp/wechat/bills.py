"""WeChat Pay's daily bills as CSV: the trade bill (交易账单) and the fund flow bill (资金账单).

Each field of a data or summary row follows a back-tick. Amounts are in yuan. A day is one of Beijing.
Source: https://pay.weixin.qq.com/doc/v3/merchant, "交易账单文件格式说明", "资金账单文件格式说明".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import NamedTuple

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from simulators.psp.accounts.balance import Booking
from simulators.psp.accounts.holds import Hold
from simulators.psp.wechat import objects
from simulators.psp.wechat.signer import APP, MERCHANT

BEIJING = timezone(timedelta(hours=8), "CST")
DAY_MS = 24 * 3_600_000
#: Columns of a payment and, between them, those of a refund, which the bill of payments leaves out.
_PAYMENT_COLUMNS = (
    "交易时间", "公众账号ID", "商户号", "特约商户号", "设备号", "微信订单号", "商户订单号", "用户标识", "交易类型",
    "交易状态", "付款银行", "货币种类", "应结订单金额", "代金券金额",
)  # fmt: skip
_REFUND_TIMES = ("退款申请时间", "退款成功时间")
_REFUND_COLUMNS = (
    "微信退款单号", "商户退款单号", "退款金额", "充值券退款金额", "退款类型", "退款状态",
)  # fmt: skip
_GOODS_COLUMNS = (
    "商品名称", "商户数据包", "手续费", "费率", "订单金额",
)  # fmt: skip
_SUMMARY = (
    "总交易单数", "应结订单总金额", "退款总金额", "充值券退款总金额", "手续费总金额", "订单总金额",
    "申请退款总金额",
)  # fmt: skip
_FLOW_COLUMNS = (
    "记账时间", "微信支付业务单号", "资金流水单号", "业务名称", "业务类型", "收支类型", "收支金额(元)",
    "账户结余(元)", "资金变更提交申请人", "备注", "业务凭证号",
)  # fmt: skip
_FLOW_SUMMARY = (
    "资金流水总笔数", "收入笔数", "收入金额", "支出笔数", "支出金额",
)  # fmt: skip
#: Business name and kind of each balance transaction, and of its fee.
_FLOW_NAMES = {
    pb.BALANCE_KIND_CHARGE: ("交易", "交易"),
    pb.BALANCE_KIND_REFUND: ("退款", "退款"),
    pb.BALANCE_KIND_REFUND_UNDONE: ("退款", "退款退回"),
    pb.BALANCE_KIND_PAYOUT: ("提现", "提现"),
}
_FEE, _FEE_RETURNED = ("交易", "扣除交易手续费"), ("退款", "退还交易手续费")
#: Refund states of the trade bill.
_UNDONE = {pb.STATUS_REFUND_FAILED: "CHANGE", pb.STATUS_REFUND_REVERSED: "FAIL"}


class Entry(NamedTuple):
    """A balance transaction with its hold (None for a payout), and how it was undone if it is a refund."""

    booking: Booking
    hold: Hold | None
    undone: pb.Status.ValueType | None


def day_ms(text: str) -> int:
    """Begin of a day `2026-11-30` in Beijing, in milliseconds since the epoch. Raises ValueError."""
    begin = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=BEIJING)
    return int(begin.timestamp() * 1000)


def trade_bill(entries: Sequence[Entry], kind: str, fee_per_mille: int) -> str:
    """The trade bill of a day's entries; `kind`: ALL, SUCCESS (payments) or REFUND."""
    payments = {pb.BALANCE_KIND_CHARGE} if kind != "REFUND" else set()
    refunds = {pb.BALANCE_KIND_REFUND} if kind != "SUCCESS" else set()
    columns = list(_PAYMENT_COLUMNS)
    if kind == "REFUND":
        columns += _REFUND_TIMES
    if kind != "SUCCESS":
        columns += _REFUND_COLUMNS
    columns += _GOODS_COLUMNS
    if kind != "SUCCESS":
        columns += ["申请退款金额"]
    columns += ["费率备注"]
    rows = [
        _trade_row(entry, fee_per_mille)
        for entry in entries
        if entry.hold is not None and entry.booking.kind in payments | refunds
    ]

    def total(column: str, row_kind: str = "") -> str:
        chosen = [row for row in rows if not row_kind or row["交易状态"] == row_kind]
        return _sum(row[column] for row in chosen)

    summary = {
        "总交易单数": str(len(rows)),
        "应结订单总金额": total("应结订单金额"),
        "退款总金额": total("退款金额"),
        "充值券退款总金额": "0.00",
        "手续费总金额": f"{_sum(row['手续费'] for row in rows)}000",
        "订单总金额": total("订单金额", "SUCCESS"),
        "申请退款总金额": total("申请退款金额"),
    }
    return _csv(columns, rows, _SUMMARY, summary)


def fund_flow_bill(entries: Iterable[Entry], opening_minor: int) -> str:
    """The fund flow bill of a day's entries; `opening_minor`: the balance when the day began."""
    rows: list[dict[str, str]] = []
    flow = _Flow(opening_minor, rows)
    for entry in entries:
        booking = entry.booking
        flow.add(entry, _FLOW_NAMES[booking.kind], booking.amount_minor)
        if booking.fee_minor:
            flow.add(entry, _FEE if booking.fee_minor > 0 else _FEE_RETURNED, -booking.fee_minor)
    income = [row["收支金额(元)"] for row in rows if row["收支类型"] == "收入"]
    spending = [row["收支金额(元)"] for row in rows if row["收支类型"] == "支出"]
    summary = {
        "资金流水总笔数": str(len(rows)),
        "收入笔数": str(len(income)),
        "收入金额": _sum(income),
        "支出笔数": str(len(spending)),
        "支出金额": _sum(spending),
    }
    return _csv(_FLOW_COLUMNS, rows, _FLOW_SUMMARY, summary)


class _Flow:
    """Adds rows of a fund flow with the balance after each."""

    def __init__(self, opening_minor: int, rows: list[dict[str, str]]) -> None:
        self._balance_minor = opening_minor
        self._rows = rows

    def add(self, entry: Entry, names: tuple[str, str], minor: int) -> None:
        booking, hold = entry.booking, entry.hold
        self._balance_minor += minor
        business = objects.transaction_id(hold.key) if hold is not None else booking.source
        voucher = booking.source
        if booking.kind in {pb.BALANCE_KIND_REFUND, pb.BALANCE_KIND_REFUND_UNDONE}:
            business = objects.refund_id(booking.source)
        row = {
            "记账时间": _time(booking.at_ms),
            "微信支付业务单号": business,
            "资金流水单号": f"{booking.id:022d}{len(self._rows) % 100:02d}",
            "业务名称": names[0],
            "业务类型": names[1],
            "收支类型": "收入" if minor >= 0 else "支出",
            "收支金额(元)": _yuan(abs(minor)),
            "账户结余(元)": _yuan(self._balance_minor),
            "资金变更提交申请人": "system",
            "备注": "",
            "业务凭证号": voucher,
        }
        self._rows.append(row)


def _trade_row(entry: Entry, fee_per_mille: int) -> Mapping[str, str]:
    booking, hold = entry.booking, entry.hold
    if hold is None:
        raise ValueError(f"transaction {booking.reference} has no payment")
    refund = booking.kind == pb.BALANCE_KIND_REFUND
    attach, _, payer = hold.payment_method.partition("/")[2].rpartition("/")
    returned = _yuan(-booking.amount_minor) if refund else "0.00"
    return {
        "交易时间": _time(booking.at_ms),
        "公众账号ID": APP,
        "商户号": MERCHANT,
        "特约商户号": "0",
        "微信订单号": objects.transaction_id(hold.key),
        "商户订单号": hold.key,
        "用户标识": payer,
        "交易类型": "JSAPI" if payer else "NATIVE",
        "交易状态": "REFUND" if refund else "SUCCESS",
        "付款银行": "OTHERS",
        "货币种类": hold.currency,
        "应结订单金额": "0.00" if refund else _yuan(booking.amount_minor),
        "代金券金额": "0.00",
        "退款申请时间": _time(booking.at_ms),
        "退款成功时间": _time(booking.at_ms),
        "微信退款单号": objects.refund_id(booking.source) if refund else "0",
        "商户退款单号": booking.source if refund else "0",
        "退款金额": returned,
        "充值券退款金额": "0.00",
        "退款类型": "ORIGINAL" if refund else "",
        "退款状态": _UNDONE.get(entry.undone, "SUCCESS") if refund and entry.undone else "SUCCESS" if refund else "",
        "商品名称": "Group order",
        "商户数据包": attach,
        "手续费": f"{_yuan(booking.fee_minor)}000",
        "费率": f"{fee_per_mille / 10:.2f}%",
        "订单金额": _yuan(hold.asked_minor),
        "申请退款金额": returned,
    }


def _csv(
    columns: Sequence[str],
    rows: Iterable[Mapping[str, str]],
    summary_columns: Sequence[str],
    summary: Mapping[str, str],
) -> str:
    lines = [",".join(columns)]
    lines += [_line(row.get(name, "") for name in columns) for row in rows]
    lines += [",".join(summary_columns), _line(summary[name] for name in summary_columns)]
    return "\r\n".join(lines) + "\r\n"


def _line(fields: Iterable[str]) -> str:
    # A comma in a field of the merchant's would split it.
    return ",".join("`" + field.replace(",", "\\ ").replace("\n", "\\n") for field in fields)


def _yuan(minor: int) -> str:
    sign, minor = "-" if minor < 0 else "", abs(minor)
    return f"{sign}{minor // 100}.{minor % 100:02d}"


def _sum(amounts: Iterable[str]) -> str:
    """Sum of amounts in yuan of two decimals or, for fees, five with zeros."""
    total_minor = 0
    for text in amounts:
        whole, _, rest = text.lstrip("-").partition(".")
        minor = int(whole) * 100 + int(rest[:2])
        total_minor += -minor if text.startswith("-") else minor
    return _yuan(total_minor)


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(BEIJING).strftime("%Y-%m-%d %H:%M:%S")
