"""Whether a run against the whole product was exact: the audit, every inbox decided anew, what clients were told, and
our ledger against the provider's statement.

Whoever asks has waited until all was settled. Must never take what it can't read for good.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from devstack.stack import Stack
from ops.audit.findings import Invariant
from ops.audit.group.seats import SeatState
from ops.audit.run import NotQuiet, audit
from ops.demo.player import Tally
from ops.log.replay import domains, replayed
from ops.reconcile.command import compared
from ops.reconcile.comparison import Kind

MAX_SHOWN = 20
#: What a process says that meets a call on a wrong thread, see eventlog/faust/thread_checks.py.
WRONG_THREAD = "wrong thread"
#: Figures, and whether all of it was exact.
Found = tuple[dict[str, object], bool]


async def in_time(run: Awaitable[Found]) -> Found:
    """What a run found; where it did not come to rest in time, what was still under way."""
    try:
        return await run
    except NotQuiet as error:
        return {"under_way": error.pending[:MAX_SHOWN], "books_equal": False}, False


async def verdict(stack: Stack, tally: Tally, say: Callable[[str], None] = print) -> tuple[dict[str, object], bool]:
    """Figures, and whether all of it was exact. Nothing may be under way."""
    report = await audit(stack.kafka, stack.endpoints["provider"], settled=True, acknowledged=tally.acknowledged)
    played = [(await replayed(stack.kafka, inbox, log, domain)).finish() for inbox, log, domain in domains()]
    differences = [line for one in played for line in one.differences]
    unequal = [
        line for line in await compared(stack.kafka, stack.endpoints["provider"]) if line.kind is not Kind.MATCHED
    ]
    extra = [line for line in differences if "nothing led to" in line]
    for kind, lines in (
        ("violation", [str(one) for one in report.findings.violations]),
        ("different", differences),
        ("unequal", [f"{line.kind} {line.order} {line.hold}: {line.what}" for line in unequal]),
        ("unexpected", sorted(set(tally.errors))),
    ):
        for line in lines[:MAX_SHOWN]:
            say(f"{kind} {line}")
    by_invariant = report.findings.by_invariant
    figures = json.loads(report.json())
    found: dict[str, object] = {
        "orders": figures["orders"],
        "groups": figures["groups"],
        "settled": report.orders[SeatState.SETTLED],
        "missing": by_invariant.get(Invariant.ACKNOWLEDGED_IS_LOGGED, 0) + sum(one.not_yet_logged for one in played),
        "extra": len(extra),
        "conflicting": len(differences) - len(extra) + by_invariant.get(Invariant.VERSIONS, 0),
        "double_captures": by_invariant.get(Invariant.ONE_CAPTURE, 0),
        "open_holds": report.open_holds,
        "books_equal": bool(report.books_equal) and not unequal,
        "violations": figures["violations"],
        "captured_minor": figures["captured_minor"],
        "refunded_minor": figures["refunded_minor"],
        "alarms": figures["alarms"],
        "dead_letters": figures["dead_letters"],
        "acknowledged": len(tally.acknowledged),
        "retries": tally.retries,
        "unexpected": len(tally.errors),
        "threads_violations": threads_violations(stack),
    }
    good = report.clean and bool(found["books_equal"]) and not differences and not tally.errors
    return found, good and not (found["missing"] or report.open_holds or found["threads_violations"])


def threads_violations(stack: Stack) -> int:
    """Lines, of all processes and all their lives, that tell of a call on a wrong thread."""
    return sum(WRONG_THREAD in line for name in stack.names for line in stack.log(name).splitlines())
