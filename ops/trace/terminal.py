"""Draws a trace in the terminal: the tree of spans, and a bar for each on one time axis."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from chassis.telemetry.printable import printable
from ops.trace.span import Span
from ops.trace.timeline import Axis, Row, duration_text, rows

STYLES = {"orders": "cyan", "groups": "green", "payments": "yellow"}
_BAR_COLUMNS = 48
_BAR, _POINT, _GAP = "━", "╸", "┊"


def table(title: str, spans: Sequence[Span]) -> Table:
    """The drawing of at least one span."""
    axis = Axis(spans)
    made = Table(title=printable(title), title_justify="left", box=None, pad_edge=False)
    made.add_column("span", no_wrap=True)
    made.add_column("service")
    made.add_column("after", justify="right", no_wrap=True)
    made.add_column("took", justify="right", no_wrap=True)
    made.add_column("time", no_wrap=True)
    root_ms = axis.start_ms
    for row in rows(spans):
        span = row.span
        if not row.depth:
            # A root counts from the beginning of the drawing, the steps below it from their root.
            before_ms, root_ms = axis.start_ms, span.start_ms
        else:
            before_ms = root_ms
        style = STYLES.get(span.service, "")
        made.add_row(
            Text(_branch(row), style="dim") + Text(printable(span.name), style="bold red" if span.error else ""),
            Text(span.service, style=style),
            duration_text(max(span.start_ms - before_ms, 0)),
            duration_text(span.duration_ms),
            Text(_bar(span, axis), style=style),
        )
    return made


def waits(spans: Sequence[Span]) -> list[str]:
    """The pauses that the axis shortens, in order."""
    return [duration_text(wait.duration_ms) for wait in Axis(spans).waits]


def _branch(row: Row) -> str:
    if not row.lasts:
        return ""
    above = "".join("  " if last else "│ " for last in row.lasts[:-1])
    return above + ("└ " if row.lasts[-1] else "├ ")


def _bar(span: Span, axis: Axis) -> str:
    line = [" "] * _BAR_COLUMNS
    for wait in axis.waits:
        line[_column((wait.begin + wait.end) / 2)] = _GAP
    begin, end = _column(axis.place(span.start_ms)), _column(axis.place(span.end_ms))
    for at in range(begin, end + 1):
        line[at] = _BAR
    if begin == end:
        line[begin] = _POINT
    return "".join(line).rstrip()


def _column(place: float) -> int:
    return min(int(place * _BAR_COLUMNS), _BAR_COLUMNS - 1)
