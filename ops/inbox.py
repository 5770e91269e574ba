"""`inbox`: the way past a record that no build will ever decode.

Such a record stops its partition: nothing behind it is decided or acknowledged. Deploy a build that decodes it. Only
for a record that is proven to be none of ours, `skip` records in the log's registry that deciders pass over it. A skip
holds for one place and one value, and yields no decision.
"""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Annotated, Any

import typer
from aiokafka import TopicPartition
from groupbuy.registry.v1.registry_pb2 import RecordSkipped, RegistryRecord

from chassis import registry
from eventlog.reading import Partitions
from eventlog.registry import skip_key
from ops.describe import day_and_clock
from ops.errors import USAGE, OpsError
from ops.replay import domains, undecodable
from ops.screen import echo
from ops.security import cluster
from ops.topics import at_broker
from ops.where import Kafka, broker
from ops.who import who

app = typer.Typer(no_args_is_help=True, help="Inboxes: records that stop a partition.")


@app.callback()
def _commands() -> None:
    """Keeps `skip` a command of its own: Typer would merge the only one."""


@app.command()
def skip(
    topic: Annotated[str, typer.Argument(help="An inbox.")],
    partition: Annotated[int, typer.Argument(min=0)],
    offset: Annotated[int, typer.Argument(min=0)],
    reason: Annotated[str, typer.Option("--reason", help="Why it is none of ours. Kept for ever.")],
    kafka: Kafka = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the record, and record nothing.")] = False,
) -> None:
    """Records that deciders pass over a record which this build can't decode. Services go on within seconds."""
    address = broker(kafka)
    inboxes: dict[str, Any] = {inbox.name: domain for inbox, _, domain in domains()}
    if topic not in inboxes:
        raise OpsError(f"{topic} is no inbox: these are: {', '.join(inboxes)}", USAGE)
    if not reason.strip():
        raise OpsError("--reason is empty: say why the record is none of ours", USAGE)

    async def run() -> tuple[Any, str]:
        record = await _record(address, topic, partition, offset)
        why = undecodable(inboxes[topic], record)
        if why and not dry_run:
            number = await registry.declared(cluster(address))
            if number is None:
                raise OpsError(f"no number of partitions is declared: run {registry.CREATE}")
            entry = RecordSkipped(
                topic=topic,
                partition=partition,
                offset=offset,
                sha256=sha256(record.value or b"").digest(),
                reason=reason,
            )
            async with registry.Writer(cluster(address), who(), number) as writer:
                await writer.append(skip_key(topic, partition, offset), RegistryRecord(record_skipped=entry))
        return record, why

    record, why = at_broker(address, run)
    value = record.value or b""
    # As Python shows bytes: a foreign record may hold what would move the cursor.
    echo(f"{topic} {partition}:{offset}, appended {day_and_clock(record.timestamp)}")
    echo(f"  key     {record.key!r}")
    for name, content in record.headers:
        echo(f"  header  {name!r} {content!r}")
    echo(f"  bytes   {len(value)}: {value[:64].hex(' ')}")
    echo(f"  sha256  {sha256(value).hexdigest()}")
    if not why:
        raise OpsError("this build decodes the record: it is not skipped")
    echo(f"  because {why}")
    echo("nothing recorded: this was a dry run" if dry_run else f"skipped, as {who()}: {reason}")


async def _record(address: str, topic: str, partition: int, offset: int) -> Any:
    tp = TopicPartition(topic, partition)
    async with asyncio.timeout(60), Partitions(cluster(address), [tp]) as reading:
        begin, end = reading.begins[tp], reading.ends[tp]
        if not begin <= offset < end:
            raise OpsError(f"{topic} {partition} has records from {begin} to {end - 1}: none at {offset}")
        async for record in reading.records(tp, offset, offset + 1):
            return record
    raise OpsError(f"{topic} {partition} has no record at {offset}")
