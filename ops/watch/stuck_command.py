"""`stuck`: what is open longer than it should be, since when, why, and what to do next."""

from __future__ import annotations

import asyncio
import tempfile
from typing import Annotated

import typer
from rich.table import Table

from eventlog.runtime.wall_clock import wall_clock_ms
from ops import where
from ops.broker.connection import at_broker
from ops.errors import DOES_NOT_HOLD, OpsError
from ops.log.rendering.describe import day_and_clock
from ops.repair.service import read_issues
from ops.security import cluster
from ops.terminal.output import Json, Output
from ops.watch.folding.incremental import IncrementalAudit
from ops.watch.lag import LagReader
from ops.watch.stuck import Stuck, attention, overdue, standing
from ops.watch.worker import Job, Worker

#: Rows of the table.
MAX_SHOWN = 100


def stuck(
    kafka: where.Kafka = None,
    over_s: Annotated[
        float, typer.Option("--over", min=0, help="Seconds after which work that should be done counts as stuck.")
    ] = 60.0,
    payments: where.Payments = None,
    json: Json = False,
) -> None:
    """Lists what should be done and is not: groups, orders, calls, holds, money owed, partitions and services.

    A group is due at its deadline, a settlement when the group closes, a call when it is requested, an open hold 6 h
    before it lapses. Money owed, suspense, calls, disputes and adjustments are listed if an operator has to act, with
    the exact command of `repair`; `repair list` has all of them. Without an address of the payments service, or if it
    does not answer, a note says so.

    Reads all topics from their beginning, with the state in a temporary directory, the committed offsets, and the
    issues of the payments service.

    Changes nothing.

    Exit codes: 0 nothing is stuck, 1 something is, 2 cannot run.

    Example: groupbuy-ops stuck --over 300
    """
    address, out = where.broker(kafka), Output(json)
    found: list[Stuck] = []

    def collect(audit: IncrementalAudit) -> None:
        found.extend(overdue(audit.open_items(), wall_clock_ms(), over_s))

    async def run() -> None:
        async with LagReader(cluster(address)) as reader:
            lags = await reader.read()
            found.extend(await standing(lags, reader.next_record, wall_clock_ms(), over_s))
        with tempfile.TemporaryDirectory(prefix="groupbuy-stuck-") as directory:
            await Worker(Job(kafka=address, state=directory, once=True), lambda _: None).run(collect)

    at_broker(address, run)
    found.extend(_issues(out, payments, over_s))
    found.sort(key=lambda one: -one.overdue_s)
    _print(out, found)
    for one in found:
        out.record(one._asdict())
    if found:
        raise typer.Exit(DOES_NOT_HOLD)


def _issues(out: Output, payments: str | None, over_s: float) -> list[Stuck]:
    """The issues of the payments service for which an operator has to act."""
    target = where.payments_if_known(payments)
    if not target:
        out.note("the payments service's address is missing: its issues are not listed")
        return []
    try:
        return list(attention(asyncio.run(read_issues(target)), wall_clock_ms(), over_s))
    except OpsError as error:
        out.note(f"the payments service's issues are not listed: {error}")
        return []


def _print(out: Output, found: list[Stuck]) -> None:
    if not found:
        out.line("nothing is stuck")
        return
    table = Table(title=f"{len(found):,} stuck", title_justify="left", show_lines=True)
    for column in ("", "what", "since", "overdue", "why", "next step"):
        table.add_column(column, overflow="fold")
    for one in found[:MAX_SHOWN]:
        name = f"groups/{one.group}" + (f"/orders/{one.order}" if one.order else "") if one.group else ""
        what = name or (f"{one.topic} {one.partition}" if one.topic else "")
        since = day_and_clock(one.since_ms) if one.since_ms else "unknown"
        table.add_row(one.kind, what, since, f"{one.overdue_s:,.0f} s", one.why, one.next_step)
    out.show(table)
    if len(found) > MAX_SHOWN:
        out.line(f"and {len(found) - MAX_SHOWN:,} more")
