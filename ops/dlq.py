"""`dlq`: what could not be decoded. Lists it, shows it, and puts it back once its reader has learned to read it.

Redriving copies the raw bytes to the topic they came from, under their own key and headers; what was redriven is
remembered as a committed offset, so that a second redrive does not send it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from rich.table import Table

from chassis.topics import ALL, BUSINESS
from eventlog.acls import REDRIVER_GROUP as REDRIVER
from eventlog.deadletter import ERROR, ORIGIN_OFFSET, ORIGIN_PARTITION, ORIGIN_TOPIC
from eventlog.envelope import header
from eventlog.security import client
from ops.console import console
from ops.describe import day_and_clock
from ops.errors import USAGE, OpsError
from ops.reader import Reader
from ops.security import cluster
from ops.where import Kafka, broker

app = typer.Typer(no_args_is_help=True, help="Dead letters: records that could not be decoded.")

DEAD_LETTERS = tuple(spec.name for spec in ALL if spec.message is None)
_ORIGIN = {ORIGIN_TOPIC, ORIGIN_PARTITION, ORIGIN_OFFSET, ERROR}

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
    count = asyncio.run(_redrive(broker(kafka), _dead_letter_topics(topic), again))
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
    consumer = AIOKafkaConsumer(**client(cluster(kafka)), group_id=REDRIVER, enable_auto_commit=False)
    producer = AIOKafkaProducer(**client(cluster(kafka)), acks="all", enable_idempotence=True)
    await consumer.start()
    await producer.start()
    count = 0
    try:
        tps = sorted({TopicPartition(record.topic, record.partition) for record in records})
        consumer.assign(tps)
        done = {tp: 0 if again else await consumer.committed(tp) or 0 for tp in tps}
        for record in records:
            tp = TopicPartition(record.topic, record.partition)
            origin = header(record.headers, ORIGIN_TOPIC)
            if record.offset < done[tp]:
                continue
            if origin is None or origin not in {spec.name for spec in BUSINESS}:
                raise OpsError(f"{record.topic} {record.partition}:{record.offset} does not say where it came from")
            own = [(name, value) for name, value in record.headers if name not in _ORIGIN]
            # Partition and key are the origin's: one partition number owns all that concerns a group.
            await producer.send_and_wait(origin, record.value, key=record.key, partition=record.partition, headers=own)
            await consumer.commit({tp: record.offset + 1})
            count += 1
    finally:
        await producer.stop()
        await consumer.stop()
    return count
