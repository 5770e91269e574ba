"""`dlq`: what could not be decoded. Lists it, shows it, and puts it back once its reader has learned to read it.

Redriving copies the raw bytes to the topic they came from, under their own key and headers, and each copy names its
dead letter in a header. The log's registry says how far each dead-letter partition was put back. Before a portion is
sent, the registry gets to know which one, and where the partition ends that it goes to; after an interruption the
copies behind that end show how far it came. So no dead letter is sent twice. Run one redrive at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from groupbuy.registry.v1.registry_pb2 import Redriven, RegistryRecord
from rich.table import Table

from chassis import registry
from chassis.topics import ALL, BUSINESS
from eventlog.acls import REDRIVER_GROUP as REDRIVER
from eventlog.deadletter import ERROR, ORIGIN_OFFSET, ORIGIN_PARTITION, ORIGIN_TOPIC
from eventlog.envelope import header
from eventlog.reading import Partitions
from eventlog.security import client
from ops.console import console
from ops.describe import day_and_clock
from ops.errors import USAGE, OpsError
from ops.reader import Reader
from ops.security import cluster
from ops.topics import at_broker
from ops.where import Kafka, broker
from ops.who import who

app = typer.Typer(no_args_is_help=True, help="Dead letters: records that could not be decoded.")

DEAD_LETTERS = tuple(spec.name for spec in ALL if spec.message is None)
#: Header of a copy: topic, partition and offset of its dead letter.
REDRIVEN_FROM = "dlq-redriven-from"
_ORIGIN = {ORIGIN_TOPIC, ORIGIN_PARTITION, ORIGIN_OFFSET, ERROR, REDRIVEN_FROM}
#: Dead letters that are announced in the registry at once.
PORTION = 500

Topic = Annotated[str, typer.Argument(help="A dead-letter topic, or the topic that its records came from.")]


@app.command("list")
def list_(kafka: Kafka = None) -> None:
    """Every dead-letter topic with the number of its records."""
    counts = asyncio.run(_counts(broker(kafka)))
    table = Table()
    table.add_column("topic")
    table.add_column("records", justify="right")
    for topic, count in counts.items():
        table.add_row(topic, f"{count:,}", style="bold red" if count else None)
    console().print(table)


@app.command()
def show(topic: Topic, kafka: Kafka = None) -> None:
    """Each dead letter: when, from where, what was wrong, and its first bytes."""
    for record in asyncio.run(_read(broker(kafka), _dead_letter_topics(topic))):
        typer.echo(
            f"{day_and_clock(record.timestamp)} {record.topic} {record.partition}:{record.offset} "
            f"key {(record.key or b'').decode(errors='replace')}\n"
            f"  from    {_origin(record)}\n"
            f"  about   {header(record.headers, 'ce_subject') or 'unknown'}\n"
            f"  because {header(record.headers, ERROR) or 'unknown'}\n"
            f"  bytes   {len(record.value or b'')}: {(record.value or b'')[:64].hex(' ')}"
        )


@app.command()
def redrive(
    topic: Topic,
    kafka: Kafka = None,
    again: Annotated[bool, typer.Option("--again", help="Also what was redriven before.")] = False,
) -> None:
    """Puts dead letters back into the topic that they came from."""
    address, dead = broker(kafka), _dead_letter_topics(topic)
    count = at_broker(address, lambda: _redrive(address, dead, again))
    typer.echo(f"{count} records redriven")


def _dead_letter_topics(topic: str) -> list[str]:
    found = [name for name in DEAD_LETTERS if name == topic or name.startswith(f"{topic}.")]
    if not found:
        raise OpsError(f"no dead-letter topic {topic}: `groupbuy-ops dlq list` has them all", USAGE)
    return found


def _origin(record: Any) -> str:
    parts = [header(record.headers, name) or "?" for name in (ORIGIN_TOPIC, ORIGIN_PARTITION, ORIGIN_OFFSET)]
    return f"{parts[0]} {parts[1]}:{parts[2]}"


async def _counts(kafka: str) -> dict[str, int]:
    async with Reader(kafka, DEAD_LETTERS) as reader:
        begins = await reader.beginnings()
        counts = dict.fromkeys(DEAD_LETTERS, 0)
        for tp, end in (await reader.ends()).items():
            counts[tp.topic] += end - begins[tp.topic, tp.partition]
        return counts


async def _read(kafka: str, topics: Sequence[str]) -> list[Any]:
    found: list[Any] = []
    async with Reader(kafka, topics) as reader:
        await reader.read_to_end(lambda _topic, records: found.extend(records))
    return found


async def _redrive(kafka: str, topics: Sequence[str], again: bool) -> int:
    records = await _read(kafka, topics)
    if not records:
        return 0
    known = await registry.read(cluster(kafka))
    if known.declared is None:
        raise OpsError(f"no number of partitions is declared: run {registry.CREATE}")
    by_partition: dict[TopicPartition, list[Any]] = {}
    for record in records:
        by_partition.setdefault(TopicPartition(record.topic, record.partition), []).append(record)
    before = dict.fromkeys(by_partition, 0) if again else await _committed_before(kafka, sorted(by_partition))
    producer = AIOKafkaProducer(**client(cluster(kafka)), acks="all", enable_idempotence=True)
    async with registry.Writer(cluster(kafka), who(), known.declared.partitions) as writer:
        await producer.start()
        try:
            count = 0
            for tp in sorted(by_partition):
                entry = known.redriven(*tp)
                origin = _origin_topic(by_partition[tp])
                done = 0 if again else max(before[tp], await _done(kafka, entry, origin))
                left = [record for record in by_partition[tp] if record.offset >= done]
                count += await _put_back(kafka, writer, producer, tp, origin, left)
        finally:
            await producer.stop()
    return count


def _origin_topic(records: Sequence[Any]) -> str:
    """The one topic that dead letters of a partition came from. Raises OpsError."""
    business = {spec.name for spec in BUSINESS}
    origins = set()
    for record in records:
        origin = header(record.headers, ORIGIN_TOPIC)
        if origin is None or origin not in business:
            raise OpsError(f"{record.topic} {record.partition}:{record.offset} does not say where it came from")
        origins.add(origin)
    if len(origins) > 1:
        raise OpsError(f"{records[0].topic} {records[0].partition} has records of {', '.join(sorted(origins))}")
    return str(origins.pop())


async def _committed_before(kafka: str, tps: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    """Where older versions kept what was put back: offsets of a group, as far as the broker still has them."""
    consumer = AIOKafkaConsumer(**client(cluster(kafka)), group_id=REDRIVER, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(tps)
        return {tp: await consumer.committed(tp) or 0 for tp in tps}
    finally:
        await consumer.stop()


async def _done(kafka: str, entry: Redriven, origin: str) -> int:
    """Offset before which every dead letter was put back, also by a redrive that was interrupted. Raises OpsError."""
    if entry.sending_to <= entry.up_to:
        return entry.up_to
    tp = TopicPartition(origin, entry.partition)
    last = -1
    async with Partitions(cluster(kafka), [tp]) as reading:
        if reading.begins[tp] > entry.sent_from:
            raise OpsError(
                f"{entry.topic} {entry.partition}: a redrive was interrupted between {entry.up_to} and "
                f"{entry.sending_to}, and what it wrote to {origin} is gone by now: --again sends all again"
            )
        async for record in reading.records(tp, entry.sent_from, reading.ends[tp]):
            topic, partition, offset = (header(record.headers, REDRIVEN_FROM) or "//").rsplit("/", 2)
            if (topic, partition) == (entry.topic, str(entry.partition)):
                last = max(last, int(offset))
    return max(entry.up_to, last + 1)


async def _put_back(
    kafka: str,
    writer: registry.Writer,
    producer: AIOKafkaProducer,
    tp: TopicPartition,
    origin: str,
    records: Sequence[Any],
) -> int:
    """Puts dead letters of one partition back, portion by portion. Returns how many."""
    for at in range(0, len(records), PORTION):
        portion = records[at : at + PORTION]
        async with Partitions(cluster(kafka), [TopicPartition(origin, tp.partition)]) as reading:
            (end,) = reading.ends.values()
        first, after = portion[0].offset, portion[-1].offset + 1
        entry = Redriven(topic=tp.topic, partition=tp.partition, up_to=first, sending_to=after, sent_from=end)
        await writer.append(registry.redriven_key(*tp), RegistryRecord(redriven=entry))
        for record in portion:
            own = [(name, value) for name, value in record.headers if name not in _ORIGIN]
            own.append((REDRIVEN_FROM, f"{tp.topic}/{tp.partition}/{record.offset}".encode()))
            # Partition and key are the origin's: one partition number owns all that concerns a group.
            await producer.send_and_wait(origin, record.value, key=record.key, partition=tp.partition, headers=own)
        entry.up_to = after
        await writer.append(registry.redriven_key(*tp), RegistryRecord(redriven=entry))
    return len(records)
