"""Layout of a trace for a drawing: its spans as a tree, and a time axis that leaves out long waits.

A group waits hours for members, while its steps take milliseconds. The axis shows a wait as a gap of fixed width.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from ops.trace.span import Span

#: Part of the axis for one wait; all waits together take at most MAX_WAITS of it.
_WAIT = 0.03
_MAX_WAITS = 0.4
#: A pause between steps is a wait if it is longer than this part of the time in which something happens.
_LONG = 0.25
_MIN_WAIT_MS = 50


class Row(NamedTuple):
    """One line of the drawing."""

    span: Span
    #: Depth below its root.
    depth: int
    #: Whether it is the last child, for each ancestor below the root and for the span itself.
    lasts: tuple[bool, ...]


def rows(spans: Iterable[Span]) -> list[Row]:
    """The spans as trees, parents before children, each level by start."""
    ordered = sorted(spans, key=lambda span: (span.start_ms, span.end_ms))
    known = {span.span_id for span in ordered}
    children: dict[str, list[Span]] = {}
    roots = []
    for span in ordered:
        if span.parent_id in known:
            children.setdefault(span.parent_id, []).append(span)
        else:
            roots.append(span)
    found: list[Row] = []
    # A stack and no recursion: a group with many members has a deep tree.
    stack = [Row(span, 0, ()) for span in reversed(roots)]
    while stack:
        row = stack.pop()
        found.append(row)
        below = children.get(row.span.span_id, [])
        stack += [
            Row(span, row.depth + 1, (*row.lasts, index == len(below) - 1))
            for index, span in reversed(list(enumerate(below)))
        ]
    return found


def subtree(spans: Iterable[Span], order: str, attribute: str) -> list[Span]:
    """The spans of an order, by an attribute, and everything that follows from its first one."""
    listed = [row.span for row in rows(spans)]
    wanted = {span.span_id for span in listed if span.attributes.get(attribute) == order}
    for span in listed:
        if span.parent_id in wanted:
            wanted.add(span.span_id)
    return [span for span in listed if span.span_id in wanted]


class Wait(NamedTuple):
    """A pause that the axis shortens: its place, 0 to 1, and its milliseconds."""

    begin: float
    end: float
    duration_ms: int


class Axis:
    """Maps times to places from 0 to 1."""

    def __init__(self, spans: Iterable[Span]) -> None:
        """`spans`: at least one."""
        busy = list(_busy(spans))
        self.start_ms, self.end_ms = busy[0][0], busy[-1][1]
        working_ms = sum(end - start for start, end in busy)
        gaps = [(before[1], after[0]) for before, after in pairwise(busy)]
        threshold_ms = max(working_ms * _LONG, _MIN_WAIT_MS)
        long = [gap for gap in gaps if gap[1] - gap[0] > threshold_ms]
        shown_ms = max(self.end_ms - self.start_ms - sum(end - start for start, end in long), 1)
        wait = min(_WAIT, _MAX_WAITS / len(long)) if long else 0.0
        scale = (1 - wait * len(long)) / shown_ms
        self._times = [self.start_ms]
        self._places = [0.0]
        self.waits: list[Wait] = []
        for begin_ms, end_ms in long:
            begin = self._places[-1] + (begin_ms - self._times[-1]) * scale
            self.waits.append(Wait(begin, begin + wait, end_ms - begin_ms))
            self._times += [begin_ms, end_ms]
            self._places += [begin, begin + wait]
        self._times.append(self.end_ms)
        self._places.append(1.0)

    def place(self, time_ms: int) -> float:
        """The place of a time."""
        index = min(max(bisect_right(self._times, time_ms) - 1, 0), len(self._times) - 2)
        begin_ms, end_ms = self._times[index], self._times[index + 1]
        begin, end = self._places[index], self._places[index + 1]
        if end_ms == begin_ms:
            return begin
        return min(max(begin + (end - begin) * (time_ms - begin_ms) / (end_ms - begin_ms), 0.0), 1.0)


def _busy(spans: Iterable[Span]) -> Iterator[tuple[int, int]]:
    """The times in which something happens: the union of all spans, in order."""
    current: tuple[int, int] | None = None
    for start, end in sorted((span.start_ms, span.end_ms) for span in spans):
        if current is None:
            current = start, end
        elif start <= current[1]:
            current = current[0], max(current[1], end)
        else:
            yield current
            current = start, end
    if current is not None:
        yield current


def duration_text(milliseconds: int) -> str:
    """A duration for people: `7 ms`, `1.2 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`."""
    if milliseconds < 1_000:
        return f"{milliseconds} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1_000:.1f} s"
    seconds = milliseconds // 1_000
    for size, unit, below, smaller in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // below} {smaller}"
    raise AssertionError("unreachable")
