"""`watch`: follows all topics and the committed offsets, serves metrics, and logs what needs an operator."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from chassis.telemetry import logging as telemetry
from eventlog.runtime.wall_clock import wall_clock_ms
from ops import where
from ops.audit.findings import TITLES, Invariant
from ops.broker.connection import at_broker
from ops.errors import DOES_NOT_HOLD, cannot_run
from ops.terminal.output import Json, Output
from ops.trace.follow import Sample, TraceFollower
from ops.watch.folding.summary import PROVIDERS
from ops.watch.folding.totals import Totals
from ops.watch.service import WatchService, state_directory
from ops.watch.view import View, figures, invariant_rows
from ops.watch.worker import Job, Statement, Worker

DEFAULT_STATE = Path(".run/watch")
#: Workers by default, at most: each takes a processor core while it catches up.
_MAX_WORKERS = 4


def watch(
    kafka: where.Kafka = None,
    listen: Annotated[
        str | None, typer.Option("--listen", help="host:port of /metrics, /live, /ready. Default: nothing is served.")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option("--state", help=f"Directory of the state. Default: {DEFAULT_STATE}; with --once a temporary one."),
    ] = None,
    statement: Annotated[
        list[str] | None,
        typer.Option(
            "--statement",
            help="[provider=]address or file (CSV) of a provider's statement to compare with; may be repeated.",
        ),
    ] = None,
    statement_every_s: Annotated[
        float, typer.Option("--statement-every", min=1, help="Seconds between two comparisons with a statement.")
    ] = 3600.0,
    roots: Annotated[
        Path | None, typer.Option("--roots", help="The file of `ledger roots`; its age is a metric.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=64, help="Processes that share the partitions.")
    ] = None,
    otlp: Annotated[
        str | None, typer.Option("--otlp", help="host:port of an OpenTelemetry collector (OTLP over gRPC) for traces.")
    ] = None,
    sample: Annotated[
        Sample, typer.Option("--sample", help="Traces for --otlp: those with the sampled flag, or all.")
    ] = Sample.FLAG,
    once: Annotated[
        bool, typer.Option("--once", help="Read everything up to the current ends, print the figures, and end.")
    ] = False,
    json: Json = False,
) -> None:
    """Follows all topics and the committed offsets: lag, open work, money and invariants, without a service.

    Logs violations, groups without a member or progress, and differences to a statement at level error.

    Reads all topics, the committed offsets, the registry, and the statements of --statement. The state directory has
    the position of each log; a state that is damaged or of other logs is set aside, and the logs are folded again.

    Changes nothing at the broker. Writes the state directory.

    Exit codes: 0 stopped by a signal, or with --once nothing is wrong; 1 with --once a violation or a difference; 2
    cannot run.

    Example: groupbuy-ops watch --listen 127.0.0.1:9400 --state /var/lib/groupbuy/watch
    """
    address = where.broker(kafka)
    job = Job(
        kafka=address,
        state=str(state or DEFAULT_STATE),
        workers=1 if once else workers or min(_MAX_WORKERS, os.cpu_count() or 1),
        statements=tuple(parse_statement(one) for one in statement or ()),
        statement_every_s=statement_every_s,
        once=once,
    )
    if once:
        _once(job, address, Output(json), temporary=state is None)
        return
    where_to = _host_and_port(listen) if listen else None
    if otlp:
        _host_and_port(otlp)
    traces = TraceFollower(address, otlp, sample) if otlp else None
    telemetry.configure(level="INFO", form="json", service="watch", instance="watch")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    with state_directory(Path(job.state), job.workers):
        asyncio.run(WatchService(job, listen=where_to, roots=roots, traces=traces).run())


def _once(job: Job, address: str, out: Output, *, temporary: bool) -> None:
    view = View(job.workers)

    def run(state: Path) -> None:
        own = Job(
            kafka=job.kafka,
            state=str(state),
            statements=job.statements,
            statement_every_s=job.statement_every_s,
            once=True,
        )
        at_broker(address, Worker(own, view.take).run)

    if temporary:
        with tempfile.TemporaryDirectory(prefix="groupbuy-watch-") as name:
            run(Path(name))
    else:
        with state_directory(Path(job.state), 1) as directory:
            run(directory)
    totals = view.totals
    found = figures(totals, view.compared, wall_clock_ms())
    _print(out, totals, view)
    out.figures(found)
    unequal = found["unbalanced"] or found["unequal_pieces"]
    if found["violations"] or unequal or any(one.differences for one in view.compared):
        raise typer.Exit(DOES_NOT_HOLD)


def _print(out: Output, totals: Totals, view: View) -> None:
    table = Table(title="Violations", title_justify="left")
    for column in ("invariant", "", "count", "first"):
        table.add_column(column, justify="right" if column in {"invariant", "count"} else "left", overflow="fold")
    for number, title, count, text in invariant_rows(totals):
        table.add_row(str(number), title, str(count), text)
    for currency, charged, kept in totals.unbalanced():
        table.add_row("1", "debits = credits per currency", "1", f"{currency}: charged {charged}, captured {kept}")
    for stock, one in totals.unequal_pieces(wall_clock_ms()):
        what = f"stock item {stock}: {one.leased} leased, {one.held} in groups; {one.sold} sold, {one.charged} charged"
        table.add_row(str(int(Invariant.PIECES)), TITLES[Invariant.PIECES], "1", what)
    for compared in view.compared:
        for text in compared.texts:
            table.add_row("15", f"statement of {compared.provider}", "", text)
    if table.row_count:
        out.show(table)
    else:
        out.line("every invariant holds")


def parse_statement(text: str) -> Statement:
    """The statement of `[provider=]address or file`. Raises OpsError."""
    name, equals, place = text.partition("=")
    provider, place = (name, place) if equals else (PROVIDERS[0], text)
    if provider not in PROVIDERS:
        raise cannot_run(f"--statement {text}: the providers are {', '.join(PROVIDERS)}")
    if Path(place).is_file():
        return Statement(provider, file=place)
    _host_and_port(place)
    return Statement(provider, address=place)


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 <= int(port) < 65536:
        raise cannot_run(f"{text!r} is neither host:port nor a file")
    return host.strip("[]"), int(port)
