"""`audit`: the independent audit, and with --roots the comparison of the ledger with exported Merkle roots.

ops.audit imports no service. The ledger's fold uses the rules of payments, so this command joins the two.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from ops import where
from ops.audit.report import Report
from ops.audit.run import NotQuiet, wait_quiet
from ops.audit.run import audit as run_audit
from ops.broker.connection import at_broker
from ops.errors import DOES_NOT_HOLD, OpsError
from ops.ledger import command as ledger
from ops.security import require_provider
from ops.statements import source
from ops.terminal.output import Json, Output


def audit(
    kafka: where.Kafka = None,
    provider: where.Provider = None,
    settled: Annotated[
        bool,
        typer.Option("--settled", help="Fail if anything is still in progress. Default: only count it."),
    ] = False,
    wait_s: Annotated[
        float,
        typer.Option(
            "--wait", min=0, help="Wait up to this many seconds until nothing is pending, then audit as with --settled."
        ),
    ] = 0.0,
    without_provider: Annotated[
        bool, typer.Option("--without-provider", help="Do not compare with the provider's statement.")
    ] = False,
    given: Annotated[str | None, typer.Option("--statement", help=source.HELP)] = None,
    roots: Annotated[
        Path | None,
        typer.Option("--roots", help="A file of `ledger roots`. Reports every decision that has changed since."),
    ] = None,
    json: Json = False,
) -> None:
    """Checks every invariant over all topics, and compares the ledger with the provider's statement.

    The last line is one JSON object.

    Reads all topics from their beginning to their current end, and the provider's statement or another one.

    Changes nothing.

    Exit codes: 0 every invariant holds and no alarm is open, 1 a violation, an open alarm, or work that is still
    pending after --wait, 2 cannot run.

    Example: groupbuy-ops audit --wait 30
    """
    out = Output(json)
    address = where.broker(kafka)
    origin = source.parse(given) if given is not None and not without_provider else None
    statement_from = None if without_provider or origin is not None else where.provider(provider)
    known = asyncio.run(source.read(origin)) if origin is not None else None

    async def run() -> Report:
        if statement_from is not None:
            await require_provider(statement_from)
        if wait_s:
            try:
                await wait_quiet(address, deadline_s=wait_s)
            except NotQuiet as error:
                raise OpsError(str(error)) from error
        return await run_audit(address, statement_from, settled=settled or wait_s > 0, given=known)

    # Not watched while it waits: the broker may be away for a while, and is then waited for too.
    report = at_broker(address, run, watched=not wait_s)
    if roots is not None:
        report.roots = ledger.check(address, roots, report.findings)
    if json:
        for one in report.items():
            out.record(one)
    else:
        report.print(out.console)
    out.figures(report.figures())
    if not report.clean or report.needs_operator:
        raise typer.Exit(DOES_NOT_HOLD)
