"""`topics`: makes the product's topics, compares a broker's with the registry, lists them. Never deletes any."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

import typer
from aiokafka.errors import KafkaConnectionError, KafkaError
from rich.table import Table

from chassis.topics import ALL
from eventlog import topics as registry
from eventlog.errors import TopicsDiffer
from eventlog.topics import DAY_MS
from ops.console import console
from ops.errors import OpsError
from ops.reader import no_broker
from ops.security import cluster
from ops.where import Kafka, broker

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, help="The product's topics at a broker.")


@app.command()
def create(
    kafka: Kafka = None,
    partitions: Annotated[
        int, typer.Option(min=1, max=10_000, help="Of every topic, for ever: another number means new topics.")
    ] = 64,
    replication: Annotated[int, typer.Option(min=1, max=10, help="Copies of every record.")] = 3,
) -> None:
    """Makes what is missing and declares a first start: every reader begins at the beginning."""
    address = broker(kafka)

    async def run() -> list[str]:
        return await registry.create(cluster(address), ALL, partitions=partitions, replication=replication)

    made = at_broker(address, run)
    typer.echo(f"made {', '.join(made)}" if made else "all topics were there already")


@app.command()
def check(kafka: Kafka = None) -> None:
    """Compares the broker's topics with the registry. Exit 1 where they differ."""
    address = broker(kafka)

    async def run() -> int:
        return await registry.check(cluster(address), ALL)

    typer.echo(f"{len(ALL)} topics of {at_broker(address, run)} partitions are as they should be")


@app.command("list")
def list_() -> None:
    """The registry: what each topic holds, who writes it, who reads it, how long it is kept."""
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
        table.add_row(spec.name, message, spec.key, spec.writer, "\n".join(spec.readers), kept)
    console().print(table)


def at_broker(address: str, run: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """What `run` returns; what goes wrong at the broker as OpsError."""
    try:
        return asyncio.run(run())
    except TopicsDiffer as error:
        raise OpsError(f"{address}: {error}") from error
    except KafkaConnectionError:
        raise no_broker(address) from None
    except KafkaError as error:
        raise OpsError(f"the broker at {address} does not do it: {error!r}", 2) from error
