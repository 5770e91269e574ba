"""The sums of the demo's results add up. They are computed from the printed text alone."""

from __future__ import annotations

import re
from itertools import product

import pytest

from ops.demo.player import Tally
from ops.demo.screen.results import print_results
from tests.unit.ops.demo.evenings import SimulatedEvening, Table, console, minor, printed, scripted_board, tables
from tests.unit.ops.scripted_logs import completed_group, expired_group

ORDERS = 1200
CURRENCIES = ("CNY", "JPY")
PRICE = ("full price", "- discount", "- unpaid", "= net")
WIDTHS = (80, 120, 160, 200)
Printed = dict[int, dict[str, Table]]


@pytest.fixture(scope="module", params=[20, 21])
def evening(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SimulatedEvening:
    return SimulatedEvening.of(ORDERS, request.param, tmp_path_factory.mktemp("evening"))


def text_of(evening: SimulatedEvening, width: int) -> str:
    made = console(width)
    print_results(made, evening.board(), Tally(placed=ORDERS))
    return printed(made)


@pytest.fixture(scope="module")
def by_width(evening: SimulatedEvening) -> Printed:
    return {width: tables(text_of(evening, width)) for width in WIDTHS}


def sums(table: Table, row: dict[str, str], currency: str) -> tuple[int, ...]:
    return tuple(minor(row[heading], currency) for heading in PRICE)


def price_tables(found: dict[str, Table]) -> list[Table]:
    return [table for title, table in found.items() if title.startswith(("Paid by", "The orders of"))]


def test_every_row_adds_up(by_width: Printed) -> None:
    for found, currency in product(by_width.values(), CURRENCIES):
        assert len(price_tables(found)) == 4
        for table in price_tables(found):
            for row in (*table.rows, *table.totals):
                full, discount, unpaid, net = sums(table, row, currency)
                assert full - discount - unpaid == net, row


def test_every_last_row_is_the_sum_of_the_rows_above(by_width: Printed) -> None:
    for found, currency in product(by_width.values(), CURRENCIES):
        for table in price_tables(found):
            total = tuple(sum(minor(row[heading], currency) for row in table.totals) for heading in PRICE)
            assert total == tuple(table.minor(heading, currency) for heading in PRICE)


def test_all_tables_have_the_same_net(by_width: Printed) -> None:
    for found, currency in product(by_width.values(), CURRENCIES):
        nets = [found[title].minor("= net", currency) for title in ("Paid by campaign and price", "Paid by group")]
        (row,) = [row for row in found["Holds by currency"].rows if row["currency"] == currency]
        held, captured, released, still_held, refunded, net = (minor(cell, currency) for cell in [*row.values()][1:])
        assert nets == [net, net]
        assert net > 0
        assert held == captured + released + still_held
        assert net == captured - refunded


def test_discounts_and_unpaid_members_are_shown(by_width: Printed) -> None:
    for found in by_width.values():
        totals = found["Paid by group"].totals[0]
        assert minor(totals["- discount"], "CNY") > 0
        assert minor(totals["- unpaid"], "CNY") > 0
        ends = {row["final state"]: int(row["orders"]) for row in found["Where each order ended"].rows}
        assert ends["unpaid: the provider declined the capture"] > 0


def test_each_order_has_one_final_state(by_width: Printed) -> None:
    for found in by_width.values():
        table = found["Where each order ended"]
        count = sum(int(row["orders"].replace(",", "")) for row in table.rows)
        assert [count] == [int(row["orders"].replace(",", "")) for row in table.totals] == [ORDERS]


def test_members_are_the_charged_and_the_unpaid_orders(by_width: Printed) -> None:
    found = by_width[160]
    members = sum(int(row["members"].replace(",", "")) for row in found["Paid by group"].rows)
    ends = {row["final state"]: int(row["orders"].replace(",", "")) for row in found["Where each order ended"].rows}
    paid = sum(count for end, count in ends.items() if end.startswith(("charged", "unpaid")))
    assert members == paid


def test_solo_purchases_count_once(by_width: Printed, evening: SimulatedEvening) -> None:
    for found in by_width.values():
        table = found["Groups and solo purchases by campaign"]
        counts = {name: sum(int(row[name]) for row in table.rows) for name in (*table.rows[0],) if name != "campaign"}
        assert counts["groups"] == counts["completed"] + counts["expired"] + counts["cancelled"] + counts["forming"]
        assert counts == {name: int(cell) for name, cell in table.totals[0].items() if name != "campaign"}
        labels = [row["group"] for row in found["Paid by group"].rows]
        more = sum(int(label.split()[0]) for label in labels if label.endswith("more groups"))
        solo = sum(int(label.split()[0]) for label in labels if label.endswith("solo purchases"))
        shown = sum(not label.endswith(("more groups", "solo purchases")) for label in labels)
        assert (shown, shown + more, solo) == (10, counts["groups"], counts["solo purchases"])
        # The audit counts a solo purchase as a group of one.
        assert evening.report().groups.total() == counts["groups"] + counts["solo purchases"]


def test_the_audit_has_the_same_sums(by_width: Printed, evening: SimulatedEvening) -> None:
    report = evening.report()
    assert report.clean
    for found, currency in product(by_width.values(), CURRENCIES):
        (row,) = [row for row in found["Holds by currency"].rows if row["currency"] == currency]
        totals = report.money[currency]
        expected = (totals.held, totals.captured, totals.released, totals.open, totals.refunded)
        names = ("held", "captured", "released", "still held", "refunded")
        assert tuple(minor(row[name], currency) for name in names) == expected


@pytest.mark.parametrize("width", [24, 40, 60, *WIDTHS])
def test_no_amount_is_cut(evening: SimulatedEvening, width: int) -> None:
    narrow, wide = text_of(evening, width), text_of(evening, 300)
    assert max(map(len, narrow.splitlines())) <= width
    for title in ("all CNY", "all JPY"):
        amounts = re.findall(r"(?:JP)?¥[\d,.]+", next(line for line in wide.splitlines() if line.startswith(title)))
        assert len(amounts) >= 3
        for amount in amounts:
            assert re.search(rf"(?<![\d,.¥P]){re.escape(amount)}(?![\d,.])", narrow), (title, amount)


def test_the_members_of_a_completed_group_are_listed() -> None:
    made = console(160)
    print_results(made, scripted_board(completed_group()), Tally(placed=5))
    found = tables(printed(made))
    orders = found["The orders of Ceramic mug 0b6a0c: completed at ¥79.00"]
    assert [(row["customer"], row["end"], row["= net"]) for row in orders.rows] == [
        ("ann (leads)", "charged", "¥156.00"),
        ("bob", "charged", "¥79.00"),
        ("dan", "charged", "¥79.00"),
        ("eve", "refused", "-"),
        ("cid", "cancelled", "-"),
    ]
    assert [tuple(row.values())[4:] for row in orders.totals] == [("¥316.00", "¥2.00", "-", "¥314.00", "¥445.00")]


def test_an_expired_group_paid_nothing() -> None:
    made = console(160)
    print_results(made, scripted_board(expired_group()), Tally(placed=2))
    found = tables(printed(made))
    (row,) = found["Paid by group"].rows[:1]
    assert (row["price"], row["= net"]) == ("expired", "-")
    ends = {row["final state"]: row["orders"] for row in found["Where each order ended"].rows}
    assert ends == {
        "cancelled by the shopper, released in full": "1",
        "released in full: the group did not complete": "1",
    }
