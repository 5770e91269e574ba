"""Start policies: the offset at which a processor begins to read a partition, and when that would lose records.

A committed offset is a claim, not a proof: the broker forgets those of a group that was empty for
`offsets.retention.minutes`, and any member of the group can commit any other. Most processors know their position
without it: a decider from its state, a sequencer and effects from their output (resume.py), a projection from its own
store. They begin at the lower of the two offsets, so no record is skipped.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from faust.types import TP

from eventlog.runtime.abort import abort

log = logging.getLogger(__name__)

# (partition, committed offset or None, first offset in the log, end of the log) -> offset to begin at. None means that
# the position is in the state: the caller takes it from there and passes it through `check_in_log`.
StartPolicy = Callable[[TP, int | None, int, int], "int | Awaitable[int] | None"]


class InputOffsets(NamedTuple):
    """The broker's offsets of one input partition."""

    #: Committed offset, or None.
    committed: int | None
    #: First offset in the log, and the end of the log.
    begin: int
    end: int


@runtime_checkable
class BulkStartPolicy(Protocol):
    """A StartPolicy for all partitions at once, because it reads logs."""

    async def starts(self, offsets: Mapping[TP, InputOffsets]) -> Mapping[TP, int]:
        """The offset to begin at, by partition."""
        ...


#: Advice to an operator if a start can't be proven. The command shows the records that a start would skip.
RECOVERY_HINT = "see what the group would skip with `offsets recover --dry-run`"


def check_in_log(tp: TP, at: int, begin: int, end: int) -> int:
    """Returns `at` if the log holds all records from there on; otherwise ends the process."""
    if at < begin:
        abort("the log was trimmed before it was read", topic=tp.topic, partition=tp.partition, at=at, begin=begin)
    if at > end:
        abort("the log ends before what was read of it", topic=tp.topic, partition=tp.partition, at=at, end=end)
    return at


def at_committed(tp: TP, committed: int | None, begin: int, end: int) -> int:
    """The committed offset. Ends the process if there is none, unless the partition never held a record."""
    if committed is None:
        if end == 0:
            return 0
        abort(
            f"no committed offset, and no other record of what was read: {RECOVERY_HINT}",
            topic=tp.topic,
            partition=tp.partition,
        )
    return check_in_log(tp, committed, begin, end)


def from_state(tp: TP, committed: int | None, begin: int, end: int) -> int | None:
    """None: the position is in the state, see `after_cause`."""
    return None


def after_cause(tp: TP, cause: int, committed: int | None, begin: int, end: int) -> int:
    """The offset at which a decider with the greatest cause `cause` begins. Ends the process if inputs are missing.

    Inputs after the greatest cause yielded nothing or were not decided. Deciding them again gives the same result, so a
    committed offset beyond them is ignored.
    """
    own = cause + 1
    if own < begin:
        if committed is None or committed < begin:
            abort(
                f"the inbox begins after the last input that was decided: {RECOVERY_HINT}",
                topic=tp.topic,
                partition=tp.partition,
                decided=cause,
                committed=committed,
                begin=begin,
            )
        # The committed offset says that the missing inputs were handled, and nothing contradicts it.
        return begin
    if committed is None:
        if end:
            log_forgotten_offset(tp, own, "after the greatest cause in the state")
        return own
    if not begin <= committed <= end:
        log_foreign_commit(tp, committed, begin, end, own)
        return own
    return min(committed, own)


def log_foreign_commit(tp: TP, committed: int, begin: int, end: int, own: int) -> None:
    """Logs a committed offset that this service can't have committed."""
    log.critical(
        "%s-%s: offset %s is committed, but the log is from %s to %s: this service did not commit it. Resuming at %s, "
        "which its own log proves. Find out who may commit for the group: `acls check`",
        *tp,
        committed,
        begin,
        end,
        own,
    )


def log_unhandled_record(tp: TP, committed: int, offset: int, what: str) -> None:
    """Logs a record before the committed offset that was not handled before."""
    log.critical(
        "%s-%s: offset %s was committed, but record %s before it %s: this service did not commit that offset. The "
        "record is handled now, nothing is lost. Find out who may commit for the group: `acls check`",
        *tp,
        committed,
        offset,
        what,
    )


def log_forgotten_offset(tp: TP, offset: int, why: str) -> None:
    """Logs that no offset is committed, and where the group resumes."""
    log.warning("%s-%s: the broker has forgotten the committed offset; resuming at %s: %s", *tp, offset, why)


def at_beginning(tp: TP, committed: int | None, begin: int, end: int) -> int:
    """The first record in the log, for state that is rebuilt at every start."""
    return begin
