"""Where a processor begins to read a partition, and when beginning there would lose records."""

from __future__ import annotations

from collections.abc import Callable

from faust.types import TP

from eventlog.crash import die

# (partition, committed offset or None, first offset in the log, end of the log) -> offset to begin at
StartPolicy = Callable[[TP, int | None, int, int], int]


def at_committed(tp: TP, committed: int | None, begin: int, end: int) -> int:
    """Where the group had committed. A missing or trimmed offset means that records were or would be lost: stop."""
    if committed is None:
        die(
            "no committed offset: it expired, or this is a first start that was not declared with "
            "`groupbuy-ops topics create`",
            topic=tp.topic,
            partition=tp.partition,
        )
    if committed < begin:
        die("the log was trimmed before it was read", topic=tp.topic, partition=tp.partition, at=committed, begin=begin)
    if committed > end:
        die("the log ends before what was read of it", topic=tp.topic, partition=tp.partition, at=committed, end=end)
    return committed


def at_beginning(tp: TP, committed: int | None, begin: int, end: int) -> int:
    """The first record there is: for state that is rebuilt whole at every start."""
    return begin
