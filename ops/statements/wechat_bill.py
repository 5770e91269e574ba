"""WeChat Pay's bills as movements: the trade bill and the fund flow bill (CSV, each field after a back-tick).

The last two lines are a summary, with which the sums of the rows are compared. A day is one of Beijing; amounts are in
yuan. Source: https://pay.weixin.qq.com/doc/v3/merchant, the formats of trade bills and fund flow bills.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from ops.errors import CANNOT_RUN, OpsError
from ops.statements.movements import Kind, Movement
from ops.statements.rows import Row, open_text, rows

PROVIDER = "wechat"
CURRENCY = "CNY"
BEIJING = timezone(timedelta(hours=8))

_TIME, _PAYMENT, _STATE, _CURRENCY = "交易时间", "商户订单号", "交易状态", "货币种类"
_AMOUNT, _FEE, _ATTACH = "应结订单金额", "手续费", "商户数据包"
_REFUND, _REFUND_AMOUNT, _REFUND_STATE, _WECHAT_ID = "商户退款单号", "退款金额", "退款状态", "微信订单号"
TRADE_COLUMNS = (_TIME, _PAYMENT, _STATE, _CURRENCY, _AMOUNT, _FEE, _WECHAT_ID)
_BOOKED, _BUSINESS, _FLOW, _NAME, _TYPE = "记账时间", "微信支付业务单号", "资金流水单号", "业务名称", "业务类型"
_DIRECTION, _FLOW_AMOUNT, _VOUCHER = "收支类型", "收支金额(元)", "业务凭证号"
FLOW_COLUMNS = (_BOOKED, _BUSINESS, _FLOW, _NAME, _TYPE, _DIRECTION, _FLOW_AMOUNT, _VOUCHER)
_IN, _OUT = "收入", "支出"
#: First column of the summary's header.
_TRADE_SUMMARY, _FLOW_SUMMARY = "总交易单数", "资金流水总笔数"

#: Type of a row of the fund flow bill -> kind. Other types are adjustments.
_FLOW_KINDS = {
    "交易": Kind.CHARGE,
    "退款": Kind.REFUND,
    "退款退回": Kind.REFUND_UNDONE,
    "提现": Kind.PAYOUT,
    "提现退回": Kind.PAYOUT_UNDONE,
}
_FEE_TYPES = frozenset({"扣除交易手续费", "退还交易手续费", "手续费"})


def movements(path: Path) -> Iterator[Movement]:
    """The movements of a bill of either kind, as they are read. Raises OpsError with line and column."""
    with open_text(path) as file:
        header = file.readline()
    if _BOOKED in header:
        yield from _Bill(path, FLOW_COLUMNS, _FLOW_SUMMARY).flow()
    else:
        yield from _Bill(path, TRADE_COLUMNS, _TRADE_SUMMARY).trade()


class _Bill:
    """One file, with the count of its rows for the summary."""

    def __init__(self, path: Path, columns: tuple[str, ...], summary: str) -> None:
        self._path = path
        self._columns = columns
        self._summary = summary
        self._count = 0
        self._stated = -1
        self._in_summary = False

    def trade(self) -> Iterator[Movement]:
        """The movements of a trade bill: payments and refunds with their fees."""
        for row in self._rows():
            yield _trade(row)
        self._check()

    def flow(self) -> Iterator[Movement]:
        """The movements of a fund flow bill: with fees, payouts and corrections as rows of their own."""
        for row in self._rows():
            yield _flow(row)
        self._check()

    def _rows(self) -> Iterator[Row]:
        with open_text(self._path) as file:
            yield from rows(self._path, self._until_summary(file), self._columns, _without_ticks)  # type: ignore[arg-type]

    def _until_summary(self, lines: Iterator[str]) -> Iterator[str]:
        for number, line in enumerate(lines, start=1):
            if self._in_summary:
                stated = line.split(",")[0].strip().lstrip("`")
                if stated.isdecimal() and self._stated < 0:
                    self._stated = int(stated)
                continue
            if line.startswith(self._summary):
                self._in_summary = True
                continue
            if number > 1 and line.strip():
                self._count += 1
            yield line

    def _check(self) -> None:
        if self._stated < 0:
            raise OpsError(f"{self._path} has no summary at its end: the file is not complete", CANNOT_RUN)
        if self._stated != self._count:
            raise OpsError(f"{self._path} has {self._count} rows, its summary counts {self._stated}", CANNOT_RUN)


def _without_ticks(fields: list[str]) -> list[str]:
    return [field.removeprefix("`") for field in fields]


def _seconds(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=BEIJING).timestamp()


def _trade(row: Row) -> Movement:
    currency = row.currency(_CURRENCY)
    group, order, environment = _of_attach(row.text(_ATTACH, ""))
    state = row.required(_STATE)
    if state not in {"SUCCESS", "REFUND", "REVOKED"}:
        row.fail(_STATE, f"{state!r} is not a known state")
    refund = state != "SUCCESS"
    if refund:
        undone = row.text(_REFUND_STATE, "SUCCESS") in {"FAIL", "CHANGE"}
        kind = Kind.REFUND_UNDONE if undone else Kind.REFUND
        # A refund that failed moved no money on balance: it went out and came back.
        amount = 0 if undone else -row.minor(_REFUND_AMOUNT, currency, "0")
    else:
        kind, amount = Kind.CHARGE, row.minor(_AMOUNT, currency)
    source = row.text(_REFUND, "") if refund else ""
    return Movement(
        PROVIDER,
        kind,
        f"{row.required(_WECHAT_ID)}/{source}" if source else row.required(_WECHAT_ID),
        row.time_ms(_TIME, _seconds),
        currency,
        amount,
        row.minor(_FEE, currency),
        row.required(_PAYMENT),
        order,
        group,
        environment,
        source,
    )


def _flow(row: Row) -> Movement:
    name, kind_text, direction = row.required(_NAME), row.required(_TYPE), row.required(_DIRECTION)
    if direction not in {_IN, _OUT}:
        row.fail(_DIRECTION, f"{direction!r} is neither {_IN} nor {_OUT}")
    amount = row.minor(_FLOW_AMOUNT, CURRENCY) * (1 if direction == _IN else -1)
    fee = kind_text in _FEE_TYPES
    kind = Kind.FEE if fee else _FLOW_KINDS.get(kind_text) or _FLOW_KINDS.get(name, Kind.ADJUSTMENT)
    # The voucher of a charge and of its fee is the number of the payment.
    hold = row.text(_VOUCHER) if kind in {Kind.CHARGE, Kind.FEE} else ""
    return Movement(
        PROVIDER,
        kind,
        row.required(_FLOW),
        row.time_ms(_BOOKED, _seconds),
        CURRENCY,
        amount,
        0,
        hold,
        source=row.text(_VOUCHER),
    )


def _of_attach(text: str) -> tuple[str, str, str]:
    """Group, order and deployment in the attachment of a payment; empty for one of another form."""
    parts = text.split("/")
    if len(parts) < 4 or parts[2] != "sale":
        return "", "", ""
    return parts[0], parts[1], parts[4] if len(parts) > 4 else ""
