"""A sheet cuts no cell: it narrows its gaps, then omits optional columns, then lists the cells."""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

from ops.terminal.sheet import Column, Sheet
from tests.unit.ops.demo.evenings import console, printed
from tests.unit.ops.hostile import ALL, forged, unsafe

SHEET = Sheet(
    "Paid",
    [Column("group", right=False), Column("pieces", optional=True), Column("net")],
    [("mug", "2", "¥158.00"), (Text("jacket", style="red"), "12", "¥1,234,567.00")],
    [("all", "14", "¥1,234,725.00")],
)


def lines(sheet: Sheet, width: int, encoding: str = "utf-8") -> list[str]:
    made = console(width, encoding=encoding)
    made.print(sheet)
    return printed(made).splitlines()


def test_all_columns_are_aligned() -> None:
    assert lines(SHEET, 29) == [
        "Paid",
        "group   pieces            net",
        "──────  ──────  ─────────────",
        "mug          2        ¥158.00",
        "jacket      12  ¥1,234,567.00",
        "──────  ──────  ─────────────",
        "all         14  ¥1,234,725.00",
    ]


def test_a_narrow_terminal_has_narrow_gaps() -> None:
    assert lines(SHEET, 28)[4] == "jacket     12 ¥1,234,567.00"


def test_an_optional_column_is_omitted_before_an_amount_is_cut() -> None:
    assert lines(SHEET, 26)[1] == "group             net"
    assert lines(SHEET, 20)[4] == "jacket ¥1,234,567.00"


def test_a_very_narrow_terminal_has_one_line_a_cell() -> None:
    assert lines(SHEET, 19)[1:4] == ["mug", "  pieces  2", "  net     ¥158.00"]


def test_each_encoding_has_straight_columns() -> None:
    for encoding in ("ascii", "gbk", "latin-1", "utf-8"):
        assert {cell_len(line) for line in lines(SHEET, 40, encoding)[2:]} == {30 if encoding == "gbk" else 29}


def test_foreign_text_is_escaped() -> None:
    text = "\n".join(lines(Sheet(ALL, [Column("a", right=False)], [(ALL,), (Text(ALL),)]), 4000))
    assert not unsafe(text)
    assert not forged(text)
    assert text.count("\n") == 4
