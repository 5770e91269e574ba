"""`lag`: how far each consumer group is behind, partition by partition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.table import Table

from ops import where
from ops.broker.connection import at_broker
from ops.completion import offering
from ops.errors import DOES_NOT_HOLD, cannot_run
from ops.security import cluster
from ops.terminal.output import Json, Output
from ops.watch.lag import READERS, LagReader, Lags, PartitionLag


def lag(
    kafka: where.Kafka = None,
    group: Annotated[
        str | None,
        typer.Option("--group", help="Only this consumer group.", autocompletion=offering(READERS)),
    ] = None,
    over_s: Annotated[
        float, typer.Option("--over", min=0, help="Seconds of lag above which the exit code is 1.")
    ] = 30.0,
    every: Annotated[bool, typer.Option("--all", help="Also print partitions without anything to read.")] = False,
    json: Json = False,
) -> None:
    """Prints the position, the end and the owner of each partition, by consumer group and topic.

    Seconds are the age of the next record that is not committed, by the broker's clock.

    Reads committed offsets, the members of the groups, and one record of each partition that is behind.

    Changes nothing.

    Exit codes: 0 all groups work, 1 a group has no member, no owner of a partition with records to read, or more lag
    than --over, 2 cannot run.

    Example: groupbuy-ops lag --group groupbuy.payments.effects
    """
    if group is not None and group not in READERS:
        raise cannot_run(f"no consumer group {group}: the groups are {', '.join(READERS)}")
    address, out = where.broker(kafka), Output(json)

    async def run() -> Lags:
        async with LagReader(cluster(address)) as reader:
            return await reader.read([group] if group is not None else tuple(READERS))

    lags = at_broker(address, run)
    if json:
        for row in lags.rows:
            if every or row.records:
                out.record(row._asdict())
        for name, count in lags.members.items():
            out.record(_sums(name, count, lags.of(name)))
    else:
        _print(out, lags, every)
    if any(not ok(lags.of(name), count, over_s) for name, count in lags.members.items()):
        raise typer.Exit(DOES_NOT_HOLD)


def ok(rows: Sequence[PartitionLag], members: int, over_s: float) -> bool:
    """Whether a group works: it has a member, and no partition is behind without an owner or by more than `over_s`."""
    behind = [row for row in rows if row.records]
    return members > 0 and all(row.owner and (row.seconds or 0.0) <= over_s for row in behind)


def _sums(group: str, members: int, rows: Sequence[PartitionLag]) -> dict[str, Any]:
    return {
        "group": group,
        "members": members,
        "partitions": len(rows),
        "records": sum(row.records for row in rows),
        "seconds": max((row.seconds or 0.0 for row in rows), default=0.0),
    }


def _print(out: Output, lags: Lags, every: bool) -> None:
    sums = Table(title="Consumer groups", title_justify="left")
    for column in ("group", "members", "partitions", "records", "seconds"):
        sums.add_column(column, justify="left" if column == "group" else "right")
    for name, count in lags.members.items():
        found = _sums(name, count, lags.of(name))
        style = None if count else "bold red"
        sums.add_row(
            name, str(count), str(found["partitions"]), f"{found['records']:,}", f"{found['seconds']:.1f}", style=style
        )
    out.show(sums)
    shown = [row for row in lags.rows if every or row.records]
    if not shown:
        out.line("no group has a record to read")
        return
    table = Table(title="Partitions", title_justify="left")
    for column in ("group", "topic", "partition", "position", "end", "records", "seconds", "owner"):
        table.add_column(column, justify="left" if column in {"group", "topic", "owner"} else "right", overflow="fold")
    for row in shown:
        table.add_row(
            row.group,
            row.topic,
            str(row.partition),
            "none" if row.position is None else str(row.position),
            str(row.end),
            f"{row.records:,}",
            "unknown" if row.seconds is None else f"{row.seconds:.1f}",
            row.owner or "nobody",
            style=None if row.owner else "bold red",
        )
    out.show(table)
