"""`ledger`: the double-entry ledger, folded from the payment log: balances, and Merkle roots to keep elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ops.audit.findings import Findings
from ops.broker.connection import at_broker
from ops.errors import DOES_NOT_HOLD, OpsError, cannot_run
from ops.ledger import root_files
from ops.ledger.root_files import RootCollector
from ops.log.reader import Reader, skips
from ops.terminal.amounts import amount
from ops.terminal.output import Json, Output
from ops.where import Kafka, broker
from shared_kernel.topics import PAYMENT_LOG

app = typer.Typer(no_args_is_help=True, help="Prints the ledger's balances, and exports its Merkle roots.")


@app.command()
def roots(
    out: Annotated[
        Path, typer.Option("--out", help="Output file. Store it where Kafka administrators cannot change it.")
    ],
    kafka: Kafka = None,
    json: Json = False,
) -> None:
    """Writes the Merkle root of each day and partition, for `groupbuy-ops audit --roots`.

    The last line is one JSON object.

    Reads the payment log.

    Changes the output file alone; nothing if the log's hash chain is broken.

    Exit codes: 0 done, 1 the log's hash chain is broken, 2 cannot run or the file can't be written.

    Example: groupbuy-ops ledger roots --out roots.json
    """
    printed = Output(json)
    collector = _collect(broker(kafka))
    _refuse_broken(collector)
    found = collector.finish()
    try:
        root_files.write(out, found)
    except OSError as error:
        raise cannot_run(f"{out} can't be written: {error.strerror}") from error
    table = Table(title="Roots", title_justify="left")
    for column in ("day", "partition", "entries", "root"):
        table.add_column(column, justify="right" if column in ("partition", "entries") else "left")
    for (partition, day), one in sorted(found.items(), key=lambda item: (item[0][1], item[0][0])):
        table.add_row(day, str(partition), f"{one.entries:,}", one.root)
    printed.show(table)
    if not found:
        printed.note(f"no entries in {PAYMENT_LOG.name}")
    entries = sum(day.entries for day in found.values())
    printed.figures({"out": str(out), "roots": len(found), "entries": entries})


@app.command()
def balances(kafka: Kafka = None, json: Json = False) -> None:
    """Prints the balance of each account and currency.

    The last line is one JSON object.

    Reads the payment log.

    Changes nothing.

    Exit codes: 0 debits equal credits, 1 they differ or the log's hash chain is broken, 2 cannot run.

    Example: groupbuy-ops ledger balances
    """
    out = Output(json)
    collector = _collect(broker(kafka))
    _refuse_broken(collector)
    sums: dict[tuple[str, str], list[int]] = {}
    for fold in collector.ledger.folds.values():
        for (currency, account), (debits, credits_) in fold.balances.items():
            both = sums.setdefault((currency, account.name.lower()), [0, 0])
            both[0] += debits
            both[1] += credits_
    table = Table(title="Balances", title_justify="left")
    for column in ("currency", "account", "debits", "credits", "balance"):
        table.add_column(column, justify="left" if column in ("currency", "account") else "right")
    totals: dict[str, int] = {}
    figures: dict[str, dict[str, int]] = {}
    for (currency, name), (debits, credits_) in sorted(sums.items()):
        totals[currency] = totals.get(currency, 0) + debits - credits_
        figures.setdefault(currency, {})[name] = debits - credits_
        table.add_row(currency, name, *(amount(one, currency) for one in (debits, credits_, debits - credits_)))
    out.show(table)
    if not sums:
        out.note(f"no entries in {PAYMENT_LOG.name}")
    balanced = not any(totals.values())
    out.figures({"balanced": balanced, "balances_minor": figures})
    if not balanced:
        raise typer.Exit(DOES_NOT_HOLD)


def check(kafka: str, path: Path, findings: Findings) -> int:
    """Compares a file of roots with the current log and returns the number of its roots. Raises OpsError."""
    wanted = root_files.read(path)
    root_files.compare(wanted, _collect(kafka, RootCollector(wanted)), findings)
    return len(wanted)


def _collect(kafka: str, collector: RootCollector | None = None) -> RootCollector:
    collector = collector or RootCollector()

    async def run() -> None:
        async with Reader(kafka, [PAYMENT_LOG.name], skipped=await skips(kafka)) as reader:
            for (_topic, partition), offset in (await reader.beginnings()).items():
                collector.ledger.begins_at(partition, offset)
            await reader.read_to_end(lambda _topic, records: collector.ledger.take(records))

    at_broker(kafka, run)
    return collector


def _refuse_broken(collector: RootCollector) -> None:
    if collector.faults:
        _, _, _, partition, offset, what = collector.faults[0]
        more = f" (and {len(collector.faults) - 1} more)" if len(collector.faults) > 1 else ""
        raise OpsError(f"the payment log is broken at partition {partition} offset {offset}: {what}{more}")
