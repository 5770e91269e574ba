"""`offsets`: finds the resume offsets of consumer groups whose committed offsets the broker has lost, and commits them.

Services do this themselves where the logs prove the offset. This command shows the offsets in advance. Where the logs
don't prove them, an operator confirms with --unproven that the omitted records were read, and the registry keeps who
and why.
"""

from __future__ import annotations

import asyncio
import json as json_text
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, NamedTuple

import typer
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.structs import OffsetAndMetadata
from groupbuy.groups.v1.inbox_pb2 import GroupInput
from groupbuy.payments.v1.inbox_pb2 import PaymentInput
from groupbuy.registry.v1.registry_pb2 import OffsetsRecovered, RecoveredOffset
from rich.table import Table

from eventlog.broker.partition_reader import PartitionReader
from eventlog.broker.security import client
from eventlog.records.topic_spec import TopicSpec
from ops import completion
from ops.broker.connection import at_broker
from ops.broker.declared import declared_partitions
from ops.errors import OpsError, cannot_run
from ops.security import cluster
from ops.terminal.output import Json, Output
from ops.where import Kafka, broker
from ops.who import who
from shared_kernel import log_registry, topics
from shared_kernel.topics import ALL

#: Groups that resume at their committed offset. The order projection and the ledger keep their own offsets.
RESUMING = (
    topics.GROUPS_SEQUENCER,
    topics.GROUPS_DECIDER,
    topics.PAYMENTS_SEQUENCER,
    topics.PAYMENTS_DECIDER,
    topics.PAYMENTS_EFFECTS,
)

#: Seconds in which a new cluster makes its topic of committed offsets.
NEW_CLUSTER_S = 30.0

app = typer.Typer(no_args_is_help=True, help="Recovers committed offsets of the product's consumer groups.")


class Start(NamedTuple):
    """The resume offset of a group in one partition."""

    group: str
    tp: TopicPartition
    offset: int
    #: Whether the logs prove that no record is lost.
    proven: bool
    why: str


@app.command()
def recover(
    kafka: Kafka = None,
    group: Annotated[
        str | None,
        typer.Option("--group", help="Recover only this consumer group.", autocompletion=completion.offering(RESUMING)),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the offsets without committing them.")] = False,
    unproven: Annotated[
        bool, typer.Option("--unproven", help="Also commit unproven offsets: earlier records count as read.")
    ] = False,
    json: Json = False,
) -> None:
    """Commits offsets for consumer groups that have none.

    Stop their services first. A service commits proven offsets itself when it starts.

    Reads the committed offsets, and the logs that prove where a group resumes.

    Changes the committed offsets and the log's registry, except with --dry-run.

    Exit codes: 0 done, 1 an offset is not proven, 2 cannot run or there is no such group.

    Example: groupbuy-ops offsets recover --dry-run
    """
    address, out = broker(kafka), Output(json)
    groups = _groups(group)

    async def run() -> tuple[list[Start], list[Start]]:
        starts = [start for name in groups for start in await _starts(address, name)]
        wanted = [start for start in starts if start.proven or unproven]
        if not dry_run:
            await _commit(address, wanted)
        return starts, wanted

    starts, wanted = at_broker(address, run, watched=False)
    committed = 0 if dry_run else len(wanted)
    out.record({"missing": [_as_object(start) for start in starts], "committed": committed})
    if not starts:
        out.line("every group has its offsets")
        return
    table = Table()
    for column in ("group", "partition", "resume offset", "proof"):
        table.add_column(column, overflow="fold")
    for start in starts:
        why = start.why if start.proven else f"NOT PROVEN: {start.why}"
        style = None if start.proven else "bold red"
        table.add_row(start.group, f"{start.tp.topic} {start.tp.partition}", f"{start.offset}", why, style=style)
    out.show(table)
    out.line(f"{len(starts)} offsets missing, {committed} committed")
    if left := len(starts) - len(wanted):
        raise OpsError(
            f"{left} are not proven: find out whether the deleted records were read, then repeat with --unproven"
        )


def _groups(only: str | None) -> list[str]:
    if only is None:
        return list(RESUMING)
    if only not in RESUMING:
        raise cannot_run(f"{only} does not resume at a committed offset: these groups do: {', '.join(RESUMING)}")
    return [only]


async def _starts(address: str, group: str) -> list[Start]:
    """The resume offset of each partition without a committed one."""
    sources = [spec for spec in ALL if group in spec.readers]
    admin = AIOKafkaAdminClient(**client(cluster(address)))
    await admin.start()
    try:
        committed = await _committed(admin, group)
        (described,) = (await admin.describe_consumer_groups([group]))[0].groups
        busy = bool(described[5])
    finally:
        await admin.close()
    known = {tp for tp, found in committed.items() if found.offset >= 0}
    number = await declared_partitions(cluster(address))
    missing = [TopicPartition(spec.name, p) for spec in sources for p in range(number)]
    missing = [tp for tp in missing if tp not in known]
    if missing and busy:
        raise cannot_run(f"{group} has members: stop its service, or let the service recover the offsets itself")
    found = []
    for tp in missing:
        async with PartitionReader(cluster(address), [tp]) as partition:
            begin, end = partition.begins[tp], partition.ends[tp]
        if end == 0:
            found.append(Start(group, tp, 0, True, "the partition never had a record"))
        else:
            found.append(await _start(address, group, tp, begin, end))
    return found


async def _committed(admin: Any, group: str) -> Any:
    """The committed offsets of a group. A new cluster has no topic of offsets, and makes it at the first request."""
    until = asyncio.get_running_loop().time() + NEW_CLUSTER_S
    while True:
        try:
            return await admin.list_consumer_group_offsets(group)
        except GroupCoordinatorNotAvailableError:
            if asyncio.get_running_loop().time() > until:
                raise
            await asyncio.sleep(0.2)


async def _start(address: str, group: str, tp: TopicPartition, begin: int, end: int) -> Start:
    # Imported here, because these modules load Faust.
    from faust.types import TP

    from eventlog.consuming.resume import ProvenStart, StartNotProven, after_newest_copy, before_oldest_pending_call

    kafka, place = cluster(address), TP(tp.topic, tp.partition)

    async def decided() -> ProvenStart:
        log = topics.GROUP_LOG if group == topics.GROUPS_DECIDER else topics.PAYMENT_LOG
        cause = await _newest_cause(address, log, tp.partition)
        if cause is None:
            cause = -1
        if cause + 1 > end:
            raise StartNotProven(
                f"{log.name} has a decision on input {cause}, but the inbox ends at {end}: it is another inbox"
            )
        if cause + 1 < begin:
            raise StartNotProven(
                f"the newest decision is on input {cause}, and later inputs before {begin} are deleted"
            )
        return ProvenStart(cause + 1, f"the newest decision in {log.name} is on input {cause}")

    find: dict[str, Callable[[], Awaitable[ProvenStart]]] = {
        topics.GROUPS_SEQUENCER: lambda: after_newest_copy(
            kafka, place, begin, end, topics.GROUP_INBOX.name, _Sources(GroupInput)
        ),
        topics.PAYMENTS_SEQUENCER: lambda: after_newest_copy(
            kafka, place, begin, end, topics.PAYMENT_INBOX.name, _Sources(PaymentInput)
        ),
        topics.GROUPS_DECIDER: decided,
        topics.PAYMENTS_DECIDER: decided,
        topics.PAYMENTS_EFFECTS: lambda: before_oldest_pending_call(kafka, place, begin, end, _PaymentCalls()),
    }
    try:
        resumed = await find[group]()
    except StartNotProven as error:
        return Start(group, tp, begin, False, f"{error}; the deleted records count as read")
    return Start(group, tp, resumed.offset, True, resumed.why)


class _Sources:
    """The sources of inbox records, by their message."""

    def __init__(self, message: type[GroupInput] | type[PaymentInput]) -> None:
        self._message = message

    def source_of(self, value: bytes) -> Any:
        """See TracesCopies."""
        from shared_kernel.decoding import source_of

        return source_of(self._message, value)


class _PaymentCalls:
    """See TracesCalls."""

    def pending_calls(self) -> Any:
        """An empty set of pending calls."""
        from services.payments.processors.effects import PendingPaymentCalls

        return PendingPaymentCalls()


async def _newest_cause(address: str, log: TopicSpec, partition: int) -> int | None:
    tp = TopicPartition(log.name, partition)
    assert log.message is not None
    message: Any = log.message
    async with PartitionReader(cluster(address), [tp]) as reading:
        return await reading.find_newest(tp, lambda record: int(message.FromString(record.value or b"").cause))


async def _commit(address: str, starts: Sequence[Start]) -> None:
    """Records the starts in the registry, then commits them."""
    by_group: dict[str, list[Start]] = {}
    for start in starts:
        by_group.setdefault(start.group, []).append(start)
    if not by_group:
        return
    number = await declared_partitions(cluster(address))
    async with log_registry.Writer(cluster(address), who(), number) as writer:
        for group, some in by_group.items():
            await writer.append_recovered(OffsetsRecovered(group=group, offsets=[_row(start) for start in some]))
            consumer = AIOKafkaConsumer(**client(cluster(address)), group_id=group, enable_auto_commit=False)
            await consumer.start()
            try:
                consumer.assign([start.tp for start in some])
                await consumer.commit({start.tp: OffsetAndMetadata(start.offset, _metadata(start)) for start in some})
            finally:
                await consumer.stop()


def _as_object(start: Start) -> dict[str, Any]:
    place = {"group": start.group, "topic": start.tp.topic, "partition": start.tp.partition}
    return {**place, "offset": start.offset, "proven": start.proven, "why": start.why}


def _row(start: Start) -> RecoveredOffset:
    topic, partition = start.tp.topic, start.tp.partition
    return RecoveredOffset(topic=topic, partition=partition, offset=start.offset, proven=start.proven, why=start.why)


def _metadata(start: Start) -> str:
    """Metadata that Kafka's tools show with the offset: who committed it, and why."""
    return json_text.dumps({"recovered_by": who(), "proven": start.proven, "why": start.why[:500]})
