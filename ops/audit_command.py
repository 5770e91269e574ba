"""`audit`: the independent audit, and with --roots the comparison of the ledger with exported Merkle roots.

ops.audit imports no service. The ledger's fold uses the rules of payments, so this command joins the two.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from aiokafka.errors import KafkaError

from ops import where
from ops.audit.report import Report
from ops.audit.run import NotQuiet, wait_quiet
from ops.audit.run import audit as run_audit
from ops.console import console
from ops.errors import OpsError
from ops.ledger import command as ledger
from ops.log.reader import stopped_answering
from ops.printing import echo


def audit(
    kafka: where.Kafka = None,
    provider: where.Provider = None,
    settled: Annotated[
        bool,
        typer.Option("--settled", help="Report everything that is pending as a violation. Default: only count it."),
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
    roots: Annotated[
        Path | None,
        typer.Option("--roots", help="A file of `ledger roots`. Reports every decision that has changed since."),
    ] = None,
) -> None:
    """Reads all topics, checks every invariant, and compares the ledger with the provider's statement.

    The last line is one JSON object. Exits with 1 if there is a violation.
    """
    address = where.broker(kafka)
    statement_from = None if without_provider else where.provider(provider)

    async def run() -> Report:
        if wait_s:
            await wait_quiet(address, deadline_s=wait_s)
        return await run_audit(address, statement_from, settled=settled or wait_s > 0)

    try:
        report = asyncio.run(run())
    except NotQuiet as error:
        raise OpsError(str(error)) from error
    except KafkaError as error:
        raise stopped_answering(address, error) from error
    if roots is not None:
        report.roots = ledger.check(address, roots, report.findings)
    report.print(console())
    echo(report.json())
    if not report.clean:
        raise typer.Exit(1)
