"""`topics`: makes the product's topics, compares a broker's with chassis/topics.py, lists them. Deletes none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

import typer
from aiokafka.errors import KafkaConnectionError, KafkaError
from rich.table import Table
from rich.text import Text

from chassis import registry
from chassis.topics import ALL
from eventlog.errors import TopicsDiffer
from eventlog.topics import DAY_MS, offsets_retention
from ops.console import console
from ops.errors import USAGE, OpsError
from ops.reader import no_broker
from ops.screen import echo
from ops.security import cluster
from ops.where import Kafka, broker
from ops.who import who

T = TypeVar("T")

#: Partitions of a new installation.
PARTITIONS = 64

app = typer.Typer(no_args_is_help=True, help="The product's topics at a broker.")


@app.command()
def create(
    kafka: Kafka = None,
    partitions: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            help=f"Of every topic, for ever: another number means new topics. Else as declared, or {PARTITIONS}.",
        ),
    ] = None,
    replication: Annotated[int, typer.Option(min=1, max=10, help="Copies of every record.")] = 3,
) -> None:
    """Makes what is missing, declares a first start (every reader begins at the beginning), and the partitions."""
    address = broker(kafka)

    async def run() -> list[str]:
        return await registry.create(
            cluster(address), partitions=partitions, otherwise=PARTITIONS, replication=replication, who=who()
        )

    made = at_broker(address, run)
    echo(f"made {', '.join(made)}" if made else "all topics were there already")


@app.command()
def check(kafka: Kafka = None) -> None:
    """Compares the broker's topics with the list, and how long it keeps committed offsets. Exit 1 where they differ."""
    address = broker(kafka)

    async def run() -> tuple[int, str]:
        number = await registry.check(cluster(address))
        return number, (await offsets_retention(cluster(address), ALL)).trouble

    number, trouble = at_broker(address, run)
    if trouble:
        raise OpsError(f"{address}: {trouble}")
    echo(f"{len(ALL)} topics of {number} partitions are as they should be")


@app.command()
def rebuild(
    names: Annotated[list[str] | None, typer.Argument(help="Topics; without any, all that need it.")] = None,
    kafka: Kafka = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
) -> None:
    """Gives topics their declared number of partitions back after one was added. Stop the services first.

    Copies each topic aside, makes it anew and copies it back, offsets and times included. Repeat an interrupted run.
    """
    from ops.rebuild import rebuild as run_rebuild

    address = broker(kafka)
    known = {spec.name: spec for spec in ALL}
    if unknown := [name for name in names or () if name not in known]:
        raise OpsError(f"no topic {', '.join(unknown)}: `groupbuy-ops topics list` has them all", USAGE)
    specs = [known[name] for name in names] if names else list(ALL)
    at_broker(address, lambda: run_rebuild(cluster(address), specs, typer.echo, dry_run=dry_run))


@app.command("list")
def list_() -> None:
    """The list: what each topic holds, who writes it, who reads it, how long it is kept."""
    table = Table()
    for column in ("topic", "message", "key", "written by", "read by", "kept"):
        table.add_column(column, overflow="fold")
    for spec in ALL:
        kept = (
            "compacted"
            if spec.compacted
            else "for ever"
            if spec.retention_ms < 0
            else f"{spec.retention_ms // DAY_MS} d"
        )
        message = spec.message.DESCRIPTOR.full_name if spec.message else "the raw bytes"
        table.add_row(spec.name, message, spec.key, spec.writer, Text("\n".join(spec.readers)), kept)
    console().print(table)


def at_broker(address: str, run: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What `run` returns; what goes wrong at the broker as OpsError."""
    try:
        return asyncio.run(run())
    except TopicsDiffer as error:
        raise OpsError(f"{address}: {error}") from error
    except KafkaConnectionError:
        raise no_broker(address) from None
    except TimeoutError:
        raise OpsError(f"the broker at {address} stopped answering: run it again", USAGE) from None
    except KafkaError as error:
        raise OpsError(f"the broker at {address} does not do it: {error!r}", 2) from error
