"""`skip`: records in the log's registry that all readers skip one foreign record.

A record that readers can't process stops its partition or is dead-lettered. First deploy a build that can process it;
`skip` is for a record that is proven to be foreign. A skip holds for one place and one value. The command refuses a
record that this build can process, alone and, in a decision log, after the decisions before it.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from hashlib import sha256
from typing import Annotated, Any

import typer
from aiokafka import TopicPartition
from groupbuy.registry.v1.registry_pb2 import RecordSkipped, RegistryRecord

from eventlog.broker.partition_reader import PartitionReader
from eventlog.records.topic_spec import TopicSpec
from eventlog.views.recorded_skips import skip_key
from ops import completion
from ops.broker.connection import at_broker
from ops.broker.declared import declared_partitions
from ops.errors import OpsError, cannot_run
from ops.log.rendering.decode import place_of
from ops.log.rendering.describe import day_and_clock
from ops.log.verify_checks import INBOXES, LOGS, UNTAKEN, Chains, Context, Kind, check
from ops.security import cluster
from ops.terminal.output import Json, Output
from ops.where import Kafka, broker
from ops.who import who
from shared_kernel import log_registry
from shared_kernel.topics import ORDERS

#: Topics whose readers stop at a record that they can't process, or dead-letter it.
SKIPPABLE = {spec.name: spec for spec in (*INBOXES, *LOGS, ORDERS)}

Topic = Annotated[
    str, typer.Argument(help="An inbox, a decision log, or the order facts.", autocompletion=completion.skippable)
]
Partition = Annotated[int, typer.Argument(min=0, help="The record's partition.")]
Offset = Annotated[int, typer.Argument(min=0, help="The record's offset.")]
Reason = Annotated[str, typer.Option("--reason", help="Why the record is foreign. The log's registry keeps it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the record without recording a skip.")]


def skip(
    topic: Topic,
    partition: Partition,
    offset: Offset,
    reason: Reason,
    kafka: Kafka = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Makes all readers skip one record that they can't process.

    Services continue within seconds. First deploy a build that can process the record, if there is one.

    Reads the record, and in a decision log the earlier decisions of its group.

    Changes the log's registry, except with --dry-run: one record with the place, the digest and the reason.

    Exit codes: 0 done, 1 this build can process the record, 2 cannot run or there is no such record.

    Example: groupbuy-ops skip groups.inbox.v1 3 17 --reason "written by hand"
    """
    address, out = broker(kafka), Output(json)
    if topic not in SKIPPABLE:
        raise cannot_run(f"records of {topic} can't be skipped, only those of {', '.join(SKIPPABLE)}")
    if not reason.strip():
        raise cannot_run("--reason is empty: state why the record is foreign")
    spec = SKIPPABLE[topic]

    async def run() -> tuple[Any, str]:
        number = await declared_partitions(cluster(address))
        record, why = await _rejected(address, spec, partition, offset, number)
        if why and not dry_run:
            await record_skip(address, number, spec.name, partition, offset, record.value, reason)
        return record, why

    record, why = at_broker(address, run, watched=False)
    value = record.value or b""
    # With repr: a foreign record may have control characters.
    out.line(f"{topic} {partition}:{offset}, appended {day_and_clock(record.timestamp)}")
    out.line(f"  key     {record.key!r}")
    for name, content in record.headers:
        out.line(f"  header  {name!r} {content!r}")
    out.line(f"  bytes   {len(value)}: {value[:64].hex(' ')}")
    out.line(f"  sha256  {sha256(value).hexdigest()}")
    out.record(
        {
            **place_of(record, topic),
            "bytes": len(value),
            "sha256": sha256(value).hexdigest(),
            "rejected_because": why,
            "skipped": bool(why) and not dry_run,
        }
    )
    if not why:
        raise OpsError("this build can process the record: no skip is recorded")
    out.line(f"  because {why}")
    out.line("nothing recorded: this was a dry run" if dry_run else f"skipped, as {who()}: {reason}")


async def record_skip(
    address: str, number: int, topic: str, partition: int, offset: int, value: bytes | None, reason: str
) -> None:
    """Writes the entry. `number` is the declared number of partitions."""
    entry = RecordSkipped(
        topic=topic, partition=partition, offset=offset, sha256=sha256(value or b"").digest(), reason=reason
    )
    async with log_registry.Writer(cluster(address), who(), number) as writer:
        await writer.append(skip_key(topic, partition, offset), RegistryRecord(record_skipped=entry))


async def _rejected(address: str, spec: TopicSpec, partition: int, offset: int, number: int) -> tuple[Any, str]:
    """The record, and the reason why readers of this build reject it; empty if they process it."""
    tp = TopicPartition(spec.name, partition)
    async with asyncio.timeout(600), PartitionReader(cluster(address), [tp]) as reading:
        begin, end = reading.begins[tp], reading.ends[tp]
        if not begin <= offset < end:
            raise cannot_run(f"{spec.name} {partition} has records from {begin} to {end - 1}: none at {offset}")
        async with aclosing(reading.records(tp, offset, offset + 1)) as records:
            found = [record async for record in records]
        if not found:
            raise cannot_run(f"{spec.name} {partition} has no record at {offset}")
        (record,) = found
        refused = [one for one in check(spec, record, Context.of_one(number)) if one.kind in _refused(spec)]
        if refused or spec not in LOGS:
            return record, refused[0].what if refused else ""
        return record, await _out_of_chain(reading, spec, tp, record)


def _refused(spec: TopicSpec) -> frozenset[Kind]:
    return UNTAKEN | {Kind.FOREIGN} if spec is ORDERS else UNTAKEN


async def _out_of_chain(reading: PartitionReader, spec: TopicSpec, tp: TopicPartition, wanted: Any) -> str:
    """The reason why a decision does not continue the chain of its key; empty if it does."""
    chain = Chains(spec, 1_000_000)
    chain.next_pass()
    context = Context.of_one(1)
    async with aclosing(reading.records(tp, reading.begins[tp], wanted.offset + 1)) as records:
        async for record in records:
            if record.key != wanted.key or {one.kind for one in check(spec, record, context)} & UNTAKEN:
                continue
            found = chain.take(record)
            if record.offset == wanted.offset and found is not None and found.kind is not Kind.ORDER:
                return found.what
    return ""
