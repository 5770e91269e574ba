"""The importers read what the simulated providers write: the sums are those of the provider's balance."""

from __future__ import annotations

from pathlib import Path

from groupbuy.simprovider.v1 import simprovider_pb2 as pb

from ops.statements.collected import Statement
from ops.statements.movements import Kind
from ops.statements.stripe_api import movement_of
from ops.statements.wechat_bill import movements
from simulators.psp.accounts.balance import Booking
from simulators.psp.stripe import money_objects
from simulators.psp.wechat import bills

AT_MS = 1_769_853_600_000


def bookings(wire: str, currency: str) -> list[Booking]:
    moves = (
        (pb.BALANCE_KIND_CHARGE, "hold_1", "n1", 8900, 53),
        (pb.BALANCE_KIND_REFUND, "hold_1", "out1", -1000, -6),
        (pb.BALANCE_KIND_REFUND_UNDONE, "hold_1", "out1", 1000, 6),
        (pb.BALANCE_KIND_PAYOUT, "", "po_1", -5000, 0),
    )
    return [
        Booking(number, wire, kind, hold, source, currency, amount, fee, AT_MS + number, "")
        for number, (kind, hold, source, amount, fee) in enumerate(moves, start=1)
    ]


def test_a_fund_flow_bill_gives_the_balance(tmp_path: Path) -> None:
    made = bookings("wechat", "CNY")
    file = tmp_path / "flow.csv"
    text = bills.fund_flow_bill([bills.Entry(one, None, None) for one in made], opening_minor=0)
    file.write_text(text, encoding="utf-8", newline="")
    statement = Statement("wechat").take_all(movements(file))
    totals = statement.totals["CNY"]
    assert totals.balance == sum(one.amount_minor - one.fee_minor for one in made)
    assert (totals.charged, totals.refunded, totals.paid_out, totals.fees) == (8900, 0, 5000, 53)


def test_balance_transactions_give_the_balance() -> None:
    made = bookings("stripe", "EUR")
    statement = Statement("stripe")
    for one in made:
        source = {"id": one.source, "payment_intent": "pi_1"} if one.hold else {"id": one.source}
        statement.take(movement_of(money_objects.balance_transaction(one, source)))
    totals = statement.totals["EUR"]
    assert totals.balance == sum(one.amount_minor - one.fee_minor for one in made)
    entry = statement.entries["pi_1"]
    assert (entry.captured_minor, entry.refunded_minor, entry.refunds_undone_minor) == (8900, 0, 1000)
    assert statement.without_payment == {Kind.PAYOUT: 1}
