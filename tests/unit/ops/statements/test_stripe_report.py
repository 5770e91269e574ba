"""Stripe's report files are read as movements; a malformed line is an error with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.errors import OpsError
from ops.statements.collected import Statement
from ops.statements.movements import Kind
from ops.statements.stripe_report import movements

HEADER = (
    "balance_transaction_id,created_utc,currency,gross,fee,net,reporting_category,source_id,charge_id,"
    "payment_intent_id,payment_metadata[order],payment_metadata[group]"
)
CHARGE = "txn_1,2026-01-31 10:00:00,eur,15.00,0.47,14.53,charge,ch_1,ch_1,pi_1,o1,g1"
REFUND = "txn_2,2026-01-31 11:00:00,eur,-5.00,0,-5.00,refund,re_1,ch_1,pi_1,o1,g1"
FAILED = "txn_3,2026-02-01 11:00:00,eur,5.00,0,5.00,refund_failure,re_1,ch_1,pi_1,o1,g1"
DISPUTE = "txn_4,2026-02-02 11:00:00,eur,-15.00,20.00,-35.00,dispute,dp_1,ch_1,pi_1,,"
PAYOUT = "txn_5,2026-02-03 11:00:00,eur,-9.53,0,-9.53,payout,po_1,,,,"


def report(path: Path, *lines: str) -> Path:
    file = path / "report.csv"
    file.write_text("\n".join((HEADER, *lines)) + "\n", encoding="utf-8")
    return file


def test_movements_have_minor_units_times_and_ids_of_ours(tmp_path: Path) -> None:
    (made,) = movements(report(tmp_path, CHARGE))
    assert (made.kind, made.amount_minor, made.fee_minor, made.currency) == (Kind.CHARGE, 1500, 47, "EUR")
    assert (made.hold, made.order, made.group, made.at_ms) == ("pi_1", "o1", "g1", 1_769_853_600_000)


def test_a_payment_is_summed_over_its_movements(tmp_path: Path) -> None:
    lines = (CHARGE, REFUND, FAILED, REFUND.replace("txn_2", "txn_6"), DISPUTE, PAYOUT)
    statement = Statement("stripe").take_all(movements(report(tmp_path, *lines)))
    entry = statement.entries["pi_1"]
    assert (entry.captured_minor, entry.refunded_minor, entry.refunds_undone_minor) == (1500, 500, 500)
    assert (entry.disputed_minor, entry.fees_minor, entry.order) == (1500, 2047, "o1")
    totals = statement.totals["EUR"]
    assert (totals.charged, totals.fees, totals.paid_out) == (1500, 2047, 953)
    assert totals.balance == 1500 - 500 - 1500 - 2047 - 953
    assert statement.without_payment == {Kind.PAYOUT: 1}


def test_currencies_without_and_with_three_decimals_keep_their_units(tmp_path: Path) -> None:
    yen = CHARGE.replace("eur,15.00,0.47,14.53", "jpy,1500,54,1446")
    dinar = CHARGE.replace("eur,15.00,0.47,14.53", "kwd,1.500,0.04,1.46")
    assert [(made.amount_minor, made.fee_minor) for made in movements(report(tmp_path, yen, dinar))] == [
        (1500, 54),
        (1500, 40),
    ]


@pytest.mark.parametrize(
    ("line", "place"),
    [
        (CHARGE.replace("15.00", "15,00"), "line 3 column 13: has 13 fields"),
        (CHARGE.replace("15.00", "15.005"), "line 3 column 4 (gross): '15.005' has more than 2 decimals"),
        (CHARGE.replace("15.00", "fifteen"), "line 3 column 4 (gross): 'fifteen' is not an amount"),
        (CHARGE.replace("eur", "euro"), "line 3 column 3 (currency)"),
        (CHARGE.replace(",charge,", ",surprise,"), "line 3 column 7 (reporting_category)"),
        (CHARGE.replace("2026-01-31 10:00:00", "yesterday"), "line 3 column 2 (created_utc)"),
        (CHARGE.replace("txn_1", ""), "line 3 column 1 (balance_transaction_id): is empty"),
    ],
)
def test_a_malformed_line_is_refused_with_line_and_column(line: str, place: str, tmp_path: Path) -> None:
    with pytest.raises(OpsError) as refused:
        list(movements(report(tmp_path, CHARGE, line)))
    assert place in str(refused.value)


def test_another_file_is_refused_by_its_header(tmp_path: Path) -> None:
    file = tmp_path / "other.csv"
    file.write_text("hold,order\nh1,o1\n")
    with pytest.raises(OpsError, match="its header lacks balance_transaction_id"):
        list(movements(file))
