"""Where a processor begins to read a partition, and when beginning there would lose records.

A committed offset is a claim, not a proof: a broker forgets those of a group that was empty for
`offsets.retention.minutes`, and whoever may join the group can commit any other. Most processors know their place
without it: a decider from its state, a sequencer and effects from what they wrote (`eventlog/consuming/resume.py`), a
projection from its own store. They begin at the lesser of the two, so nothing is passed over. The policies below say
which.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from faust.types import TP

from eventlog.runtime.abort import abort

log = logging.getLogger(__name__)

# (partition, committed offset or None, first offset in the log, end of the log) -> offset to begin at. None stands for
# "from the state": the caller takes the offset from there and passes it through `within`.
StartPolicy = Callable[[TP, int | None, int, int], "int | Awaitable[int] | None"]


class InputOffsets(NamedTuple):
    """What the broker says of one partition of the input."""

    #: None: nothing is committed.
    committed: int | None
    #: First offset in the log, and its end.
    begin: int
    end: int


@runtime_checkable
class BulkStartPolicy(Protocol):
    """A StartPolicy that looks at all partitions at once, because it reads logs."""

    async def starts(self, places: Mapping[TP, InputOffsets]) -> Mapping[TP, int]:
        """The offset to begin at in each partition."""
        ...


#: The way out where a start can't be proven. The command shows the records that a start would skip.
RECOVERY_HINT = "see what the group would skip with `groupbuy-ops offsets recover --dry-run`"


def check_in_log(tp: TP, at: int, begin: int, end: int) -> int:
    """Returns `at` if the log still has everything from there on; else ends the process."""
    if at < begin:
        abort("the log was trimmed before it was read", topic=tp.topic, partition=tp.partition, at=at, begin=begin)
    if at > end:
        abort("the log ends before what was read of it", topic=tp.topic, partition=tp.partition, at=at, end=end)
    return at


def at_committed(tp: TP, committed: int | None, begin: int, end: int) -> int:
    """The committed offset. Ends the process where there is none, unless the partition never held a record."""
    if committed is None:
        if end == 0:
            return 0
        abort(
            f"no committed offset, and nothing else says what was read: {RECOVERY_HINT}",
            topic=tp.topic,
            partition=tp.partition,
        )
    return check_in_log(tp, committed, begin, end)


def from_state(tp: TP, committed: int | None, begin: int, end: int) -> int | None:
    """None: the state says where to begin, see `after_cause`."""
    return None


def after_cause(tp: TP, cause: int, committed: int | None, begin: int, end: int) -> int:
    """Where a decider begins whose greatest cause is `cause`. Ends the process where inputs are gone.

    Inputs after the greatest cause yielded nothing or were not decided. Deciding them again gives the same, so a
    committed offset beyond them is not believed.
    """
    own = cause + 1
    if own < begin:
        if committed is None or committed < begin:
            abort(
                f"the inbox begins after what was decided from it: {RECOVERY_HINT}",
                topic=tp.topic,
                partition=tp.partition,
                decided=cause,
                committed=committed,
                begin=begin,
            )
        # What is gone was handled, as far as anybody can tell.
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
    """Tells of a committed offset that nothing of ours can have committed."""
    log.critical(
        "%s-%s: offset %s is committed, and the log reaches from %s to %s: not committed by this service; going on at "
        "%s, which its own log proves. Find out who may commit for the group: `groupbuy-ops acls check`",
        *tp,
        committed,
        begin,
        end,
        own,
    )


def log_unhandled_record(tp: TP, committed: int, offset: int, what: str) -> None:
    """Tells that a record before the committed offset was not handled before."""
    log.critical(
        "%s-%s: offset %s was committed, but record %s before it %s: this service did not commit that offset. The "
        "record is handled now, nothing is lost. Find out who may commit for the group: `groupbuy-ops acls check`",
        *tp,
        committed,
        offset,
        what,
    )


def log_forgotten_offset(tp: TP, offset: int, why: str) -> None:
    """Tells that nothing is committed, and where the group goes on."""
    log.warning("%s-%s: the broker has forgotten the committed offset; going on at %s: %s", *tp, offset, why)


def at_beginning(tp: TP, committed: int | None, begin: int, end: int) -> int:
    """The first record there is: for state that is rebuilt whole at every start."""
    return begin
