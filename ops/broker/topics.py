"""`topics`: creates, checks, lists and rebuilds the product's topics, by the list in shared_kernel/topics.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Annotated, Any, TypeVar

import typer
from aiokafka.errors import KafkaConnectionError, KafkaError
from rich.table import Table
from rich.text import Text

from eventlog.broker.topic_checks import offsets_retention
from eventlog.core.errors import TopicsDiffer
from eventlog.records.topic_spec import DAY_MS
from ops.broker.log_creation import create_log
from ops.console import console
from ops.errors import USAGE, OpsError
from ops.log.reader import no_broker
from ops.printing import echo
from ops.security import cluster
from ops.where import Kafka, broker
from ops.who import who
from shared_kernel import log_registry
from shared_kernel.topics import ALL, CAMPAIGNS, REGISTRY

T = TypeVar("T")

#: The default number of partitions.
PARTITIONS = 64

app = typer.Typer(no_args_is_help=True, help="Creates, checks, lists and rebuilds the product's topics.")


@app.command()
def create(
    kafka: Kafka = None,
    partitions: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            help=f"Partitions of every topic; fixed for ever. Default: the declared number, else {PARTITIONS}.",
        ),
    ] = None,
    replication: Annotated[int, typer.Option(min=1, max=10, help="Replication factor.")] = 3,
) -> None:
    """Creates missing topics, commits offset 0 for their readers, and declares the number of partitions."""
    address = broker(kafka)

    async def run() -> list[str]:
        return await create_log(
            cluster(address), partitions=partitions, default=PARTITIONS, replication=replication, who=who()
        )

    created = at_broker(address, run)
    echo(f"created {', '.join(created)}" if created else "all topics exist")


@app.command()
def check(kafka: Kafka = None) -> None:
    """Checks the broker's topics, their settings and the retention of offsets. Exits with 1 at a difference."""
    address = broker(kafka)

    async def run() -> tuple[int, str]:
        number = await log_registry.check(cluster(address))
        return number, (await offsets_retention(cluster(address), ALL)).problem

    number, problem = at_broker(address, run)
    if problem:
        raise OpsError(f"{address}: {problem}")
    if foreign := at_broker(address, lambda: _foreign(address)):
        raise OpsError(f"{address}: records that no service of ours writes:", lines=foreign)
    echo(f"{len(ALL)} topics of {number} partitions are correct")


async def _foreign(address: str) -> list[str]:
    """Findings in the topics that every process reads in full: campaigns and the log's registry."""
    from ops.log.verify import verify_topics

    found: list[str] = []
    await verify_topics(address, [CAMPAIGNS, REGISTRY], lambda one: found.append(f"{one.place} {one.kind}: {one.what}"))
    return found


@app.command()
def rebuild(
    names: Annotated[list[str] | None, typer.Argument(help="Topics. Default: all that need it.")] = None,
    kafka: Kafka = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done.")] = False,
    without: Annotated[
        list[str] | None, typer.Option("--without", help="TOPIC:PARTITION:OFFSET of a record to remove. Repeatable.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="With --without: why the record is foreign.")] = "",
) -> None:
    """Rebuilds topics with their declared number of partitions, or without a foreign record.

    Copies each topic aside, recreates it and copies it back with offsets and times. Stop the services first. Repeat an
    interrupted run. A removed record leaves a placeholder, which all readers skip.
    """
    from ops.broker.rebuild import rebuild as run_rebuild

    address = broker(kafka)
    known = {spec.name: spec for spec in ALL}
    if without:
        _remove(address, without, reason, names or [], dry_run)
        return
    if unknown := [name for name in names or () if name not in known]:
        raise OpsError(f"no topic {', '.join(unknown)}: `groupbuy-ops topics list` has them all", USAGE)
    specs = [known[name] for name in names] if names else list(ALL)
    at_broker(address, lambda: run_rebuild(cluster(address), specs, typer.echo, dry_run=dry_run))


def _remove(address: str, without: list[str], reason: str, names: list[str], dry_run: bool) -> None:
    from ops.broker.rebuild import remove_records
    from ops.broker.skip import record_skip

    known = {spec.name: spec for spec in ALL}
    if names:
        raise OpsError("--without selects the topics: omit the arguments", USAGE)
    if not reason.strip():
        raise OpsError("--reason is empty: state why the record is foreign", USAGE)
    places: dict[str, set[tuple[int, int]]] = {}
    for one in without:
        topic, _, rest = one.partition(":")
        partition, _, offset = rest.partition(":")
        if topic not in known or not partition.isdigit() or not offset.isdigit():
            raise OpsError(f"{one!r} is not a record: --without takes TOPIC:PARTITION:OFFSET", USAGE)
        places.setdefault(topic, set()).add((int(partition), int(offset)))

    async def run(topic: str) -> None:
        async def skip(number: int, partition: int, offset: int) -> None:
            await record_skip(address, number, topic, partition, offset, None, f"removed: {reason}")

        await remove_records(cluster(address), known[topic], places[topic], echo, skip, dry_run=dry_run)

    for topic in places:
        at_broker(address, partial(run, topic))


@app.command("list")
def list_() -> None:
    """Lists the topics: message, key, writer, readers, retention."""
    table = Table()
    for column in ("topic", "message", "key", "written by", "read by", "retention"):
        table.add_column(column, overflow="fold")
    for spec in ALL:
        retention = (
            "compacted"
            if spec.compacted
            else "for ever"
            if spec.retention_ms < 0
            else f"{spec.retention_ms // DAY_MS} d"
        )
        message = spec.message.DESCRIPTOR.full_name if spec.message else "the raw bytes"
        table.add_row(spec.name, message, spec.key, spec.writer, Text("\n".join(spec.readers)), retention)
    console().print(table)


def at_broker(address: str, run: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs a coroutine and returns its result. Turns errors of the broker into OpsError."""
    try:
        return asyncio.run(run())
    except TopicsDiffer as error:
        raise OpsError(f"{address}: {error}") from error
    except KafkaConnectionError:
        raise no_broker(address) from None
    except TimeoutError:
        raise OpsError(f"the broker at {address} stopped answering: run it again", USAGE) from None
    except KafkaError as error:
        raise OpsError(f"the broker at {address} refused: {error!r}", 2) from error
