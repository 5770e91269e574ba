"""Stripe's report files as movements: *Balance change from activity* and the itemized balance and payout reports (CSV).

Source: https://docs.stripe.com/reports/report-types/balance. Amounts are in units of the currency, with decimals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from ops.statements.movements import Kind, Movement
from ops.statements.rows import Row, open_text, rows

PROVIDER = "stripe"
COLUMNS = ("balance_transaction_id", "currency", "gross", "fee", "reporting_category", "payment_intent_id")

#: Reporting category -> kind.
CATEGORIES: Mapping[str, Kind] = {
    "charge": Kind.CHARGE,
    "refund": Kind.REFUND,
    "partial_capture_reversal": Kind.REFUND,
    "refund_failure": Kind.REFUND_UNDONE,
    "charge_failure": Kind.REFUND,
    "dispute": Kind.DISPUTE,
    "dispute_reversal": Kind.DISPUTE_REVERSAL,
    "fee": Kind.FEE,
    "tax": Kind.FEE,
    "network_cost": Kind.FEE,
    "payout": Kind.PAYOUT,
    "payout_minimum_balance_hold": Kind.ADJUSTMENT,
    "payout_minimum_balance_release": Kind.ADJUSTMENT,
    "payout_reversal": Kind.PAYOUT_UNDONE,
    "other_adjustment": Kind.ADJUSTMENT,
    "risk_reserved_funds": Kind.ADJUSTMENT,
    "topup": Kind.ADJUSTMENT,
    "topup_reversal": Kind.ADJUSTMENT,
    "transfer": Kind.ADJUSTMENT,
    "transfer_reversal": Kind.ADJUSTMENT,
}


def movements(path: Path) -> Iterator[Movement]:
    """The movements of a report, as they are read. Raises OpsError with line and column."""
    with open_text(path) as file:
        for row in rows(path, file, COLUMNS):
            yield _movement(row)


def _movement(row: Row) -> Movement:
    category = row.required("reporting_category")
    kind = CATEGORIES.get(category)
    if kind is None:
        row.fail("reporting_category", f"{category!r} is not a known category")
    currency = row.currency("currency")
    payment = row.text("payment_intent_id")
    if not payment and kind in {Kind.CHARGE, Kind.REFUND, Kind.REFUND_UNDONE}:
        # A charge without a payment intent is not of this system; its money moved all the same.
        payment = row.text("charge_id", "")
    return Movement(
        PROVIDER,
        kind,
        row.required("balance_transaction_id"),
        _time_ms(row),
        currency,
        row.minor("gross", currency),
        row.minor("fee", currency),
        payment,
        row.text("payment_metadata[order]", ""),
        row.text("payment_metadata[group]", ""),
        row.text("payment_metadata[environment]", ""),
        row.text("source_id", ""),
    )


def _time_ms(row: Row) -> int:
    column = "created_utc" if row.text("created_utc", "") else "created"
    return row.time_ms(column, _seconds)


def _seconds(text: str) -> float:
    if text.isdecimal():
        return int(text)
    made = datetime.fromisoformat(text)
    return (made if made.tzinfo else made.replace(tzinfo=UTC)).timestamp()
