"""`topics`: creates, checks, lists and rebuilds the product's topics, by the list in shared_kernel/topics.py."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from eventlog.broker.topic_checks import offsets_retention
from eventlog.records.topic_spec import DAY_MS, TopicSpec
from ops import completion
from ops.broker.connection import at_broker, probe
from ops.broker.log_creation import create_log
from ops.errors import OpsError, cannot_run
from ops.security import cluster, timeout_s
from ops.terminal.output import Json, Output
from ops.where import Kafka, broker
from ops.who import who
from shared_kernel import log_registry
from shared_kernel.topics import ALL, CAMPAIGNS, REGISTRY

#: The default number of partitions. It limits the replicas of a service: 64 payments processes settle about 58,000
#: orders/s (docs/operating/capacity.md), and the number is fixed for the life of the topics.
PARTITIONS = 64
#: Seconds between two attempts of `topics wait`.
WAIT_INTERVAL_S = 2.0

app = typer.Typer(no_args_is_help=True, help="Creates, checks, lists and rebuilds the product's topics.")


@app.command()
def create(
    kafka: Kafka = None,
    partitions: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            help="Partitions per topic. Cannot be changed later: 64 end at about 58,000 settled orders/s. "
            f"Default: the declared number, else {PARTITIONS}.",
        ),
    ] = None,
    replication: Annotated[int, typer.Option(min=1, max=10, help="Replication factor.")] = 3,
    json: Json = False,
) -> None:
    """Creates missing topics, commits offset 0 for their readers, and declares the number of partitions.

    Run it once, before the services start for the first time.

    Reads the broker's topics and the declared number of partitions.

    Changes the broker: new topics, committed offsets, and one record in the log's registry. Existing topics stay.

    Exit codes: 0 done, 1 the existing topics differ from the wanted ones, 2 cannot run.

    Example: groupbuy-ops topics create --kafka host:9092 --partitions 64
    """
    address, out = broker(kafka), Output(json)

    async def run() -> list[str]:
        return await create_log(
            cluster(address), partitions=partitions, default=PARTITIONS, replication=replication, who=who()
        )

    created = at_broker(address, run, watched=False)
    out.line(f"created {', '.join(created)}" if created else "all topics exist")
    out.record({"created": created})


@app.command()
def check(kafka: Kafka = None, json: Json = False) -> None:
    """Checks the broker's topics, their settings and the retention of offsets.

    Reads the settings of the topics and brokers, and the topics of campaigns and of the log's registry.

    Changes nothing.

    Exit codes: 0 all topics are correct, 1 a topic or setting differs, 2 cannot run.

    Example: groupbuy-ops topics check
    """
    address, out = broker(kafka), Output(json)

    async def run() -> tuple[int, str]:
        number = await log_registry.check(cluster(address))
        return number, (await offsets_retention(cluster(address), ALL)).problem

    number, problem = at_broker(address, run)
    if problem:
        raise OpsError(f"{address}: {problem}")
    if foreign := at_broker(address, lambda: _foreign(address)):
        raise OpsError(f"{address}: records that no service of ours writes:", lines=foreign)
    out.line(f"{len(ALL)} topics of {number} partitions are correct")
    out.record({"topics": len(ALL), "partitions": number, "correct": True})


@app.command()
def wait(
    kafka: Kafka = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0, help="Maximum seconds to wait.")] = 600.0,
    json: Json = False,
) -> None:
    """Waits until all topics exist, as the list has them, and their number of partitions is declared.

    Run it before a service starts, with the service's own Kafka user: `topics create` declares the number at its end.

    Reads the settings of the topics, and the log's registry.

    Changes nothing.

    Exit codes: 0 all topics are correct, 1 a topic is missing or differs at the end, 2 cannot run.

    Example: groupbuy-ops topics wait --seconds 300
    """
    address, out = broker(kafka), Output(json)
    end = time.monotonic() + seconds
    while True:
        try:
            number = at_broker(address, lambda: log_registry.check(cluster(address)))
            break
        except OpsError as error:
            if time.monotonic() >= end:
                raise
            out.note(f"waiting: {error}")
        time.sleep(WAIT_INTERVAL_S)
    out.line(f"{len(ALL)} topics of {number} partitions are correct")
    out.record({"topics": len(ALL), "partitions": number})


async def _foreign(address: str) -> list[str]:
    """Findings in the topics that every process reads in full: campaigns and the log's registry."""
    from ops.log.verify import verify_topics

    found: list[str] = []
    await verify_topics(address, [CAMPAIGNS, REGISTRY], lambda one: found.append(f"{one.place} {one.kind}: {one.what}"))
    return found


@app.command()
def rebuild(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Topics. Default: all that need it.", autocompletion=completion.topics),
    ] = None,
    kafka: Kafka = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done.")] = False,
    without: Annotated[
        list[str] | None, typer.Option("--without", help="TOPIC:PARTITION:OFFSET of a record to remove. Repeatable.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="With --without: why the record is foreign.")] = "",
    json: Json = False,
) -> None:
    """Rebuilds topics with their declared number of partitions, or without a foreign record.

    Copies each topic aside, recreates it and copies it back with offsets and times. Stop the services first. Repeat an
    interrupted run. A removed record leaves a placeholder, which all readers skip.

    Reads the topics and the committed offsets of their readers.

    Changes the topics, except with --dry-run. With --without it also records a skip in the log's registry.

    Exit codes: 0 done, 1 a record is missing or a copy differs, 2 cannot run.

    Example: groupbuy-ops topics rebuild --dry-run
    """
    from ops.broker.copy.rebuild import rebuild as run_rebuild

    address, steps = broker(kafka), _Steps(Output(json))
    if without:
        _remove(address, without, reason, names or [], dry_run, steps)
    else:
        specs = specs_of(names)
        at_broker(address, lambda: run_rebuild(cluster(address), specs, steps.report, dry_run=dry_run), watched=False)
    steps.finish(dry_run)


@app.command()
def copy(
    to: Annotated[str, typer.Option("--to", help="Broker of the other cluster, host:port.")],
    kafka: Kafka = None,
    replication: Annotated[int, typer.Option(min=1, max=10, help="Replication factor of the copies.")] = 3,
    final: Annotated[
        bool, typer.Option("--final", help="Leave nothing out. Waits a minute for the end of the services' sessions.")
    ] = False,
    json: Json = False,
) -> None:
    """Copies all topics to another cluster, with offsets, times and bytes.

    Repeat it: each run appends and compares the new records. Services may run; then the last seconds are left out.
    After their end, run it with --final: the broker takes a killed service for a running one until its session ends.
    `topics open` ends the copy. Both clusters take the same credentials. Needs an administrator's rights at the other
    cluster.

    Reads the topics, and the copies at the other cluster.

    Changes the other cluster: new topics, and records that it lacks.

    Exit codes: 0 done, 1 a record is missing, a copy differs, or with --final a service runs, 2 cannot run.

    Example: groupbuy-ops topics copy --to backup:9092
    """
    from ops.broker.copy.log_copy import LogCopy

    address, target, out = broker(kafka), broker(to), Output(json)
    if address == target:
        raise cannot_run("--to is the same broker")

    async def run() -> dict[str, Any]:
        await probe(cluster(address), timeout_s())
        async with LogCopy(cluster(address), cluster(target), ALL) as copying:
            copied = await copying.run(replication, out.note if out.json else out.line, final=final)
            rows = {one.topic: {"records": one.records, "sha256": one.sha256} for one in copied}
            return {"records": sum(one.records for one in copied), "until_ms": copying.until_ms, "topics": rows}

    found = at_broker(target, run, watched=False)
    out.line(f"{found['records']:,} records copied and compared")
    out.record(found)


@app.command("open")
def open_(kafka: Kafka = None, json: Json = False) -> None:
    """Gives the topics of a finished copy their settings, so that services can start on them.

    Before it, `verify`, `replay` and `audit` work on the copy, and no service starts. After it, `topics copy` refuses
    the cluster.

    Reads the settings of the topics.

    Changes the settings of copied topics: the broker's time, retention and compaction.

    Exit codes: 0 done, 1 a topic is missing, 2 cannot run.

    Example: groupbuy-ops topics open --kafka backup:9092
    """
    from ops.broker.copy.log_copy import open_copy

    address, out = broker(kafka), Output(json)
    opened = at_broker(address, lambda: open_copy(cluster(address), ALL), watched=False)
    out.line(f"{len(opened)} topics have their settings" if opened else "no topic is a copy")
    out.record({"opened": opened})


class _Steps:
    """The steps of a rebuild, printed when they are done; with --json in one object at the end."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._done: list[str] = []

    def report(self, step: str) -> None:
        """Takes one step."""
        self._done.append(step)
        (self._out.note if self._out.json else self._out.line)(step)

    def finish(self, dry_run: bool) -> None:
        """Prints the JSON object."""
        self._out.record({"steps": self._done, "dry_run": dry_run})


def specs_of(names: list[str] | None) -> list[TopicSpec]:
    """The specifications of some topics, or of all. Raises OpsError for an unknown name."""
    known = {spec.name: spec for spec in ALL}
    if unknown := [name for name in names or () if name not in known]:
        raise cannot_run(f"no topic {', '.join(unknown)}: `groupbuy-ops topics list` has them all")
    return [known[name] for name in names] if names else list(ALL)


def _remove(address: str, without: list[str], reason: str, names: list[str], dry_run: bool, steps: _Steps) -> None:
    from ops.broker.copy.rebuild import remove_records
    from ops.broker.skip import record_skip

    known = {spec.name: spec for spec in ALL}
    if names:
        raise cannot_run("--without selects the topics: omit the arguments")
    if not reason.strip():
        raise cannot_run("--reason is empty: state why the record is foreign")
    places: dict[str, set[tuple[int, int]]] = {}
    for one in without:
        topic, _, rest = one.partition(":")
        partition, _, offset = rest.partition(":")
        if topic not in known or not partition.isdigit() or not offset.isdigit():
            raise cannot_run(f"{one!r} is not a record: --without takes TOPIC:PARTITION:OFFSET")
        places.setdefault(topic, set()).add((int(partition), int(offset)))

    async def run(topic: str) -> None:
        async def skip(number: int, partition: int, offset: int) -> None:
            await record_skip(address, number, topic, partition, offset, None, f"removed: {reason}")

        await remove_records(cluster(address), known[topic], places[topic], steps.report, skip, dry_run=dry_run)

    for topic in places:
        at_broker(address, partial(run, topic), watched=False)


@app.command("list")
def list_(json: Json = False) -> None:
    """Lists the topics: message, key, writer, readers, retention.

    Reads nothing: the list is part of the program.

    Changes nothing.

    Exit codes: 0 done, 2 cannot run.

    Example: groupbuy-ops topics list --json
    """
    out = Output(json)
    table = Table()
    for column in ("topic", "message", "key", "written by", "read by", "retention"):
        table.add_column(column, overflow="fold")
    for spec in ALL:
        retention = (
            "compacted"
            if spec.compacted
            else "unlimited"
            if spec.retention_ms < 0
            else f"{spec.retention_ms // DAY_MS} d"
        )
        message = spec.message.DESCRIPTOR.full_name if spec.message else "the raw bytes"
        table.add_row(spec.name, message, spec.key, spec.writer, Text("\n".join(spec.readers)), retention)
        out.record(
            {
                "topic": spec.name,
                "message": spec.message.DESCRIPTOR.full_name if spec.message else None,
                "key": spec.key,
                "writer": spec.writer,
                "readers": list(spec.readers),
                "compacted": spec.compacted,
                "retention_ms": None if spec.compacted or spec.retention_ms < 0 else spec.retention_ms,
            }
        )
    out.show(table)
