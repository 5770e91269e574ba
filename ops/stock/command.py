"""`stock`: the pieces of each stock item; with a name, which groups have them and why."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ops import where
from ops.audit.auditor import Auditor
from ops.broker.connection import at_broker
from ops.errors import cannot_run
from ops.log.reader import Reader, skips
from ops.log.rendering.describe import day_and_clock
from ops.stock.holders import Holder, StockRow, holders, stock_rows
from ops.terminal.output import Json, Output
from ops.terminal.sheet import Column, Sheet
from shared_kernel.topics import GROUP_LOG, STOCK_LOG

#: Rows of the table of groups.
MAX_SHOWN = 100


def stock(
    name: Annotated[str, typer.Argument(help="stocks/{stock}. Default: all stock items.")] = "",
    kafka: where.Kafka = None,
    json: Json = False,
) -> None:
    """Prints the pieces of all stock items, or which groups have the pieces of one, and why.

    A piece is free, leased to one group, or sold. A group has pieces for its seats, for free seats, or on their way.

    Reads the decision log of the stock items, and with a name that of the groups too.

    Changes nothing.

    Exit codes: 0 done, 2 cannot run or there is no such stock item.

    Example: groupbuy-ops stock stocks/drop
    """
    out, address = Output(json), where.broker(kafka)
    key = name.removeprefix("stocks/")
    # The log that is read first ends first: what a group got is then at most what its stock item has leased.
    topics = (GROUP_LOG.name, STOCK_LOG.name) if key else (STOCK_LOG.name,)

    async def read() -> Auditor:
        auditor = Auditor()
        async with Reader(address, topics, skipped=await skips(address)) as reader:
            for (topic, partition), offset in (await reader.beginnings()).items():
                auditor.begins_at(topic, partition, offset)
            await reader.read_to_end(auditor.take)
        return auditor

    auditor = at_broker(address, read)
    rows = stock_rows(auditor.pieces.stocks)
    if not key:
        _print_items(out, rows)
        return
    found = [row for row in rows if row.stock == key]
    if not found:
        raise cannot_run(f"stock item not found: the topic {STOCK_LOG.name} at {address} has no stocks/{key}")
    _print_holders(out, found[0], list(holders(auditor, key)))


def _print_items(out: Output, rows: list[StockRow]) -> None:
    if not rows:
        out.note("no stock items")
    sheet = _sheet("Stock items", rows)
    if rows:
        out.show(sheet)
    for row in rows:
        out.record(asdict(row))


def _sheet(title: str, rows: list[StockRow]) -> Sheet:
    columns = [Column("stock", right=False), Column("offer", right=False)]
    columns += [Column(name) for name in ("total", "free", "leased", "sold", "groups", "in line")]
    sheet = Sheet(title, columns)
    for row in rows:
        numbers = (row.total, row.free, row.leased, row.sold, row.groups, row.waiting)
        sheet.rows.append((row.stock, row.offer, *(f"{number:,}" for number in numbers)))
    return sheet


def _print_holders(out: Output, row: StockRow, found: list[Holder]) -> None:
    out.show(_sheet("", [row]))
    sheet = Sheet(
        "Groups",
        [
            Column("group", right=False),
            Column("state", right=False),
            Column("pieces"),
            Column("why", right=False),
            Column("until", right=False, optional=True),
        ],
    )
    for one in found[:MAX_SHOWN]:
        until = day_and_clock(one.deadline_ms) if one.deadline_ms else ""
        sheet.rows.append((f"groups/{one.group}", one.state, f"{one.units:,}", one.why, until))
    if found:
        out.show(sheet)
    if len(found) > MAX_SHOWN:
        out.line(f"and {len(found) - MAX_SHOWN:,} more")
    for one in found:
        out.record(one.as_object())
    out.record(asdict(row))
