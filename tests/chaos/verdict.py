"""The verdict on a run against the whole product: the audit, a replay of every inbox, the acknowledgements that clients
received, and our ledger against the provider's statement.

Call it when everything is settled. Data that can't be read makes a run inexact.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from devstack.stack import Stack
from ops.audit.findings import Invariant
from ops.audit.group.seats import SeatState
from ops.audit.run import NotQuiet, audit
from ops.demo.player import Tally
from ops.log.rerun.replay import domains, replayed
from ops.reconcile.command import compared
from ops.reconcile.comparison import Kind

MAX_SHOWN = 20
#: In the log of a process with a call on a wrong thread; see eventlog/faust/thread_checks.py.
WRONG_THREAD = "wrong thread"
#: Figures, and whether the run was exact.
Found = tuple[dict[str, object], bool]


async def in_time(run: Awaitable[Found]) -> Found:
    """The result of a run; if it did not become quiet in time, what was still pending."""
    try:
        return await run
    except NotQuiet as error:
        return {"under_way": error.pending[:MAX_SHOWN], "books_equal": False}, False


async def verdict(stack: Stack, tally: Tally, say: Callable[[str], None] = print) -> tuple[dict[str, object], bool]:
    """Figures, and whether the run was exact. Nothing may be pending."""
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
    """Number of log lines of all processes, also before restarts, about a call on a wrong thread."""
    return sum(WRONG_THREAD in line for name in stack.names for line in stack.log(name).splitlines())
