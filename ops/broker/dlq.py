"""`dlq`: lists and shows dead letters (records that could not be decoded), and redrives them to their topic.

The topic and the partition of a dead letter determine its source partition. A redrive does not trust its content: it
reads the record at the offset in the dead letter's header, compares the bytes, and copies the record of the source
topic. So a redrive only writes records that the topic already has.

Each copy has the place of its dead letter in a header, and the log's registry has the progress per dead-letter
partition. Before each batch, the registry records the batch and the end offset of the target partition; after an
interruption the copies beyond that offset show the progress. So no dead letter is redriven twice. Run one redrive at a
time.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Any, NamedTuple

import typer
from aiokafka import AIOKafkaProducer, TopicPartition
from groupbuy.registry.v1.registry_pb2 import Redriven, RegistryRecord
from rich.table import Table
from rich.text import Text

from eventlog.broker.partition_reader import PartitionReader
from eventlog.records.dead_letters import (
    DLQ_PREFIX,
    ERROR,
    KEY_BYTES,
    ORIGIN_OFFSET,
    TRUNCATED,
    VALUE_BYTES,
    dlq_header,
    without_dlq_headers,
)
from eventlog.records.envelope import header
from eventlog.records.topic_spec import sources_of_dead_letters
from ops import completion
from ops.broker.appending import appending
from ops.broker.connection import at_broker
from ops.broker.declared import not_declared
from ops.errors import OpsError, cannot_run
from ops.log.reader import Reader
from ops.log.rendering.decode import place_of
from ops.log.rendering.describe import day_and_clock
from ops.security import cluster
from ops.terminal.output import Json, Output
from ops.terminal.printing import printable, printable_bytes, say
from ops.where import Kafka, broker
from ops.who import who
from shared_kernel import log_registry
from shared_kernel.topics import ALL

app = typer.Typer(no_args_is_help=True, help="Lists, shows and redrives dead letters.")

#: The source topic of each dead-letter topic.
ORIGINS = {name: spec.name for name, spec in sources_of_dead_letters(ALL).items()}
DEAD_LETTERS = tuple(spec.name for spec in ALL if spec.message is None)
#: Header of a copy: the topic, partition and offset of its dead letter.
REDRIVEN_FROM = f"{DLQ_PREFIX}redriven-from"
#: Dead letters per batch. The registry records each batch before it is sent.
REDRIVE_BATCH = 500
#: The gap between two wanted records, in records, up to which reading on is faster than a seek.
GAP = 1_000

Topic = Annotated[
    str,
    typer.Argument(help="A dead-letter topic or its source topic.", autocompletion=completion.dead_letter_topics),
]


class Origin(NamedTuple):
    """The origin of a dead letter, and whether it is proven."""

    topic: str
    partition: int
    #: None if the dead letter has no offset.
    offset: int | None
    #: The record at that offset; None if it is gone or another one.
    record: Any
    #: The reason why the record is not proven to be the origin; empty if it is.
    doubt: str


@app.command("list")
def list_(kafka: Kafka = None, json: Json = False) -> None:
    """Lists the dead-letter topics with the number of their records.

    Reads the offsets of the dead-letter topics.

    Changes nothing.

    Exit codes: 0 done, 2 cannot run.

    Example: groupbuy-ops dlq list
    """
    address, out = broker(kafka), Output(json)
    counts = at_broker(address, lambda: _counts(address))
    table = Table()
    table.add_column("topic")
    table.add_column("records", justify="right")
    for topic, count in counts.items():
        table.add_row(topic, f"{count:,}", style="bold red" if count else None)
        out.record({"topic": topic, "records": count})
    out.show(table)


@app.command()
def show(
    topic: Topic,
    kafka: Kafka = None,
    json: Json = False,
) -> None:
    """Prints each dead letter: time, origin, error, first bytes, and whether the origin is proven.

    Reads the dead-letter topic and its source topic.

    Changes nothing.

    Exit codes: 0 done, 2 cannot run or there is no such topic.

    Example: groupbuy-ops dlq show orders.order.v1
    """
    address, dead, out = broker(kafka), _dead_letter_topics(topic), Output(json)

    async def run() -> list[tuple[Any, Origin]]:
        found = []
        for tp, records in (await _by_partition(address, dead)).items():
            found += [(record, origin) async for record, origin in _origins(address, tp, records)]
        return found

    letters = at_broker(address, run)
    for record, origin in letters:
        out.record(_fields(record, origin))
        _print_letter(out, record, origin)
    if not letters:
        out.note(f"no dead letters in {', '.join(dead)}")


@app.command()
def redrive(
    topic: Topic,
    kafka: Kafka = None,
    again: Annotated[bool, typer.Option("--again", help="Include dead letters that were redriven before.")] = False,
    json: Json = False,
) -> None:
    """Appends the records of dead letters to their source topic again.

    Run one redrive at a time. An interrupted redrive can be repeated: it appends no record twice.

    Reads the dead-letter topic, its source topic, and the progress in the log's registry.

    Changes the source topic, and the progress in the log's registry.

    Exit codes: 0 done, 1 the origin of a dead letter is not proven, 2 cannot run or there is no such topic.

    Example: groupbuy-ops dlq redrive orders.order.v1
    """
    address, dead, out = broker(kafka), _dead_letter_topics(topic), Output(json)
    count, doubts = at_broker(address, lambda: _redrive(address, dead, again), watched=False)
    out.line(f"{count} records redriven")
    out.record({"redriven": count, "not_redriven": doubts})
    if doubts:
        raise OpsError(f"{len(doubts)} dead letters were not redriven:", lines=doubts)


def _dead_letter_topics(topic: str) -> list[str]:
    found = [name for name in DEAD_LETTERS if name == topic or name.startswith(f"{topic}.")]
    if not found:
        raise cannot_run(f"no dead-letter topic {printable(topic)}: `groupbuy-ops dlq list` has them all")
    return found


def _print_letter(out: Output, record: Any, origin: Origin) -> None:
    verdict, style = (origin.doubt, "bold red") if origin.doubt else ("proven: the record has these bytes", "green")
    proven = Text(printable(verdict), style)
    where = f"{origin.topic} {origin.partition}:{'?' if origin.offset is None else origin.offset}"
    rows: list[tuple[str, Text]] = [
        ("from", Text.assemble(where, " (", proven, ")")),
        (
            "error",
            Text(printable(f"by {record.topic.split('.')[-2]}: {dlq_header(record.headers, ERROR) or 'nothing'}")),
        ),
        ("subject", Text(printable(f"{header(record.headers, 'ce_subject') or 'none'} (not proven)"))),
        ("bytes", Text(f"{len(record.value or b'')}: {(record.value or b'')[:64].hex(' ')}")),
    ]
    if cut := dlq_header(record.headers, TRUNCATED):
        rows.append(("cut", Text(printable(f"from {cut}"))))
    when = day_and_clock(record.timestamp)
    place = f"{when} {record.topic} {record.partition}:{record.offset} key {printable_bytes(record.key)}"
    out.show(Text(place), soft_wrap=True)
    for name, words in rows:
        out.show(Text.assemble(f"  {name:<8}", words), soft_wrap=True)


def _fields(record: Any, origin: Origin) -> dict[str, Any]:
    return {
        **place_of(record, record.topic),
        "origin": {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset},
        "proven": not origin.doubt,
        "doubt": origin.doubt,
        "error": dlq_header(record.headers, ERROR) or "",
        "claimed_subject": header(record.headers, "ce_subject") or "",
        "value": (record.value or b"").hex(),
    }


async def _counts(kafka: str) -> dict[str, int]:
    async with Reader(kafka, DEAD_LETTERS) as reader:
        begins = await reader.beginnings()
        counts = dict.fromkeys(DEAD_LETTERS, 0)
        for tp, end in (await reader.ends()).items():
            counts[tp.topic] += end - begins[tp.topic, tp.partition]
        return counts


async def _by_partition(kafka: str, topics: Sequence[str]) -> dict[TopicPartition, list[Any]]:
    found: dict[TopicPartition, list[Any]] = {}

    def take(topic: str, records: list[Any]) -> None:
        for record in records:
            found.setdefault(TopicPartition(topic, record.partition), []).append(record)

    async with Reader(kafka, topics) as reader:
        await reader.read_to_end(take)
    return {tp: found[tp] for tp in sorted(found)}


async def _origins(kafka: str, tp: TopicPartition, records: Sequence[Any]) -> Any:
    """The dead letters of a partition with their origins, in order."""
    source = TopicPartition(ORIGINS[tp.topic], tp.partition)
    wanted = {offset for record in records if (offset := _offset(record)) is not None}
    async with PartitionReader(cluster(kafka), [source]) as reading:
        originals = await _records_at(reading, source, wanted)
        begin, end = reading.begins[source], reading.ends[source]
    for record in records:
        yield record, _origin(source, record, originals, begin, end)


def _offset(record: Any) -> int | None:
    text = dlq_header(record.headers, ORIGIN_OFFSET) or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


async def _records_at(reading: PartitionReader, tp: TopicPartition, wanted: set[int]) -> dict[int, Any]:
    """The records of a partition at the wanted offsets."""
    found: dict[int, Any] = {}
    left = sorted(offset for offset in wanted if reading.begins[tp] <= offset < reading.ends[tp])
    while left:
        first, count = left[0], 1
        while count < len(left) and left[count] - left[count - 1] <= GAP:
            count += 1
        async for record in reading.records(tp, first, left[count - 1] + 1):
            if record.offset in wanted:
                found[record.offset] = record
        left = left[count:]
    return found


def _origin(source: TopicPartition, record: Any, originals: dict[int, Any], begin: int, end: int) -> Origin:
    offset = _offset(record)
    doubt = ""
    original = None
    if offset is None:
        doubt = "it has no offset of its origin"
    elif not begin <= offset < end:
        doubt = f"{source.topic} {source.partition} only has records from {begin} to {end - 1}"
    else:
        original = originals.get(offset)
        if original is None or not _same(record, original):
            original, doubt = None, f"there is another record at {source.topic} {source.partition}:{offset}"
    return Origin(source.topic, source.partition, offset, original, doubt)


def _same(dead: Any, record: Any) -> bool:
    """Whether a dead letter has the bytes of this record."""
    value, kept = record.value or b"", dead.value or b""
    key_is = dead.key == record.key or (dead.key is None and len(record.key or b"") > KEY_BYTES)
    if len(value) > VALUE_BYTES:
        return key_is and dlq_header(dead.headers, TRUNCATED) == f"{len(value)} {sha256(value).hexdigest()}"
    return key_is and kept == value


async def _redrive(kafka: str, topics: Sequence[str], again: bool) -> tuple[int, list[str]]:
    """Redrives topics. Returns the number of records, and a line for each unproven dead letter."""
    by_partition = await _by_partition(kafka, topics)
    if not by_partition:
        return 0, []
    known = await log_registry.read(cluster(kafka))
    if known.declared is None:
        raise not_declared()
    async with (
        log_registry.Writer(cluster(kafka), who(), known.declared.partitions) as writer,
        appending(cluster(kafka)) as producer,
    ):
        count, doubts = 0, []
        for tp, records in by_partition.items():
            origins = [pair async for pair in _origins(kafka, tp, records)]
            done = 0 if again else await _done(kafka, known.redriven(*tp), tp, dict(_by_offset(origins)))
            if done > records[0].offset:
                say(_done_before(known, tp, done, records[-1].offset + 1))
            for record, origin in origins:
                if record.offset >= done and origin.doubt:
                    doubts.append(f"{tp.topic} {tp.partition}:{record.offset}: {origin.doubt}")
            left = [(record, origin) for record, origin in origins if record.offset >= done]
            count += await _put_back(kafka, writer, producer, tp, left)
    return count, doubts


def _done_before(known: log_registry.Registry, tp: TopicPartition, done: int, end: int) -> str:
    """A sentence about the omitted dead letters and who recorded their redrive, since the record may be false."""
    entry = known.records.get(log_registry.redriven_key(*tp))
    by = f"{entry.who} at {day_and_clock(entry.time_ms)}" if entry is not None else "an interrupted redrive"
    if done > end:
        raise OpsError(
            f"{tp.topic} {tp.partition}: by the registry all before {done} was redriven (by {by}), but the "
            f"topic ends at {end}: no command of ours wrote that. --again redrives all"
        )
    return f"{tp.topic} {tp.partition}: all before {done} was redriven before, by {by}; --again redrives it again"


def _by_offset(origins: Sequence[tuple[Any, Origin]]) -> list[tuple[int, Any]]:
    return [(record.offset, origin.record) for record, origin in origins if origin.record is not None]


async def _done(kafka: str, entry: Redriven, dead: TopicPartition, originals: dict[int, Any]) -> int:
    """The offset before which every dead letter was redriven, also by an interrupted redrive. Raises OpsError.

    A copy counts only if it has the bytes of the dead letter in its header: every writer of the topic can set the
    header.
    """
    if entry.sending_to <= entry.up_to:
        return int(entry.up_to)
    tp = TopicPartition(ORIGINS[dead.topic], dead.partition)
    last = -1
    async with PartitionReader(cluster(kafka), [tp]) as reading:
        if reading.begins[tp] > entry.sent_from:
            raise OpsError(
                f"{dead.topic} {dead.partition}: a redrive was interrupted between {entry.up_to} and "
                f"{entry.sending_to}, and its copies in {tp.topic} are gone: --again redrives all"
            )
        async for record in reading.records(tp, entry.sent_from, reading.ends[tp]):
            topic, partition, offset = (dlq_header(record.headers, REDRIVEN_FROM) or "//").rsplit("/", 2)
            if (topic, partition) != (dead.topic, str(dead.partition)) or not offset.isdigit():
                continue
            original = originals.get(int(offset))
            if original is not None and (original.key, original.value) == (record.key, record.value):
                last = max(last, int(offset))
    return max(int(entry.up_to), last + 1)


async def _put_back(
    kafka: str,
    writer: log_registry.Writer,
    producer: AIOKafkaProducer,
    tp: TopicPartition,
    letters: Sequence[tuple[Any, Origin]],
) -> int:
    """Redrives dead letters of one partition in batches. Returns the number of records."""
    source = ORIGINS[tp.topic]
    count = 0
    for at in range(0, len(letters), REDRIVE_BATCH):
        batch = letters[at : at + REDRIVE_BATCH]
        async with PartitionReader(cluster(kafka), [TopicPartition(source, tp.partition)]) as reading:
            (end,) = reading.ends.values()
        first, after = batch[0][0].offset, batch[-1][0].offset + 1
        entry = Redriven(topic=tp.topic, partition=tp.partition, up_to=first, sending_to=after, sent_from=end)
        await writer.append(log_registry.redriven_key(*tp), RegistryRecord(redriven=entry))
        for dead, origin in batch:
            original = origin.record
            if original is None:
                continue
            own: list[tuple[str, bytes]] = without_dlq_headers(original.headers)
            own.append((REDRIVEN_FROM, f"{tp.topic}/{tp.partition}/{dead.offset}".encode()))
            # Partition and key of the origin: all records of a group have the same partition number.
            await producer.send_and_wait(source, original.value, key=original.key, partition=tp.partition, headers=own)
            count += 1
        entry.up_to = after
        await writer.append(log_registry.redriven_key(*tp), RegistryRecord(redriven=entry))
    return count
