"""Where a processor begins to read a partition, and when beginning there would lose records.

A broker forgets the committed offsets of a group that was empty for `offsets.retention.minutes`. Most processors know
their place without it: a decider from its state, a sequencer and effects from what they wrote (`eventlog/resume.py`), a
projection from its own store. The policies below say which.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from faust.types import TP

from eventlog.crash import die

# (partition, committed offset or None, first offset in the log, end of the log) -> offset to begin at. None stands for
# "from the state": the caller takes the offset from there and passes it through `within`.
StartPolicy = Callable[[TP, int | None, int, int], "int | Awaitable[int] | None"]

#: The way out where a start can't be proven. The command shows the records that a start would skip.
RECOVER = "see what the group would skip with `groupbuy-ops offsets recover --dry-run`"


def within(tp: TP, at: int, begin: int, end: int) -> int:
    """Returns `at` if the log still has everything from there on; else ends the process."""
    if at < begin:
        die("the log was trimmed before it was read", topic=tp.topic, partition=tp.partition, at=at, begin=begin)
    if at > end:
        die("the log ends before what was read of it", topic=tp.topic, partition=tp.partition, at=at, end=end)
    return at


def at_committed(tp: TP, committed: int | None, begin: int, end: int) -> int:
    """The committed offset. Ends the process where there is none, unless the partition never held a record."""
    if committed is None:
        if end == 0:
            return 0
        die(
            f"no committed offset, and nothing else says what was read: {RECOVER}",
            topic=tp.topic,
            partition=tp.partition,
        )
    return within(tp, committed, begin, end)


def from_state_when_forgotten(tp: TP, committed: int | None, begin: int, end: int) -> int | None:
    """The committed offset; None, the offset after the state's greatest cause, where there is none.

    Inputs after the greatest cause yielded nothing or were not decided. Deciding them again gives the same.
    """
    return None if committed is None else within(tp, committed, begin, end)


def at_beginning(tp: TP, committed: int | None, begin: int, end: int) -> int:
    """The first record there is: for state that is rebuilt whole at every start."""
    return begin
