"""Where a router begins to read a decision log.

The newest copy in a target does not prove a start, as it does for a sequencer: the outputs of one batch go to several
partitions, and a later one can be in the log before an earlier one. Only the committed offset says that all of them
are. Without it a router begins at the beginning: decision logs are kept for ever, and a repeat changes nothing.
"""

from __future__ import annotations

from faust.types import TP

from eventlog.consuming.start_policy import RECOVERY_HINT, check_in_log, log_foreign_commit, log_forgotten_offset
from eventlog.runtime.abort import abort


def router_start(tp: TP, committed: int | None, begin: int, end: int) -> int:
    """The committed offset, or 0 without one. Ends the process if decisions are missing from the log."""
    if committed is None:
        if begin:
            abort(
                f"no committed offset, and the log's beginning is gone: {RECOVERY_HINT}",
                topic=tp.topic,
                partition=tp.partition,
                begin=begin,
            )
        if end:
            log_forgotten_offset(tp, 0, "every decision is routed again, and repeats change nothing")
        return 0
    if committed > end:
        # Nobody has routed what is not in the log. The records between the true offset and the end can't be told
        # apart, so all are routed again.
        log_foreign_commit(tp, committed, begin, end, begin)
        return check_in_log(tp, 0, begin, end)
    return check_in_log(tp, committed, begin, end)
