"""A table whose cells are never cut.

On a narrow terminal it has smaller gaps, then fewer columns, and at last one line for each cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from chassis.telemetry.printable import printable
from ops.terminal.streams import shown

Cell = str | Text
Row = Sequence[Cell]

_GAPS = (2, 1)
#: The line below the headings, and its replacement for encodings without it.
_RULE, _ASCII_RULE = "─", "-"


@dataclass(frozen=True, slots=True)
class Column:
    """A column. An optional column is omitted if the terminal is too narrow for all, the last one first."""

    title: str
    right: bool = True
    optional: bool = False


@dataclass(slots=True)
class Sheet:
    """A title, columns, rows, and rows of totals below a line."""

    title: str
    columns: Sequence[Column]
    rows: list[Row] = field(default_factory=list)
    totals: list[Row] = field(default_factory=list)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Rich's hook: the widest layout that fits."""
        encoding = options.encoding
        heads = [_cell(column.title, encoding) for column in self.columns]
        rows = [[_cell(cell, encoding) for cell in row] for row in self.rows]
        totals = [[_cell(cell, encoding) for cell in row] for row in self.totals]
        if self.title:
            yield Text(shown(printable(self.title), encoding), style="bold")
        for kept in self._selections():
            widths = [max(row[at].cell_len for row in (heads, *rows, *totals)) for at in kept]
            for gap in _GAPS:
                if sum(widths) + gap * (len(kept) - 1) <= options.max_width:
                    rule = _RULE if shown(_RULE, encoding) == _RULE else _ASCII_RULE
                    yield from self._lines(kept, widths, " " * gap, rule, (heads, rows, totals))
                    return
        yield from _listed(heads, [*rows, *totals])

    def _selections(self) -> Iterator[tuple[int, ...]]:
        kept = tuple(range(len(self.columns)))
        yield kept
        for at in reversed(kept):
            if self.columns[at].optional:
                kept = tuple(other for other in kept if other != at)
                yield kept

    def _lines(
        self,
        kept: Sequence[int],
        widths: Sequence[int],
        gap: str,
        rule: str,
        parts: tuple[list[Text], list[list[Text]], list[list[Text]]],
    ) -> Iterator[Text]:
        heads, rows, totals = parts

        def line(row: Sequence[Text], style: str = "") -> Text:
            cells = [_aligned(row[at], width, self.columns[at].right) for at, width in zip(kept, widths, strict=True)]
            made = Text(gap, no_wrap=True, overflow="ignore").join(cells)
            made.rstrip()
            made.stylize(style)
            return made

        below = Text(gap.join(rule * width for width in widths), style="dim", no_wrap=True, overflow="ignore")
        if any(head.plain for head in heads):
            yield line(heads, "bold")
            yield below
        for row in rows:
            yield line(row)
        if totals:
            yield below
        for row in totals:
            yield line(row, "bold")


def _cell(cell: Cell, encoding: str) -> Text:
    """A cell on one line, as the encoding has it. Replacements keep their number of characters in our styles."""
    text = cell if isinstance(cell, Text) else Text(cell)
    plain = shown(printable(text.plain), encoding)
    if plain == text.plain:
        return text
    return Text(plain, style=text.spans[0].style if text.spans else text.style)


def _aligned(text: Text, width: int, right: bool) -> Text:
    spaces = Text(" " * (width - cell_len(text.plain)))
    return Text.assemble(spaces, text) if right else Text.assemble(text, spaces)


def _listed(heads: Sequence[Text], rows: Sequence[Sequence[Text]]) -> Iterator[Text]:
    """One line for the first cell of each row, and one for each further cell that is not empty."""
    labels = max((head.cell_len for head in heads[1:]), default=0)
    for row in rows:
        yield row[0]
        for head, cell in zip(heads[1:], row[1:], strict=True):
            if cell.plain:
                yield Text.assemble("  ", _aligned(head, labels, False), "  ", cell, overflow="fold")
